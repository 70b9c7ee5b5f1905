//! Who owns the file, and how its last owner left it.
//!
//! The lock file proves that no other process has the ledger open. What stands in it says whether the last owner closed
//! the ledger, and what the file looked like then; after any other end, damage is looked for before anything is built on
//! the file.

use std::{
    fs::File,
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use host::fs::{Held, LockFile};
use rusqlite::{Connection, config::DbConfig};
use rustix::{
    io::Errno,
    process::{Pid, test_kill_process},
};

use crate::{
    StoreError,
    sqlite::{
        fault,
        open::{connect_reader, damaged, unfit},
    },
};

/// How long a lock is waited for whose owner is gone.
const HANDED_ON: Duration = Duration::from_secs(3);
/// Findings that are told.
const LISTED: u32 = 20;

/// The file is this process's as long as this lives.
#[derive(Debug)]
pub(super) struct Owner {
    lock: LockFile,
    path: PathBuf,
    /// What the last owner left word of.
    left: String,
}

impl Owner {
    pub(super) fn take(path: &Path) -> Result<Self, StoreError> {
        let mut name = path.as_os_str().to_owned();
        name.push(".lock");
        let started = host::clock::monotonic();
        let mut lock = loop {
            match LockFile::acquire(Path::new(&name)) {
                Ok(lock) => break lock,
                // One that was killed while it started a process leaves its lock to that one, until that runs its program.
                Err(Held::ByAnother { .. }) if started.elapsed() < HANDED_ON && owner_is_gone(Path::new(&name)) => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err(Held::ByAnother { .. }) => return Err(StoreError::InUse { path: path.display().to_string() }),
                Err(held @ Held::Io { .. }) => return Err(unfit(path, &held)),
            }
        };
        let left = lock.description().map_err(|error| unfit(path, &error))?;
        // Durable before the first write, so that no crash can look like the orderly end before it.
        lock.describe(&format!("pid {}", std::process::id())).map_err(|error| unfit(path, &error))?;
        Ok(Self { lock, path: path.to_owned(), left })
    }

    /// Whether the file is as its last owner left it when it closed it.
    pub(super) fn found_closed(&self, file: &File) -> bool {
        closed(file).is_ok_and(|closed| closed == self.left)
    }

    /// Leaves word that the ledger was closed, and gives it back. Without that word the next start looks for damage that
    /// is not there, which costs only time.
    pub(super) fn leave(mut self) {
        let word = host::fs::open_append(&self.path).map_err(io::Error::other).and_then(|file| closed(&file));
        if let Err(error) = word.and_then(|word| self.lock.describe(&word)) {
            tracing::warn!(%error, "The lock file does not tell that the ledger was closed");
        }
    }
}

/// Whether the process that described itself as the owner is there no more.
fn owner_is_gone(lock: &Path) -> bool {
    let said = host::fs::read(lock, 64).ok().and_then(|said| String::from_utf8(said).ok()).unwrap_or_default();
    let pid = said.trim().strip_prefix("pid ").and_then(|pid| Pid::from_raw(pid.parse().ok()?));
    pid.is_some_and(|pid| test_kill_process(pid) == Err(Errno::SRCH))
}

/// The word for a file that was closed like this: one that was put in its place is told from it.
fn closed(file: &File) -> io::Result<String> {
    let meta = file.metadata()?;
    Ok(format!("closed {} {} {}.{:09}", meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec()))
}

/// Refuses a file in which SQLite finds damage, and leaves it and its log as they are.
pub(super) fn refuse_damage(conn: &Connection, path: &Path) -> Result<(), StoreError> {
    let started = host::clock::monotonic();
    // Closing would otherwise move the log into a file that somebody has to look at first.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map_err(fault::of)?;
    // On a connection of its own, with few pages: what is read through once would stay in memory for as long as we live.
    let reader = connect_reader(path).map_err(|error| damaged(path, error))?;
    let found = quick_check(&reader).unwrap_or_else(|error| vec![error.to_string()]);
    if found != ["ok"] {
        return Err(StoreError::Damaged { path: path.display().to_string(), findings: found.join("; ") });
    }
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false).map_err(fault::of)?;
    tracing::info!("The ledger was not closed by its last owner; it is sound (checked in {:?})", started.elapsed());
    Ok(())
}

fn quick_check(conn: &Connection) -> rusqlite::Result<Vec<String>> {
    conn.prepare(&format!("PRAGMA quick_check({LISTED})"))?.query_map((), |row| row.get(0))?.collect()
}
