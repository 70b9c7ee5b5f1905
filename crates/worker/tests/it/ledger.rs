//! A ledger of a test's own: an SQLite file, or a database on the server of `PILOTHOUSE_TEST_POSTGRES_URL`.

use std::path::Path;

use store::{Store, StoreConfig};

pub(crate) struct Ledger {
    dir: tempfile::TempDir,
    config: StoreConfig,
}

impl Ledger {
    pub(crate) async fn sqlite() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = StoreConfig::Sqlite { path: dir.path().join("ledger.db") };
        Self { dir, config }
    }

    pub(crate) async fn postgres() -> Self {
        let url = host::env::var("PILOTHOUSE_TEST_POSTGRES_URL")
            .expect("PILOTHOUSE_TEST_POSTGRES_URL must name a server; `cargo xtask test` starts one");
        let database = testkit::database::Database::create(&url).await.unwrap();
        let config = StoreConfig::Postgres { url: database.url() };
        Self { dir: tempfile::tempdir().unwrap(), config }
    }

    pub(crate) async fn store(&self) -> Store {
        Store::open(&self.config).await.unwrap()
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }
}
