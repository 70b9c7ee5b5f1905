//! Reads, on a few connections that cannot write. Each sees one snapshot of what was committed.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use rusqlite::Connection;
use tokio::sync::Semaphore;

use crate::{
    StoreError,
    sqlite::{blocking, fault, open},
};

const READERS: usize = 3;

/// The connections for reads, opened when first needed.
#[derive(Debug)]
pub(super) struct Readers {
    path: PathBuf,
    idle: Arc<Mutex<Vec<Connection>>>,
    places: Arc<Semaphore>,
}

/// Why a read gave nothing.
pub(super) enum Failure {
    Sqlite(rusqlite::Error),
    Store(StoreError),
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Readers {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), idle: Arc::default(), places: Arc::new(Semaphore::new(READERS)) }
    }

    /// Reads in one snapshot.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, StoreError> {
        let Ok(place) = Arc::clone(&self.places).acquire_owned().await else {
            return Err(StoreError::Unavailable { reason: "the ledger is closed".to_owned() });
        };
        let (idle, path) = (Arc::clone(&self.idle), self.path.clone());
        blocking("read the ledger", move || {
            let _place = place;
            let kept = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let conn = match kept {
                Some(conn) => conn,
                None => open::connect_reader(&path)?,
            };
            let result = snapshot(&conn, work);
            // A connection whose transaction did not end is not used again.
            if conn.is_autocommit() {
                idle.lock().unwrap_or_else(PoisonError::into_inner).push(conn);
            }
            result
        })
        .await
    }

    /// Lets reads finish, then closes their connections.
    pub(super) async fn close(&self) {
        let places = u32::try_from(READERS).unwrap_or(u32::MAX);
        if let Ok(all) = self.places.acquire_many(places).await {
            self.places.close();
            drop(all);
        }
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

fn snapshot<T>(conn: &Connection, work: impl FnOnce(&Connection) -> Result<T, Failure>) -> Result<T, StoreError> {
    let begun = conn.prepare_cached("BEGIN").and_then(|mut begin| begin.execute(()));
    begun.map_err(fault::of)?;
    let result = work(conn).map_err(|failure| match failure {
        Failure::Sqlite(error) => fault::of(error),
        Failure::Store(error) => error,
    });
    let ended = conn.prepare_cached("COMMIT").and_then(|mut commit| commit.execute(()));
    match (result, ended) {
        (Ok(_), Err(error)) => Err(fault::of(error)),
        (result, _) => result,
    }
}
