//! Values of many commits, bound as one array for each column.

use tokio_postgres::types::ToSql;

/// One array parameter.
#[derive(Debug)]
pub(super) enum Column<'a> {
    Text(Vec<&'a str>),
    MaybeText(Vec<Option<&'a str>>),
    MaybeOwned(Vec<Option<String>>),
    Big(Vec<i64>),
    MaybeBig(Vec<Option<i64>>),
    Int(Vec<i32>),
    Small(Vec<i16>),
}

impl Column<'_> {
    fn sql_type(&self) -> &'static str {
        match self {
            Self::Text(_) | Self::MaybeText(_) | Self::MaybeOwned(_) => "text[]",
            Self::Big(_) | Self::MaybeBig(_) => "bigint[]",
            Self::Int(_) => "integer[]",
            Self::Small(_) => "smallint[]",
        }
    }

    fn as_sql(&self) -> &(dyn ToSql + Sync) {
        match self {
            Self::Text(values) => values,
            Self::MaybeText(values) => values,
            Self::MaybeOwned(values) => values,
            Self::Big(values) => values,
            Self::MaybeBig(values) => values,
            Self::Int(values) => values,
            Self::Small(values) => values,
        }
    }
}

/// The parameters of a statement in the order in which its text names them.
#[derive(Debug, Default)]
pub(super) struct Columns<'a>(Vec<Column<'a>>);

impl<'a> Columns<'a> {
    /// Adds a parameter; gives back how the text names it.
    pub(super) fn bind(&mut self, column: Column<'a>) -> String {
        let sql_type = column.sql_type();
        self.0.push(column);
        format!("${}::{sql_type}", self.0.len())
    }

    /// `unnest($1::text[], …) AS alias(names)`.
    pub(super) fn unnest(
        &mut self,
        alias: &str,
        columns: impl IntoIterator<Item = (&'static str, Column<'a>)>,
    ) -> String {
        let (mut arrays, mut names) = (Vec::new(), Vec::new());
        for (name, column) in columns {
            names.push(name);
            arrays.push(self.bind(column));
        }
        format!("unnest({}) AS {alias}({})", arrays.join(", "), names.join(", "))
    }

    pub(super) fn as_sql(&self) -> Vec<&(dyn ToSql + Sync)> {
        self.0.iter().map(Column::as_sql).collect()
    }
}
