//! The catalog in force, as one row.

use domain::{
    aggregate::Aggregate,
    commit::{Row, Table},
    current_catalog::{CURRENT, CurrentCatalog},
};

use crate::{
    Store, StoreError,
    query::Loaded,
    stored::{Stored, Versioned, decode, encode, row},
};

impl Stored for CurrentCatalog {
    fn rows(&self, _before: Option<&Self>) -> Vec<Row> {
        vec![row(Table::Catalogs, self.id(), "loaded", 0, encode(self))]
    }

    fn read(loaded: Loaded) -> Result<Self, StoreError> {
        decode(&loaded.head, |catalog: &CurrentCatalog| (catalog.id(), "loaded"))
    }
}

impl Store {
    pub async fn find_catalog(&self) -> Result<Option<Versioned<CurrentCatalog>>, StoreError> {
        self.find(CURRENT).await
    }
}
