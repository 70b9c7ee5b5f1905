//! How subjects become rows and rows become subjects. A row that contradicts itself is `Corrupt`, never guessed at.

use domain::{
    aggregate::Aggregate,
    commit::{Row, Subject, Table},
};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    Store, StoreError,
    query::{Loaded, StoredRow},
};

/// A subject that can be stored: its head row first, then the rows that changed since `before`.
pub trait Stored: Aggregate {
    fn rows(&self, before: Option<&Self>) -> Vec<Row>;

    fn read(loaded: Loaded) -> Result<Self, StoreError>;
}

/// A subject as loaded, at its version.
#[derive(Clone, Debug, PartialEq)]
pub struct Versioned<S> {
    pub version: i64,
    pub subject: S,
}

impl Store {
    /// Loads a subject with its children, in one snapshot.
    pub async fn find<S: Stored>(&self, id: &str) -> Result<Option<Versioned<S>>, StoreError> {
        let Some(loaded) = self.load(&Subject { kind: S::KIND, id: id.to_owned() }).await? else { return Ok(None) };
        let version = loaded.head.version;
        Ok(Some(Versioned { version, subject: S::read(loaded)? }))
    }
}

/// The body of a row as JSON. The types that are stored have string keys only, so this cannot fail.
pub(crate) fn encode<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_else(|error| unreachable!("stored types are plain JSON: {error}"))
}

/// Reads a row's body and compares what the row repeats of it.
pub(crate) fn decode<T: DeserializeOwned>(
    row: &StoredRow,
    repeats: impl FnOnce(&T) -> (String, &'static str),
) -> Result<T, StoreError> {
    let corrupt = |reason: String| StoreError::Corrupt { table: row.table.name(), id: row.id.clone(), reason };
    let value: T = serde_json::from_str(&row.body).map_err(|error| corrupt(format!("column body: {error}")))?;
    let (id, status) = repeats(&value);
    if id != row.id {
        return Err(corrupt(format!("column body names {id}")));
    }
    if status != row.status {
        return Err(corrupt(format!("column status says {}, column body {status}", row.status)));
    }
    Ok(value)
}

pub(crate) fn unexpected_child(row: &StoredRow) -> StoreError {
    StoreError::Corrupt {
        table: row.table.name(),
        id: row.id.clone(),
        reason: format!("a row of {} cannot belong to this subject", row.table.name()),
    }
}

/// A row whose name nobody looks up.
pub(crate) fn row(table: Table, id: String, status: &str, ordinal: i64, body: String) -> Row {
    Row { table, id, status: status.to_owned(), parent: None, ordinal, name: None, body }
}
