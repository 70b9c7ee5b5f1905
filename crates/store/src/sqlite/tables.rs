//! The texts for tables of subjects, which all have the same envelope, and the key of their rows.

use std::sync::LazyLock;

use domain::commit::Table;
use rusqlite::types::{ToSql, ToSqlOutput, ValueRef};

use crate::rules;

/// The statements on one table. Parameters: ?1 id, ?2 new version, ?3 status, ?4 parent, ?5 ordinal, ?6 name, ?7 body,
/// ?8 commit, ?9 instant, ?10 the version that was believed.
pub(super) struct TableSql {
    /// A head that must not exist.
    pub(super) create: String,
    /// A head at the believed version whose place in lists stays the same, so that no index changes.
    pub(super) update: String,
    /// A head at the believed version, with its place in lists.
    pub(super) relocate: String,
    /// A child that is new, or whose place in lists stays the same.
    pub(super) put_child: String,
    /// A child whose place in lists changes; it stays under its parent.
    pub(super) relocate_child: String,
    /// A row that must be new; a taken id or name is an error.
    pub(super) insert: String,
    /// Whether a row is at a version: ?1 id, ?2 version.
    pub(super) is_at: String,
}

static TABLES: LazyLock<Vec<TableSql>> = LazyLock::new(|| Table::ALL.iter().map(|table| texts(table.name())).collect());

pub(super) fn sql(table: Table) -> &'static TableSql {
    // `ALL` lists the variants in the order of their declaration.
    &TABLES[table as usize]
}

fn texts(table: &str) -> TableSql {
    let insert = format!(
        "INSERT INTO {table} (id, version, status, parent, ordinal, name, body, commit_id, created_at, updated_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?9)"
    );
    let state = "version = ?2, status = ?3, body = ?7, commit_id = ?8, updated_at = ?9";
    let place = "parent = ?4, ordinal = ?5, name = ?6";
    TableSql {
        create: format!("{insert} ON CONFLICT (id) DO NOTHING"),
        update: format!(
            "UPDATE {table} SET {state}
             WHERE id = ?1 AND version = ?10 AND parent IS ?4 AND ordinal = ?5 AND name IS ?6"
        ),
        relocate: format!("UPDATE {table} SET {state}, {place} WHERE id = ?1 AND version = ?10"),
        put_child: format!(
            "{insert} ON CONFLICT (id) DO UPDATE SET {state}
             WHERE parent IS ?4 AND ordinal = ?5 AND name IS ?6"
        ),
        relocate_child: format!("UPDATE {table} SET {state}, ordinal = ?5, name = ?6 WHERE id = ?1 AND parent IS ?4"),
        insert,
        is_at: format!("SELECT 1 FROM {table} WHERE id = ?1 AND version = ?2"),
    }
}

/// The id of a row as its table has it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Key<'a> {
    Number(i64),
    Text(&'a str),
}

impl<'a> Key<'a> {
    /// `None` when no row of the table can have this id.
    pub(super) fn of(table: Table, id: &'a str) -> Option<Self> {
        match table.has_integer_ids() {
            true => rules::integer_id(id).map(Self::Number),
            false => Some(Self::Text(id)),
        }
    }
}

impl ToSql for Key<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self {
            Self::Number(number) => ToSqlOutput::from(*number),
            Self::Text(text) => ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes())),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_table_finds_its_own_texts() {
        for table in Table::ALL {
            assert!(sql(table).is_at.contains(&format!(" {} ", table.name())), "{table:?}");
        }
    }
}
