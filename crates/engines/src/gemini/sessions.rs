//! What a session of Gemini CLI has used, from the files that it keeps of it.

use crate::engine::{Fields, SessionFiles, Usage};
use serde_json::Value;
use std::path::Path;

const CHECKOUTS: &str = ".gemini/tmp";
/// The first line says whose file it is.
const HEAD: usize = 4096;

/// What the session has used, `None` where no file says so.
pub(crate) fn total(home: &Path, session: &str) -> Option<Usage> {
    let found = SessionFiles::of(home)?;
    found.total(&files(&found, session), count_of)
}

/// `tmp/CHECKOUT/chats/session-TIME-….jsonl`, those that say that they are this session's.
fn files(found: &SessionFiles, session: &str) -> Vec<String> {
    let chats = found.names(CHECKOUTS).into_iter().map(|(name, _)| format!("{CHECKOUTS}/{name}/chats"));
    let all = chats.flat_map(|chats| found.names(&chats).into_iter().map(move |(name, _)| format!("{chats}/{name}")));
    let is_its = |file: &String| {
        let (head, _) = found.read(file, 0, HEAD);
        let first = head.split(|&byte| byte == b'\n').next().unwrap_or_default();
        serde_json::from_slice::<Value>(first).is_ok_and(|first| first.text("sessionId") == Some(session))
    };
    all.filter(is_its).collect()
}

/// A message is written again whenever something is added to it.
pub(crate) fn count_of(line: &str) -> Option<(String, Usage)> {
    if !line.contains("\"tokens\"") {
        return None;
    }
    let message = serde_json::from_str::<Value>(line).ok()?;
    let tokens = message.get("tokens").filter(|_| message.text("type") == Some("gemini"))?;
    let usage = Usage {
        input_tokens: tokens.count("input"),
        cached_tokens: tokens.count("cached"),
        output_tokens: tokens.count("output"),
        ..Usage::default()
    };
    Some((message.text("id")?.to_owned(), usage)).filter(|_| usage.is_known())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_files_of_a_session_are_added_up_and_those_of_others_are_not() {
        let home = tempfile::tempdir().unwrap();
        let chats = home.path().join(".gemini/tmp/work/chats");
        std::fs::create_dir_all(&chats).unwrap();
        let write = |name: &str, session: &str, messages: &[(&str, u64)]| {
            let head = json!({"sessionId": session, "kind": "main"});
            let lines = messages.iter().map(|(id, input)| {
                json!({"id": id, "type": "gemini", "tokens": {"input": input, "output": 3, "cached": 1, "thoughts": 9}})
            });
            let text: String = std::iter::once(head).chain(lines).map(|line| format!("{line}\n")).collect();
            std::fs::write(chats.join(name), text).unwrap();
        };
        write("session-1.jsonl", "s-1", &[("a", 10), ("a", 10), ("b", 20)]);
        // Gone on with: what was said before is there again.
        write("session-2.jsonl", "s-1", &[("b", 20), ("c", 5)]);
        write("session-3.jsonl", "s-2", &[("d", 1000)]);

        let used = total(home.path(), "s-1").unwrap();
        assert_eq!((used.input_tokens, used.output_tokens, used.cached_tokens), (Some(35), Some(9), Some(3)));
        assert_eq!(total(home.path(), "s-3"), None);
    }
}
