//! What was used over the wire, written down call by call beside the attempt's output, each line sealed.
//!
//! A call is written down before it goes out and again when its answer has ended, so that a broker that dies in between
//! leaves a call of which nothing is known rather than none. The file is the attempt's: every run adds to it.

use super::Limits;
use crate::engine::Usage;
use host::fs::FsError;
use host::signature;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

/// The file's name in the attempt's directory.
pub const FILE: &str = "wire.log";
const MAX_FILE: u64 = 64 << 20;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Entry {
    /// A call went out.
    Began { call: u64 },
    /// Its answer ended. `usage` is absent when the answer did not say, `weight` is what it counts for all the same.
    Ended { call: u64, status: u16, usage: Option<Usage>, weight: u64 },
    /// A call was not let out, because the limits were reached.
    Refused,
}

/// What was used over the wire in all runs of an attempt.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wire {
    pub usage: Usage,
    /// Calls that a model answered.
    pub n_calls: u32,
    /// Calls of which it is not known what they used.
    pub n_unmetered: u32,
    /// Calls that were not let out because a limit was reached.
    pub n_refused: u32,
}

/// The same with what is needed to go on.
#[derive(Debug, Clone, Default)]
struct Sum {
    wire: Wire,
    open: Vec<u64>,
    n_lines: u64,
    next_call: u64,
    /// Tokens as far as they are known, and weights where they are not.
    tokens: u64,
}

/// The books of one attempt, open for writing.
#[derive(Debug)]
pub(super) struct Books {
    file: File,
    nonce: String,
    sum: Sum,
}

