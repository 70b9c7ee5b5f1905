//! What the commands of an attempt said that all passed, kept for whoever takes over the review behind them.
//!
//! The file lies where an engine without a sandbox could write, so that it carries a seal of the attempt's nonce. Whatever
//! is wrong with it, it is as if it were not there: then the commands are run again.

use std::path::Path;

use domain::protocol::Finding;
use serde::{Deserialize, Serialize};

use crate::failure::Failure;

const FILE: &str = "checks.json";
const MAX_FILE: u64 = 4 << 20;

#[derive(Serialize, Deserialize)]
struct Passed {
    /// The commit that was judged.
    commit: String,
    findings: Vec<Finding>,
}

/// Keeps what was found of a commit, as a whole or not at all.
pub(crate) fn write(dir: &Path, nonce: &str, commit: &str, findings: &[Finding]) -> Result<(), Failure> {
    let passed = Passed { commit: commit.to_owned(), findings: findings.to_vec() };
    let text = serde_json::to_string(&passed).map_err(Failure::give_up)?;
    host::fs::create_private_dir(dir).map_err(Failure::retry)?;
    let sealed = format!("{}\n{text}", seal(nonce, &text));
    host::fs::write_atomic(&dir.join(FILE), sealed.as_bytes()).map_err(Failure::retry)
}

/// What was found of this commit, if it was kept.
pub(crate) fn read(dir: &Path, nonce: &str, commit: &str) -> Option<Vec<Finding>> {
    let sealed = host::fs::read_text(&dir.join(FILE), MAX_FILE).ok()?;
    let (known, text) = sealed.split_once('\n')?;
    if !host::hash::constant_time_eq(seal(nonce, text).as_bytes(), known.as_bytes()) {
        return None;
    }
    let passed: Passed = serde_json::from_str(text).ok()?;
    (passed.commit == commit).then_some(passed.findings)
}

fn seal(nonce: &str, text: &str) -> String {
    host::signature::hmac_sha256_hex(nonce.as_bytes(), &[b"pilothouse checks\0", text.as_bytes()])
}

#[cfg(test)]
mod tests {
    use domain::protocol::QaVerdict;

    use super::*;

    #[test]
    fn only_what_was_kept_of_the_same_commit_is_believed() {
        let place = tempfile::tempdir().unwrap();
        let dir = place.path().join("attempt");
        let finding = Finding {
            check: "sh test.sh".to_owned(),
            verdict: QaVerdict::Pass,
            exit_code: Some(0),
            detail: "one\ntwo".to_owned(),
            duration_ms: 7,
        };
        assert_eq!(read(&dir, "nonce", "c1"), None);

        write(&dir, "nonce", "c1", std::slice::from_ref(&finding)).unwrap();

        assert_eq!(read(&dir, "nonce", "c1"), Some(vec![finding]));
        assert_eq!((read(&dir, "nonce", "c2"), read(&dir, "other", "c1")), (None, None));
        let file = dir.join(FILE);
        let text = std::fs::read_to_string(&file).unwrap();
        for damaged in [text.replace("two", "too"), text[..text.len() - 3].to_owned(), "{}".to_owned(), String::new()] {
            std::fs::write(&file, damaged).unwrap();
            assert_eq!(read(&dir, "nonce", "c1"), None);
        }
    }
}
