//! What a tree has written, read by offset: while it runs, after it ended, after everybody else is gone.

use crate::exit;
use crate::spec::Stream;
use host::fs::FsError;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often a follower looks for more.
const LOOK: Duration = Duration::from_millis(100);

/// A piece of a stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chunk {
    pub bytes: Vec<u8>,
    /// Where the next piece begins.
    pub next_offset: u64,
    /// How long the file was at that moment.
    pub total: u64,
}

/// Reads up to `limit` bytes from `offset` on; a stream that was not opened yet is empty.
pub fn read(dir: &Path, stream: Stream, offset: u64, limit: usize) -> Result<Chunk, FsError> {
    match host::fs::read_at(&dir.join(stream.file_name()), offset, limit) {
        Ok((bytes, total)) => Ok(Chunk { next_offset: offset + bytes.len() as u64, bytes, total }),
        Err(error) if error.is_not_found() => Ok(Chunk { next_offset: offset, ..Chunk::default() }),
        Err(error) => Err(error),
    }
}

/// Reads up to `limit` bytes of the end of a stream.
pub fn tail(dir: &Path, stream: Stream, limit: usize) -> Result<Chunk, FsError> {
    let total = read(dir, stream, 0, 0)?.total;
    read(dir, stream, total.saturating_sub(limit as u64), limit)
}

/// Follows a stream from `offset` on until its tree has ended and all of it is read. A supervisor that was lost leaves
/// no end to see: whoever follows also waits for what it is an attempt of.
pub fn follow(dir: impl Into<PathBuf>, stream: Stream, offset: u64) -> Follower {
    Follower { dir: dir.into(), stream, offset }
}

/// A stream that is being followed.
#[derive(Debug)]
pub struct Follower {
    dir: PathBuf,
    stream: Stream,
    offset: u64,
}

impl Follower {
    /// Waits for the next piece, of at most 64 KiB; `None` when there will be none.
    pub async fn next(&mut self) -> Result<Option<Chunk>, FsError> {
        loop {
            // Asked before reading: what was written before the end is then read after it.
            let ended = host::fs::exists(&self.dir.join(exit::FILE));
            let chunk = read(&self.dir, self.stream, self.offset, 64 * 1024)?;
            if !chunk.bytes.is_empty() {
                self.offset = chunk.next_offset;
                return Ok(Some(chunk));
            }
            if ended {
                return Ok(None);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Where the next piece begins.
    pub fn offset(&self) -> u64 {
        self.offset
    }
}
