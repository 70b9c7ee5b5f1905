//! Where a figure is taken: a directory on a real disk, and a database when one is asked for.

use std::path::{Path, PathBuf};

use testkit::{
    bench::{fixture, node::Launch, series::Unmeasured},
    database,
};

/// The product's binary, built as it is shipped.
pub(crate) const EXE: &str = env!("CARGO_BIN_EXE_pilothouse");

/// Which ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Database {
    Sqlite,
    Postgres,
}

/// Thrown away with [`Place::end`].
pub(crate) struct Place {
    dir: tempfile::TempDir,
    root: PathBuf,
    database: Option<database::Database>,
}

/// The server's address, or why there is none.
pub(crate) fn server() -> Result<String, Unmeasured> {
    let url = std::env::var(database::URL).ok().filter(|url| !url.is_empty());
    url.ok_or_else(|| Unmeasured::Missing(format!("{} names no PostgreSQL server", database::URL)))
}

impl Place {
    pub(crate) async fn new(database: Database) -> Result<Self, Unmeasured> {
        let dir = fixture::directory()?;
        let root = dir.path().canonicalize().map_err(|error| error.to_string())?;
        let database = match database {
            Database::Sqlite => None,
            Database::Postgres => {
                Some(database::Database::create(&server()?).await.map_err(|error| error.to_string())?)
            }
        };
        Ok(Self { dir, root, database })
    }

    /// Its real path.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// A process of the product here.
    pub(crate) fn launch(&self, role: &'static str) -> Launch<'_> {
        let mut launch = Launch::new(EXE.as_ref(), role, &self.root);
        launch.database = self.database.as_ref().map(database::Database::url);
        launch
    }

    pub(crate) async fn end(self) {
        if let Some(database) = self.database {
            // The server is thrown away afterwards, or its owner sees what was left behind.
            drop(database.drop_now().await);
        }
        drop(self.dir);
    }
}