/// What was used over the wire; `None` when no broker stood in between.
pub fn read(dir: &Path, nonce: &str) -> Result<Option<Wire>, FsError> {
    match host::fs::read(&dir.join(FILE), MAX_FILE) {
        Ok(bytes) => Ok(Some(Sum::of(&bytes, nonce).closed())),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

impl Books {
    /// Opens the books in a directory, with what earlier runs wrote there.
    pub(super) fn open(dir: &Path, nonce: &str) -> io::Result<Self> {
        let path = dir.join(FILE);
        let written = match host::fs::read(&path, MAX_FILE) {
            Err(error) if !error.is_not_found() => return Err(io::Error::other(error)),
            written => written.unwrap_or_default(),
        };
        let mut file = host::fs::open_append(&path).map_err(io::Error::other)?;
        if !written.is_empty() && !written.ends_with(b"\n") {
            // Cut off in the middle of a line, which then is one without a seal.
            file.write_all(b"\n")?;
        }
        let mut sum = Sum::of(&written, nonce);
        // What an earlier broker left open nobody will close.
        sum.wire.n_unmetered = sum.closed().n_unmetered;
        sum.open.clear();
        Ok(Self { file, nonce: nonce.to_owned(), sum })
    }

    /// Why nothing more may go out, if that is so.
    pub(super) fn limit_reached(&self, limits: &Limits) -> Option<String> {
        let used = self.sum.tokens;
        limits.tokens.filter(|most| used >= *most).map(|most| format!("{used} of {most} tokens"))
    }

    pub(super) fn begin(&mut self) -> io::Result<u64> {
        let call = self.sum.next_call;
        self.write(&Entry::Began { call })?;
        Ok(call)
    }

    pub(super) fn end(&mut self, call: u64, status: u16, usage: Option<Usage>, weight: u64) -> io::Result<()> {
        self.write(&Entry::Ended { call, status, usage, weight })
    }

    pub(super) fn refuse(&mut self) -> io::Result<()> {
        self.write(&Entry::Refused)
    }

    fn write(&mut self, entry: &Entry) -> io::Result<()> {
        let text = serde_json::to_string(entry).map_err(io::Error::other)?;
        let line = format!("{} {text}\n", seal(&self.nonce, self.sum.n_lines, &text));
        self.file.write_all(line.as_bytes())?;
        self.sum.take(entry);
        self.sum.n_lines += 1;
        Ok(())
    }
}

impl Sum {
    fn of(bytes: &[u8], nonce: &str) -> Self {
        let mut sum = Self::default();
        for line in bytes.split_inclusive(|&byte| byte == b'\n') {
            let entry = std::str::from_utf8(line).ok().and_then(|line| {
                let (given, text) = line.strip_suffix('\n')?.split_once(' ')?;
                let own = seal(nonce, sum.n_lines, text);
                host::hash::constant_time_eq(own.as_bytes(), given.as_bytes()).then_some(text)
            });
            match entry.and_then(|text| serde_json::from_str(text).ok()) {
                Some(entry) => sum.take(&entry),
                // Cut off, or somebody else's: of one call nothing is known.
                None => sum.wire.n_unmetered = sum.wire.n_unmetered.saturating_add(1),
            }
            sum.n_lines += 1;
        }
        sum
    }

    fn take(&mut self, entry: &Entry) {
        match entry {
            Entry::Began { call } => {
                self.open.push(*call);
                self.next_call = self.next_call.max(call.saturating_add(1));
            }
            Entry::Ended { call, status, usage, weight } => {
                self.open.retain(|open| open != call);
                if !(200..300).contains(status) {
                    return;
                }
                self.wire.n_calls = self.wire.n_calls.saturating_add(1);
                match usage {
                    Some(usage) => {
                        self.wire.usage.add(usage);
                        let tokens = [usage.input_tokens, usage.output_tokens].into_iter().flatten();
                        self.tokens = tokens.fold(self.tokens, u64::saturating_add);
                    }
                    None => {
                        self.wire.n_unmetered = self.wire.n_unmetered.saturating_add(1);
                        self.tokens = self.tokens.saturating_add(*weight);
                    }
                }
            }
            Entry::Refused => self.wire.n_refused = self.wire.n_refused.saturating_add(1),
        }
    }

    /// With what is still open counted as calls of which nothing is known.
    fn closed(&self) -> Wire {
        let open = u32::try_from(self.open.len()).unwrap_or(u32::MAX);
        Wire { n_unmetered: self.wire.n_unmetered.saturating_add(open), ..self.wire }
    }
}

fn seal(nonce: &str, number: u64, text: &str) -> String {
    let number = number.to_string();
    signature::hmac_sha256_hex(nonce.as_bytes(), &[b"pilothouse wire\0", number.as_bytes(), b"\0", text.as_bytes()])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(input: u64, output: u64) -> Usage {
        Usage { input_tokens: Some(input), output_tokens: Some(output), ..Usage::default() }
    }

    #[test]
    fn books_go_on_over_runs_and_say_of_what_nothing_is_known() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path(), "n").unwrap(), None);
        let mut books = Books::open(dir.path(), "n").unwrap();
        let first = books.begin().unwrap();
        books.end(first, 200, Some(used(1200, 34)), 0).unwrap();
        let second = books.begin().unwrap();
        books.end(second, 429, None, 0).unwrap();
        // Killed in the middle of a call.
        books.begin().unwrap();
        drop(books);

        let mut books = Books::open(dir.path(), "n").unwrap();
        let next = books.begin().unwrap();
        books.end(next, 200, None, 50).unwrap();
        books.refuse().unwrap();

        assert_eq!(next, 3);
        let wire = Wire { usage: used(1200, 34), n_calls: 2, n_unmetered: 2, n_refused: 1 };
        assert_eq!(read(dir.path(), "n").unwrap(), Some(wire));
        let limits = |tokens| Limits { tokens: Some(tokens) };
        assert_eq!(books.limit_reached(&limits(1285)), None);
        assert_eq!(books.limit_reached(&limits(1284)).as_deref(), Some("1284 of 1284 tokens"));
    }

    #[test]
    fn what_others_write_into_the_books_is_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        let mut books = Books::open(dir.path(), "n").unwrap();
        let call = books.begin().unwrap();
        books.end(call, 200, Some(used(10, 1)), 0).unwrap();
        drop(books);
        let path = dir.path().join(FILE);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace("\"input_tokens\":10", "\"input_tokens\":1")).unwrap();

        let wire = read(dir.path(), "n").unwrap().unwrap();

        // The end is not believed, so that the call is still open.
        assert_eq!((wire.usage, wire.n_unmetered), (Usage::default(), 2));
    }
}
