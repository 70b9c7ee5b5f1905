//! The migrations of both databases, in pairs, and the rule about versions. Only ever added to.

use crate::StoreError;

/// One step of the schema, in both dialects.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Migration {
    pub(crate) version: i64,
    pub(crate) sqlite: &'static str,
    pub(crate) postgres: &'static str,
}

pub(crate) const MIGRATIONS: [Migration; 1] = [Migration {
    version: 1,
    sqlite: include_str!("../migrations/sqlite/0001_ledger.sql"),
    postgres: include_str!("../migrations/postgres/0001_ledger.sql"),
}];

/// The schema that this binary reads and writes.
pub(crate) const KNOWN: i64 = MIGRATIONS[MIGRATIONS.len() - 1].version;

/// What is missing from a database at schema `found`; 0 is an empty one. A newer one is refused.
pub(crate) fn pending(found: i64) -> Result<&'static [Migration], StoreError> {
    if found > KNOWN {
        return Err(StoreError::NewerSchema { found, known: KNOWN });
    }
    let done = MIGRATIONS.iter().take_while(|migration| migration.version <= found).count();
    Ok(&MIGRATIONS[done..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn migrations_are_numbered_without_a_gap() {
        for (place, migration) in MIGRATIONS.iter().enumerate() {
            assert_eq!(migration.version, i64::try_from(place).unwrap() + 1);
        }
    }

    #[test]
    fn an_empty_database_gets_all_and_a_newer_one_is_refused() {
        assert_eq!(pending(0).unwrap().len(), MIGRATIONS.len());
        assert!(pending(KNOWN).unwrap().is_empty());
        assert!(matches!(pending(KNOWN + 1), Err(StoreError::NewerSchema { .. })));
    }
}
