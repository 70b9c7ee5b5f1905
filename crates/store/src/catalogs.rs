//! The catalog in force, as one row.

use domain::{
    aggregate::Aggregate,
    commit::{Row, Table},
    current_catalog::{CURRENT, CurrentCatalog},
};

use crate::{
    Store, StoreError,
    query::{Loaded, StoredRow},
    stored::{Stored, Versioned, decode, encode, row},
};

impl Stored for CurrentCatalog {
    fn rows(&self, _before: Option<&Self>) -> Vec<Row> {
        vec![row(Table::Catalogs, self.id(), "loaded", 0, encode(self))]
    }

    fn read(loaded: Loaded) -> Result<Self, StoreError> {
        read_catalog(&loaded.head)
    }
}

impl Store {
    pub async fn find_catalog(&self) -> Result<Option<Versioned<CurrentCatalog>>, StoreError> {
        self.find(CURRENT).await
    }

    /// For every request: on PostgreSQL another process's change is seen a second later.
    pub async fn known_catalog(&self) -> Result<Option<CurrentCatalog>, StoreError> {
        self.known_row(Table::Catalogs, CURRENT).await?.as_ref().map(read_catalog).transpose()
    }
}

fn read_catalog(row: &StoredRow) -> Result<CurrentCatalog, StoreError> {
    decode(row, |catalog: &CurrentCatalog| (catalog.id(), "loaded"))
}
