//! The catalog that is in force: its text, kept in the ledger so that every node and every worker reads the same one.

use serde::{Deserialize, Serialize};

use crate::{aggregate::Aggregate, commit::SubjectKind, time::Timestamp};

/// There is one, under this id.
pub const CURRENT: &str = "current";

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CurrentCatalog {
    /// Content digest, hex.
    pub digest: String,
    /// The TOML text.
    pub text: String,
    /// The file it came from, for messages.
    pub file: String,
    pub loaded_at: Timestamp,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum CatalogEvent {
    Loaded { catalog: CurrentCatalog },
}

impl Aggregate for CurrentCatalog {
    type Event = CatalogEvent;

    const KIND: SubjectKind = SubjectKind::Catalog;

    fn id(&self) -> String {
        CURRENT.to_owned()
    }

    fn created(event: &CatalogEvent) -> Option<Self> {
        let CatalogEvent::Loaded { catalog } = event;
        Some(catalog.clone())
    }

    fn apply(&mut self, event: &CatalogEvent) {
        let CatalogEvent::Loaded { catalog } = event;
        *self = catalog.clone();
    }

    fn event_name(_event: &CatalogEvent) -> &'static str {
        "catalog_loaded"
    }
}
