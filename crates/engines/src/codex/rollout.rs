//! What a thread of Codex has used in all, from the file that it keeps of it: the stream does not say so when a turn
//! failed or was killed.

use super::usage_of;
use crate::engine::{Fields, SessionFiles, Usage};
use serde_json::Value;
use std::path::Path;

/// How much of the end of the file is looked at; counts come after every call.
const TAIL: usize = 8 << 20;
/// More directories than a thread can lie in.
const MAX_DIRS: usize = 200;

/// What the thread has used, `None` where no file says so.
pub(crate) fn total(codex_home: &Path, thread: &str) -> Option<Usage> {
    let found = SessionFiles::of(codex_home)?;
    let file = find(&found, thread)?;
    let (_, length) = found.read(&file, 0, 0);
    let (bytes, _) = found.read(&file, length.saturating_sub(TAIL as u64), TAIL);
    last_count(&bytes)
}

/// The last count in (the end of) such a file.
pub(crate) fn last_count(bytes: &[u8]) -> Option<Usage> {
    String::from_utf8_lossy(bytes).lines().rev().find_map(count_of)
}

fn count_of(line: &str) -> Option<Usage> {
    // Most lines are no counts, and some are long.
    if !line.contains("token_count") {
        return None;
    }
    let event = serde_json::from_str::<Value>(line).ok()?;
    let payload = event.get("payload")?;
    if payload.text("type") != Some("token_count") {
        return None;
    }
    let usage = usage_of(payload.get("info")?.get("total_token_usage")?);
    usage.is_known().then_some(usage)
}

/// `sessions/YYYY/MM/DD/rollout-<time>-<thread>.jsonl`
fn find(found: &SessionFiles, thread: &str) -> Option<String> {
    let ending = format!("-{thread}.jsonl");
    let mut dirs = vec![("sessions".to_owned(), 0)];
    let mut n_dirs = 0;
    while let Some((dir, depth)) = dirs.pop() {
        n_dirs += 1;
        if n_dirs > MAX_DIRS {
            return None;
        }
        for (name, is_dir) in found.names(&dir) {
            if is_dir && depth < 3 {
                dirs.push((format!("{dir}/{name}"), depth + 1));
            } else if !is_dir && depth == 3 && name.starts_with("rollout-") && name.ends_with(&ending) {
                return Some(format!("{dir}/{name}"));
            }
        }
    }
    None
}
