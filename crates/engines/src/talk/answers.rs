//! How the answer of people reaches the driver that waits for it: a sealed file in the engine's home.
//!
//! The home is the only place of an attempt that its tree can see, and its tools can write there as well. So the file is
//! sealed with a key that only the worker and the driver know: it comes from the attempt's nonce, and the driver removes
//! the script that it read it from before the engine runs. A file without the seal, or about another question, is none.

use host::fs::Beneath;
use host::path::RelPath;
use host::signature;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::time::Duration;

const DIR: &str = "answers";
const MAX_FILE: u64 = 16 * 1024;
/// How much longer than its question a driver waits: the ledger's clock is what counts.
const MARGIN: Duration = Duration::from_secs(120);

/// What a driver needs to know in order to ask people.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asking {
    key: String,
    /// After which it answers with no by itself.
    limit_ms: u64,
}

/// What people said to a question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    pub question: String,
    /// The question's own digest, so that no other one of the same number is answered.
    pub asked: String,
    pub allowed: bool,
    /// Who said so, or why nobody did.
    pub by: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sealed {
    answer: Answer,
    seal: String,
}

impl Asking {
    /// For the attempt with this nonce, whose questions wait this long.
    pub fn new(nonce: &str, limit: Duration) -> Self {
        let key = signature::hmac_sha256_hex(nonce.as_bytes(), &[b"pilothouse answers\0"]);
        Self { key, limit_ms: crate::spec::millis(limit) }
    }

    pub(crate) fn patience(&self) -> Duration {
        Duration::from_millis(self.limit_ms) + MARGIN
    }

    fn seal(&self, answer: &Answer) -> Option<String> {
        let text = serde_json::to_vec(answer).ok()?;
        Some(signature::hmac_sha256_hex(self.key.as_bytes(), &[&text]))
    }

    /// Lays an answer where the driver looks for it. What the tree may have planted there leads nowhere else.
    pub fn write(&self, home: &Path, answer: &Answer) -> Result<(), String> {
        let seal = self.seal(answer).ok_or("an answer that is no document")?;
        let sealed = Sealed { answer: answer.clone(), seal };
        let text = serde_json::to_vec(&sealed).map_err(|error| error.to_string())?;
        let path = place(&answer.question).ok_or("a question whose number is none")?;
        let beneath = Beneath::open(home).map_err(|error| error.to_string())?;
        beneath.write_with_mode(&path, &text, Some(0o600)).map_err(|error| error.to_string())
    }

    /// The answer to a question, once it is there.
    pub(crate) fn read(&self, home: &Path, question: &str, asked: &str) -> Option<Answer> {
        let bytes = Beneath::open(home).ok()?.read(&place(question)?, MAX_FILE).ok()?;
        let Sealed { answer, seal } = serde_json::from_slice(&bytes).ok()?;
        let wanted = self.seal(&answer)?;
        let genuine = host::hash::constant_time_eq(wanted.as_bytes(), seal.as_bytes());
        (genuine && answer.question == question && answer.asked == asked).then_some(answer)
    }
}

impl std::fmt::Debug for Asking {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Asking").field("limit_ms", &self.limit_ms).finish_non_exhaustive()
    }
}

/// Where an answer lies; `None` for what no driver ever drew as a number.
fn place(question: &str) -> Option<RelPath> {
    let drawn = !question.is_empty() && question.len() <= 64 && question.chars().all(|c| c.is_ascii_alphanumeric());
    drawn.then(|| RelPath::parse(&format!("{DIR}/{question}.json")).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn yes() -> Answer {
        Answer { question: "q1".into(), asked: "d1".into(), allowed: true, by: "alice".into() }
    }

    #[test]
    fn an_answer_reaches_only_the_question_that_it_is_about() {
        let home = tempfile::tempdir().unwrap();
        let asking = Asking::new("nonce", Duration::from_secs(1));
        asking.write(home.path(), &yes()).unwrap();

        assert_eq!(asking.read(home.path(), "q1", "d1"), Some(yes()));
        assert_eq!(asking.read(home.path(), "q1", "d2"), None);
        assert_eq!(asking.read(home.path(), "q2", "d1"), None);
        assert_eq!(Asking::new("other", Duration::from_secs(1)).read(home.path(), "q1", "d1"), None);
    }

    #[test]
    fn what_a_tool_lays_there_itself_is_no_answer() {
        let home = tempfile::tempdir().unwrap();
        let asking = Asking::new("nonce", Duration::from_secs(1));
        let no = Answer { allowed: false, ..yes() };
        asking.write(home.path(), &no).unwrap();
        let file = home.path().join("answers/q1.json");
        let text = std::fs::read_to_string(&file).unwrap();

        for forged in [text.replace("false", "true"), "{}".into(), String::new(), "[".repeat(100_000)] {
            std::fs::write(&file, forged).unwrap();
            assert_eq!(asking.read(home.path(), "q1", "d1"), None);
        }
    }

    #[test]
    fn a_planted_link_leads_an_answer_nowhere_else() {
        let (home, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::os::unix::fs::symlink(elsewhere.path(), home.path().join("answers")).unwrap();

        assert!(Asking::new("nonce", Duration::from_secs(1)).write(home.path(), &yes()).is_err());
        assert_eq!(std::fs::read_dir(elsewhere.path()).unwrap().count(), 0);
        let upwards = Answer { question: "../q".into(), ..yes() };
        assert!(Asking::new("nonce", Duration::from_secs(1)).write(home.path(), &upwards).is_err());
    }
}
