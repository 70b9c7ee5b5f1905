//! Runs as rows, with their gates and their latest attempt.

use domain::{
    aggregate::Aggregate,
    commit::{Row, Table},
    run::Run,
};

use crate::{
    Store, StoreError,
    attempts::attempt_row,
    gates::{changed_gates, read_gate},
    query::{Loaded, Order, RowQuery, StoredRow},
    stored::{Stored, decode, encode, row, unexpected_child},
};

impl Stored for Run {
    fn rows(&self, before: Option<&Self>) -> Vec<Row> {
        let head = row(Table::Runs, self.id(), self.state.name(), self.created_at.as_micros(), encode(self));
        let mut rows = vec![head];
        rows.extend(changed_gates(&self.gates, before.map_or(&[], |before| &before.gates)));
        if let Some(attempt) = &self.attempt
            && before.and_then(|before| before.attempt.as_ref()) != Some(attempt)
        {
            rows.push(attempt_row(attempt));
        }
        rows
    }

    fn read(loaded: Loaded) -> Result<Self, StoreError> {
        let mut run = read_head(&loaded.head)?;
        for child in &loaded.children {
            match child.table {
                Table::Gates => run.gates.push(read_gate(child)?),
                _ => return Err(unexpected_child(child)),
            }
        }
        Ok(run)
    }
}

fn read_head(row: &StoredRow) -> Result<Run, StoreError> {
    decode(row, |run: &Run| (run.id.to_string(), run.state.name()))
}

impl Store {
    /// Runs newest first, without their gates; `statuses` empty means all.
    pub async fn list_runs(
        &self,
        statuses: &[String],
        after: Option<(i64, String)>,
        limit: u32,
    ) -> Result<Vec<Run>, StoreError> {
        let query = RowQuery {
            table: Table::Runs,
            parent: None,
            statuses: statuses.to_vec(),
            order: Order::Descending,
            after,
            limit,
        };
        self.list_rows(&query).await?.iter().map(read_head).collect()
    }
}
