//! The text of what an attempt changed, kept beside what it printed.
//!
//! It is for people: nothing is ever applied from it, and the commit is the truth. The worker writes it before it hands
//! its commit in; it goes when the attempt's output goes.

use std::path::Path;

use domain::ids::AttemptId;
use host::{
    fs::{Beneath, FsError},
    path::RelPath,
};

const FILE: &str = "changes.patch";
/// How much of a patch is kept.
pub const MAX_BYTES: usize = 1 << 20;
/// Cleaning can make three bytes of one.
const MAX_FILE: u64 = 4 * MAX_BYTES as u64;
/// How the last line of a patch begins that goes on where nothing is kept. No line of a patch itself begins like this.
const CUT: &str = "[truncated: ";

/// A patch as git prints it, without what would steer a terminal.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Patch {
    /// Ends with a line that says so when it was cut off.
    pub text: String,
    pub truncated: bool,
}

impl Patch {
    /// Of what git printed, as far as it was read; when that is not all of it, the text ends with its last whole line.
    pub fn of_git(printed: &str, truncated: bool) -> Self {
        if !truncated {
            return Self { text: host::text::clean(printed), truncated };
        }
        let whole = printed.rfind('\n').map_or("", |end| &printed[..=end]);
        let mut text = host::text::clean(whole);
        text.push_str(&format!("{CUT}the patch is longer than the {MAX_BYTES} bytes that are kept]\n"));
        Self { text, truncated }
    }

    /// Keeps it in the attempt's directory; doing so again is fine.
    pub fn write(&self, attempt_dir: &Path) -> Result<(), FsError> {
        host::fs::write_atomic(&attempt_dir.join(FILE), self.text.as_bytes())
    }

    /// The patch that an attempt of this machine left; `None` when there is none, or none any more.
    pub fn read(attempts_dir: &Path, attempt: &AttemptId) -> Result<Option<Self>, FsError> {
        // Ids of attempts have only letters, digits and dashes.
        let Ok(path) = RelPath::parse(&format!("{attempt}/{FILE}")) else { return Ok(None) };
        let read = Beneath::open(attempts_dir).and_then(|root| root.read(&path, MAX_FILE));
        match read {
            Ok(bytes) => {
                let text = String::from_utf8_lossy(&bytes).into_owned();
                let truncated = text.lines().next_back().is_some_and(|last| last.starts_with(CUT));
                Ok(Some(Self { text, truncated }))
            }
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_is_read_as_it_was_written_and_says_whether_it_was_cut_off() {
        let dir = tempfile::tempdir().unwrap();
        let attempt = AttemptId::from("step-1-1");
        host::fs::create_private_dir(&dir.path().join("step-1-1")).unwrap();
        assert_eq!(Patch::read(dir.path(), &attempt).unwrap(), None);
        for (printed, truncated) in [("", false), ("+[truncated: not really]\n", false), ("+one\n+tw", true)] {
            let patch = Patch::of_git(printed, truncated);

            patch.write(&dir.path().join("step-1-1")).unwrap();

            assert_eq!(Patch::read(dir.path(), &attempt).unwrap(), Some(patch.clone()));
            assert_eq!(patch.truncated, truncated);
            assert!(!patch.text.contains("+tw"));
        }
        assert_eq!(Patch::read(&dir.path().join("none"), &attempt).unwrap(), None);
    }

    #[test]
    fn what_steers_a_terminal_is_not_kept() {
        assert_eq!(Patch::of_git("+\u{1b}[31mred\u{202e}\n", false).text, "+red\n");
    }
}
