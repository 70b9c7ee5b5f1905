//! The ledger in one SQLite file: one thread writes, a few connections read.
//!
//! Every write is a job for the writer's thread, which commits what queued up as one transaction and answers afterwards
//! ([`writer`]). Reads run on connections of their own and see what was last committed ([`read`]). One process owns the
//! file, proven by a lock file, so leases belong to processes and not to time. Start at [`SqliteStore`].

mod backup;
mod budget;
mod check;
mod checkpoint;
mod commit;
mod events;
mod fault;
mod open;
mod owner;
mod queue;
mod read;
mod rows;
mod tables;
mod writer;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    Meter, StoreError,
    known::Known,
    queue::Wake,
    sqlite::{read::Readers, writer::Writer},
};

/// The ledger in one file. Cheap to clone.
#[derive(Clone, Debug)]
pub struct SqliteStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    writer: Writer,
    readers: Readers,
    wake: Wake,
    known: Known,
    meter: Meter,
    /// Names this history of the database in every event cursor.
    epoch: String,
    path: PathBuf,
}

impl SqliteStore {
    /// Opens the file, takes it for this process, and brings its schema up to date.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        let path = path.to_owned();
        blocking("open the ledger", move || open::open(&path)).await
    }

    pub(crate) fn meter(&self) -> &Meter {
        &self.inner.meter
    }

    pub fn wake(&self) -> Wake {
        self.inner.wake.clone()
    }

    pub(crate) fn known(&self) -> &Known {
        &self.inner.known
    }

    /// Lets the writer finish what it was given, then gives the file back.
    pub async fn close(&self) {
        self.inner.readers.close().await;
        self.inner.writer.close().await;
    }
}

/// Runs work that blocks on a thread where it may.
async fn blocking<T: Send + 'static>(
    name: &'static str,
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    match host::task::spawn_blocking(name, work).await {
        Ok(result) => result,
        Err(error) => Err(StoreError::Unavailable { reason: format!("{name}: {error}") }),
    }
}
