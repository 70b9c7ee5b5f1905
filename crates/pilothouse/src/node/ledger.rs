//! Opening the ledger, and saying who holds it when somebody else does.

use std::path::Path;

use store::{Store, StoreConfig, StoreError};

use crate::failure::{Exit, Failure, Result};

pub(crate) async fn open(config: &StoreConfig) -> Result<Store> {
    match Store::open(config).await {
        Ok(store) => Ok(store),
        Err(StoreError::InUse { path }) => Err(in_use(&path)),
        Err(error) => Err(error.into()),
    }
}

pub(crate) fn in_use(path: &str) -> Failure {
    let holder = host::fs::read_text(Path::new(&format!("{path}.lock")), 200).unwrap_or_default();
    let holder = host::text::one_line(holder, 80);
    // Between the lock and its word stands what the last owner left.
    let holder =
        if !holder.starts_with("pid ") { "another process".to_owned() } else { format!("the process with {holder}") };
    Failure::new(Exit::Conflict, format!("the ledger {path} is held by {holder}")).remedy(
        "One process owns an SQLite ledger: stop that one first, use another --data-dir, or share a PostgreSQL with \
         --database-url.",
    )
}
