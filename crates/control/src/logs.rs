//! What attempts printed, as far as it lies on this machine.

use std::path::Path;

use domain::ids::AttemptId;

use crate::Control;

/// The end of a log is looked for within this many bytes.
const TAIL: u64 = 64 * 1024;

impl Control {
    /// The last lines an attempt printed, safe to show; `None` when its log lies elsewhere or is gone.
    pub(crate) fn log_tail(&self, attempt: &AttemptId, lines: usize) -> Option<String> {
        let dir = self.attempts_dir.as_deref()?.join(attempt.as_str());
        let bytes = ["output", "stdout"].iter().find_map(|name| tail(&dir.join(name)))?;
        let text = host::text::clean(bytes);
        let all: Vec<&str> = text.lines().collect();
        Some(all[all.len().saturating_sub(lines)..].join("\n"))
    }
}

fn tail(path: &Path) -> Option<Vec<u8>> {
    let (_, length) = host::fs::read_at(path, 0, 0).ok()?;
    let start = length.saturating_sub(TAIL);
    host::fs::read_at(path, start, usize::try_from(TAIL).ok()?).ok().map(|(bytes, _)| bytes)
}
