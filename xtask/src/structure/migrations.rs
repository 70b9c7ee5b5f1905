//! Migrations come in pairs: a change of one database's schema without the other's is a bug on its way.

use std::collections::BTreeSet;
use std::path::Path;

use super::tree::assert_none;
use crate::process::workspace;

#[test]
fn every_migration_exists_for_both_databases() {
    let migrations = workspace().join("crates/store/migrations");
    let (sqlite, postgres) = (names(&migrations.join("sqlite")), names(&migrations.join("postgres")));
    let unpaired: Vec<String> = sqlite.symmetric_difference(&postgres).cloned().collect();
    assert_none("migrations that one database has and the other lacks", &unpaired);
    assert!(!sqlite.is_empty(), "there are no migrations in {}", migrations.display());
}

#[test]
fn migrations_are_numbered_without_gaps() {
    let names = names(&workspace().join("crates/store/migrations/sqlite"));
    let mut findings = Vec::new();
    for (index, name) in names.iter().enumerate() {
        let number = format!("{:04}_", index + 1);
        let rest = name.strip_prefix(&number).and_then(|rest| rest.strip_suffix(".sql")).unwrap_or_default();
        if rest.is_empty() || !rest.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_') {
            findings.push(format!("{name} should be {number}<name>.sql"));
        }
    }
    assert_none("migrations out of order or badly named", &findings);
}

fn names(directory: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    entries.map(|entry| entry.expect("a readable entry").file_name().to_string_lossy().into_owned()).collect()
}
