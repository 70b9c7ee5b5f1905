//! One stream of the tree: read as it comes, made safe, kept up to a size, counted and hashed to its end.
//!
//! Nothing is written to the file before what would steer a terminal and what the tree was given as a secret were taken
//! out of it. Whoever reads it needs no more care, whoever steals it learns no key.
//!
//! The file holds the beginning of the stream; when that was too long, a line that says how much is left out and then
//! the end, so that what is read by offset while it grows never changes.

use crate::exit::OutputEnd;
use crate::spec::Stream;
use host::contain;
use host::hash::Sha256Stream;
use host::redact::Redactor;
use host::text::Cleaner;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// How much of the end of a stream is kept when its beginning was too long.
const TAIL: usize = 64 * 1024;

/// How much is read before others get their turn.
const TURN: usize = 16;

pub(super) struct Spooler {
    stream: Stream,
    pipe: Option<File>,
    file: File,
    buffer: Vec<u8>,
    limit: u64,
    bytes: u64,
    /// How much of it was left when it was safe to show.
    stored: u64,
    kept: u64,
    tail: VecDeque<u8>,
    hash: Sha256Stream,
    cleaner: Cleaner,
    redactor: Redactor,
}

impl Spooler {
    /// Opens the stream's file in the current directory.
    pub(super) fn open(stream: Stream, limit: u64, secrets: &[String]) -> io::Result<Self> {
        let file = host::fs::open_append(Path::new(stream.file_name())).map_err(io::Error::other)?;
        Ok(Self {
            stream,
            pipe: None,
            file,
            buffer: vec![0; 64 * 1024],
            limit,
            bytes: 0,
            stored: 0,
            kept: 0,
            cleaner: Cleaner::new(),
            redactor: Redactor::new(secrets),
            tail: VecDeque::new(),
            hash: Sha256Stream::new(),
        })
    }

    /// Makes the pipe that the tree writes to and gives back its other end.
    pub(super) fn connect(&mut self) -> io::Result<OwnedFd> {
        let (reader, writer) = contain::output_pipe()?;
        self.pipe = Some(File::from(reader));
        Ok(writer)
    }

    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(AsFd::as_fd)
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes what is there, within limits of fairness; tells how many bytes that was.
    pub(super) fn pump(&mut self) -> u64 {
        let before = self.bytes;
        for _ in 0..TURN {
            if !self.read_some() {
                break;
            }
        }
        self.bytes - before
    }

    /// Takes all that is left in the pipe once nobody writes to it any more.
    pub(super) fn drain(&mut self) {
        // A pipe holds at most a megabyte; a stranger who still writes must not keep us here.
        for _ in 0..TURN * 4 {
            if !self.read_some() {
                break;
            }
        }
        self.pipe = None;
    }

    /// Completes the file.
    pub(super) fn finish(mut self) -> OutputEnd {
        let rest = self.cleaner.finish();
        let mut rest = self.redactor.feed(rest.as_bytes());
        rest.extend(self.redactor.finish());
        self.store(&rest);
        let tail = std::mem::take(&mut self.tail);
        let left_out = self.stored - self.kept - tail.len() as u64;
        let mut rest = Vec::new();
        if left_out > 0 {
            rest.extend_from_slice(marker(left_out).as_bytes());
        }
        rest.extend(tail.iter());
        let mut truncated = left_out > 0;
        if self.file.write_all(&rest).is_ok() {
            self.kept += tail.len() as u64;
        } else {
            truncated = true;
        }
        // Best effort: a log that is lost with the machine must not lose the result.
        let _ = self.file.sync_all();
        OutputEnd { stream: self.stream, bytes: self.bytes, kept: self.kept, truncated, sha256: self.hash.finish_hex() }
    }

    fn read_some(&mut self) -> bool {
        let Some(pipe) = &mut self.pipe else { return false };
        match pipe.read(&mut self.buffer) {
            Ok(0) => {
                self.pipe = None;
                false
            }
            Ok(n) => {
                let buffer = std::mem::take(&mut self.buffer);
                self.keep(&buffer[..n]);
                self.buffer = buffer;
                true
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => true,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
            Err(_) => {
                self.pipe = None;
                false
            }
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
        // Cleaned first: what is invisible must not hide a secret by standing in the middle of it.
        let cleaned = self.cleaner.feed(bytes);
        let safe = self.redactor.feed(cleaned.as_bytes());
        self.store(&safe);
    }

    fn store(&mut self, bytes: &[u8]) {
        self.stored += bytes.len() as u64;
        let room = usize::try_from(self.limit - self.kept.min(self.limit)).unwrap_or(usize::MAX);
        let (head, rest) = bytes.split_at(room.min(bytes.len()));
        // After the first byte that could not be kept, nothing more goes to the head: offsets would lie.
        if self.tail.is_empty() && self.file.write_all(head).is_ok() {
            self.kept += head.len() as u64;
        } else {
            self.limit = self.kept;
            self.keep_tail(head);
        }
        self.keep_tail(rest);
    }

    fn keep_tail(&mut self, bytes: &[u8]) {
        let bytes = &bytes[bytes.len().saturating_sub(TAIL)..];
        let surplus = (self.tail.len() + bytes.len()).saturating_sub(TAIL);
        self.tail.drain(..surplus);
        self.tail.extend(bytes);
    }
}

/// The line that stands where something is missing.
pub(crate) fn marker(left_out: u64) -> String {
    format!("\n[pilothouse: {left_out} bytes left out here]\n")
}
