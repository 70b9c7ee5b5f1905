//! One ledger of a fault's own, opened by as many nodes as the database allows.

use anyhow::{Context, Result};
use store::{Store, StoreConfig};
use testkit::database::Database;

use crate::fault::{Backend, Setting};

/// The ledger as several nodes see it. SQLite is one process's own: there it is one store.
#[derive(Debug)]
pub struct Ledgers {
    stores: Vec<Store>,
    database: Option<Database>,
}

impl Ledgers {
    /// A new ledger; on PostgreSQL with `nodes` stores, each with connections of its own.
    pub async fn open(setting: &Setting, nodes: usize) -> Result<Self> {
        match setting.backend {
            Backend::Postgres => {
                let database = Database::create(setting.server()?).await.context("cannot make a database")?;
                let config = StoreConfig::Postgres { url: database.url() };
                let mut stores = Vec::with_capacity(nodes);
                for _ in 0..nodes {
                    stores.push(Store::open(&config).await?);
                }
                Ok(Self { stores, database: Some(database) })
            }
            Backend::Sqlite | Backend::Neither => {
                let path = setting.dir.join("pilothouse.db");
                Ok(Self { stores: vec![Store::open(&StoreConfig::Sqlite { path }).await?], database: None })
            }
        }
    }

    pub fn all(&self) -> &[Store] {
        &self.stores
    }

    pub fn first(&self) -> &Store {
        &self.stores[0]
    }

    /// Where the ledger lies, for those who go past the store.
    pub fn database_url(&self) -> Option<String> {
        self.database.as_ref().map(Database::url)
    }

    /// Closes every store and drops the database. A file goes with its directory.
    pub async fn remove(self) -> Result<()> {
        for store in &self.stores {
            store.close().await;
        }
        match self.database {
            Some(database) => Ok(database.drop_now().await?),
            None => Ok(()),
        }
    }
}
