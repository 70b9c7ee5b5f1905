//! An exclusive advisory lock that ends with its process, however that ends.

use rustix::fs::{FlockOperation, flock};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A lock that is held as long as this value lives.
#[derive(Debug)]
pub struct LockFile {
    file: File,
    path: PathBuf,
}

/// Why a lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum Held {
    #[error("{path} is locked by another process{}", by.as_deref().map(|by| format!(" ({by})")).unwrap_or_default())]
    ByAnother { path: PathBuf, by: Option<String> },
    #[error("cannot lock {path}")]
    Io { path: PathBuf, source: io::Error },
}

impl LockFile {
    /// Takes the lock or says at once that somebody else has it.
    pub fn acquire(path: &Path) -> Result<Self, Held> {
        let io = |source| Held::Io { path: path.to_owned(), source };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(io)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { file, path: path.to_owned() }),
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut by = String::new();
                // What the holder wrote is only for the message; not being able to read it changes nothing.
                let _ = Read::by_ref(&mut file).take(200).read_to_string(&mut by);
                let by = crate::text::one_line(&by, 80);
                Err(Held::ByAnother { path: path.to_owned(), by: Some(by).filter(|by| !by.is_empty()) })
            }
            Err(errno) => Err(io(errno.into())),
        }
    }

    /// Writes who holds the lock, for the message that others get, or how it was left; durable once this returns.
    pub fn describe(&mut self, holder: &str) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.rewind()?;
        self.file.write_all(holder.as_bytes())?;
        self.file.sync_all()
    }

    /// What was written last, by this holder or by one before; empty when nobody wrote anything.
    pub fn description(&mut self) -> io::Result<String> {
        let mut text = Vec::new();
        self.file.rewind()?;
        Read::by_ref(&mut self.file).take(200).read_to_end(&mut text)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for LockFile {
    fn drop(&mut self) {
        // A process that is just being started has a copy of the open file until it runs its program, and closing alone
        // would leave the lock to it. There is nothing to be done about a file that cannot be unlocked.
        let _ = flock(&self.file, FlockOperation::Unlock);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_that_is_given_back_is_free_whoever_still_has_a_copy_of_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let lock = LockFile::acquire(&path).unwrap();
        let copy = lock.file.try_clone().unwrap();

        drop(lock);

        assert!(LockFile::acquire(&path).is_ok());
        drop(copy);
    }
}
