//! What a session has used, added up from the file that an engine keeps of it: after a kill the stream never says so.
//!
//! Such a file says of each message of the model what it used, some several times over. It lies where the engine's tools
//! can write, so it is read with bounds, and what it says is only ever added to what was told.

use super::event::Usage;
use super::meter::Meter;
use host::fs::{Beneath, Kind};
use host::path::RelPath;
use std::collections::HashMap;
use std::path::Path;

const PIECE: usize = 1 << 20;
/// Longer lines hold no counts that we want; they are passed over.
const MAX_LINE: usize = 4 << 20;
/// What is read of all files of a session, and how many messages are told apart.
const MAX_BYTES: u64 = 256 << 20;
const MAX_MESSAGES: usize = 100_000;
/// More than any directory of sessions holds in a home of ours.
const MAX_ENTRIES: usize = 1000;

/// An engine's home. What its tools left there is no link that is followed, and no pipe that is waited for.
#[derive(Debug)]
pub(crate) struct SessionFiles {
    home: Beneath,
}

impl SessionFiles {
    pub(crate) fn of(home: &Path) -> Option<Self> {
        Some(Self { home: Beneath::open(home).ok()? })
    }

    /// The names in a directory of the home, with whether each is a directory.
    pub(crate) fn names(&self, dir: &str) -> Vec<(String, bool)> {
        let listed = RelPath::parse(dir).ok().and_then(|dir| self.home.list(Some(&dir), MAX_ENTRIES).ok());
        let named = listed.unwrap_or_default().into_iter().filter(|entry| entry.kind != Kind::Other);
        named.map(|entry| (entry.name, entry.kind == Kind::Directory)).collect()
    }

    /// A part of a file; empty where there is none.
    pub(crate) fn read(&self, file: &str, offset: u64, limit: usize) -> (Vec<u8>, u64) {
        let read = RelPath::parse(file).ok().and_then(|file| self.home.read_at(&file, offset, limit).ok());
        read.unwrap_or_default()
    }

    /// Adds up what the lines of these files say of each message; `None` where no line says anything. `count` gives a
    /// message's name and what it used; what is said last of a message counts.
    pub(crate) fn total(&self, files: &[String], count: impl Fn(&str) -> Option<(String, Usage)>) -> Option<Usage> {
        let mut messages: HashMap<String, Usage> = HashMap::new();
        let mut left = MAX_BYTES;
        for file in files {
            let (mut offset, mut line) = (0, Vec::new());
            while left > 0 {
                let (bytes, _) = self.read(file, offset, PIECE);
                if bytes.is_empty() {
                    break;
                }
                offset += bytes.len() as u64;
                left = left.saturating_sub(bytes.len() as u64);
                for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
                    if line.len() <= MAX_LINE {
                        line.extend_from_slice(piece);
                    }
                    if !piece.ends_with(b"\n") {
                        continue;
                    }
                    let whole = std::mem::take(&mut line);
                    // One that was cut off has no end that could be read.
                    if let Some((name, usage)) = count(&String::from_utf8_lossy(&whole))
                        && (messages.len() < MAX_MESSAGES || messages.contains_key(&name))
                    {
                        messages.insert(name, usage);
                    }
                }
            }
        }
        let mut sum = Meter::default();
        messages.into_values().for_each(|usage| sum.add(usage));
        sum.total().is_known().then(|| sum.total())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_message_counts_once_with_its_last_word() {
        let home = tempfile::tempdir().unwrap();
        let sessions = home.path().join("sessions");
        std::fs::create_dir(&sessions).unwrap();
        let long = "x".repeat(MAX_LINE + PIECE);
        std::fs::write(sessions.join("session"), format!("a 1\nb 2\n{long}\nnothing\na 10\nc 4")).unwrap();
        std::os::unix::fs::symlink("session", sessions.join("link")).unwrap();
        let pipe = host::process::Command::new("/usr/bin/mkfifo").arg(sessions.join("pipe"));
        assert!(host::process::run(pipe).await.unwrap().status.success());
        let count = |line: &str| {
            let (name, tokens) = line.trim().split_once(' ')?;
            Some((name.to_owned(), Usage { input_tokens: tokens.parse().ok(), ..Usage::default() }))
        };
        let files = SessionFiles::of(home.path()).unwrap();
        let total = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| format!("sessions/{name}")).collect();
            files.total(&names, count).and_then(|usage| usage.input_tokens)
        };
        // The last line is not whole: whoever wrote it was killed.
        assert_eq!(total(&["session"]), Some(12));
        assert_eq!(total(&["session", "session"]), Some(12));
        // Nothing is waited for, and nothing is followed.
        assert_eq!(
            (total(&["missing"]), total(&["pipe"]), total(&["link"]), total(&["../x"])),
            (None, None, None, None)
        );
        assert_eq!(files.names("sessions"), [("session".to_owned(), false)]);
    }
}
