//! What a session of Claude Code has used, from the files that it keeps of it.

use super::result::usage_of;
use crate::engine::{Fields, SessionFiles, Usage};
use serde_json::Value;
use std::path::Path;

const PROJECTS: &str = ".claude/projects";

/// What the session has used, `None` where no file says so.
pub(crate) fn total(home: &Path, session: &str) -> Option<Usage> {
    let found = SessionFiles::of(home)?;
    found.total(&files(&found, session), count_of)
}

/// `projects/CHECKOUT/SESSION.jsonl`, and beside it those of the agents that it started.
fn files(found: &SessionFiles, session: &str) -> Vec<String> {
    let mut files = Vec::new();
    for (name, _) in found.names(PROJECTS).into_iter().filter(|(_, is_dir)| *is_dir) {
        let project = format!("{PROJECTS}/{name}");
        let agents = format!("{project}/{session}/subagents");
        files.push(format!("{project}/{session}.jsonl"));
        files.extend(found.names(&agents).into_iter().map(|(name, _)| format!("{agents}/{name}")));
    }
    files
}

/// A message is written once for each of its parts, and what it used stands in all of them.
pub(crate) fn count_of(line: &str) -> Option<(String, Usage)> {
    // Most lines are something else, and some are long.
    if !line.contains("output_tokens") {
        return None;
    }
    let event = serde_json::from_str::<Value>(line).ok()?;
    let message = event.get("message").filter(|_| event.text("type") == Some("assistant"))?;
    let usage = usage_of(message.get("usage")?);
    Some((message.text("id")?.to_owned(), usage)).filter(|_| usage.is_known())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_session_and_its_agents_are_added_up() {
        let home = tempfile::tempdir().unwrap();
        let project = home.path().join(".claude/projects/-work");
        std::fs::create_dir_all(project.join("s-1/subagents")).unwrap();
        let said = |id: &str, output: u64| {
            let usage = json!({"input_tokens": 200, "cache_creation_input_tokens": 5, "cache_read_input_tokens": 1000,
                "output_tokens": output});
            json!({"type": "assistant", "message": {"id": id, "usage": usage}}).to_string() + "\n"
        };
        let user = json!({"type": "user", "message": {"content": "output_tokens"}}).to_string() + "\n";
        std::fs::write(project.join("s-1.jsonl"), user + &said("m1", 1) + &said("m1", 34) + &said("m2", 6)).unwrap();
        std::fs::write(project.join("s-1/subagents/agent-a.jsonl"), said("m3", 2)).unwrap();
        std::fs::write(project.join("s-2.jsonl"), said("m4", 1000)).unwrap();

        let expected = Usage {
            input_tokens: Some(3615),
            cached_tokens: Some(3000),
            cache_write_tokens: Some(15),
            output_tokens: Some(42),
            ..Usage::default()
        };
        assert_eq!(total(home.path(), "s-1"), Some(expected));
        assert_eq!((total(home.path(), "s-3"), total(Path::new("/nowhere"), "s-1")), (None, None));
    }
}
