//! A consistent copy of the file, taken while it is written to.

use std::path::{Path, PathBuf};

use rusqlite::Connection;

use crate::{
    StoreError,
    sqlite::{SqliteStore, blocking, fault, open},
};

/// More fences than the original can give between the copy and the day the copy is put in its place.
const FENCES_AHEAD: i64 = 1_000_000_000;

impl SqliteStore {
    /// Writes the copy beside its place and renames it, so that there is a whole copy or none.
    pub async fn backup(&self, to: &Path) -> Result<(), StoreError> {
        let (from, to) = (self.inner.path.clone(), to.to_owned());
        blocking("back the ledger up", move || {
            let mut name = to.as_os_str().to_owned();
            name.push(format!(".{}", host::random::base62(8)));
            let temporary = PathBuf::from(name);
            let copied = copy(&from, &temporary)
                .and_then(|()| host::fs::rename(&temporary, &to).map_err(|error| failed(&to, &error)));
            if copied.is_err() {
                // Best effort: the error that matters is the first one.
                let _ = host::fs::remove_file(&temporary);
            }
            copied
        })
        .await
    }
}

fn copy(from: &Path, to: &Path) -> Result<(), StoreError> {
    // Made by us first, so that nobody else can read it; SQLite accepts an empty file.
    host::fs::create_new(to, b"").map_err(|error| failed(to, &error))?;
    let name = to.to_str().ok_or_else(|| failed(to, &"the path is not UTF-8"))?;
    open::connect(from, 1024)?.execute("VACUUM INTO ?1", [name]).map_err(fault::of)?;

    // The copy is a history of its own from here on: cursors of the original do not hold in it, and its claims give
    // fences that the original never gave.
    let conn = Connection::open(to).map_err(fault::of)?;
    conn.execute_batch("PRAGMA journal_mode = DELETE; PRAGMA synchronous = FULL").map_err(fault::of)?;
    open::set_meta(&conn, "epoch", &host::random::base62(12)).map_err(fault::of)?;
    conn.execute("UPDATE counters SET value = value + ?1 WHERE name = 'fences'", [FENCES_AHEAD]).map_err(fault::of)?;
    conn.close().map_err(|(_, error)| fault::of(error))?;
    host::fs::open_append(to).map_err(|error| failed(to, &error))?.sync_all().map_err(|error| failed(to, &error))
}

fn failed(path: &Path, error: &dyn std::fmt::Display) -> StoreError {
    StoreError::Unavailable { reason: format!("cannot write {}: {error}", path.display()) }
}
