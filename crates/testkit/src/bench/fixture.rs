//! A store of the benchmark's own, with where it lies.

use std::path::Path;

use store::{Store, StoreConfig};
use tempfile::TempDir;

use crate::database::Database;

/// A store that is closed and thrown away with [`Fixture::end`].
#[derive(Debug)]
pub struct Fixture {
    pub store: Store,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Directory(TempDir),
    Database(Database),
}

impl Fixture {
    /// A new file, on the disk the working directory is on.
    pub async fn sqlite() -> Result<Self, String> {
        let directory = directory()?;
        let path = directory.path().join("ledger.sqlite");
        let store = Store::open(&StoreConfig::Sqlite { path }).await.map_err(|error| error.to_string())?;
        Ok(Self { store, place: Place::Directory(directory) })
    }

    /// A new database on this server.
    pub async fn postgres(server: &str) -> Result<Self, String> {
        let database = Database::create(server).await.map_err(|error| error.to_string())?;
        match Store::open(&StoreConfig::Postgres { url: database.url() }).await {
            Ok(store) => Ok(Self { store, place: Place::Database(database) }),
            Err(error) => {
                // The first error says more.
                let _ = database.drop_now().await;
                Err(error.to_string())
            }
        }
    }

    pub async fn end(self) {
        self.store.close().await;
        match self.place {
            Place::Directory(directory) => drop(directory),
            // The server is thrown away afterwards, or its owner sees what was left behind.
            Place::Database(database) => drop(database.drop_now().await),
        }
    }
}

/// `/tmp` may be memory.
pub fn directory() -> Result<TempDir, String> {
    let target = Path::new("target");
    let parent = if target.is_dir() { target } else { Path::new(".") };
    tempfile::Builder::new().prefix("bench-").tempdir_in(parent).map_err(|error| error.to_string())
}
