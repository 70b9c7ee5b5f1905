//! Attempts as rows: written with the run or protocol they belong to, read by id and listed under their subject.

use domain::{
    attempt::Attempt,
    commit::{Row, Table},
};

use crate::{
    Store, StoreError,
    query::{Order, RowQuery, StoredRow},
    stored::{decode, encode},
};

pub(crate) fn attempt_row(attempt: &Attempt) -> Row {
    Row {
        table: Table::Attempts,
        id: attempt.id.to_string(),
        status: attempt.status().to_owned(),
        parent: Some(attempt.subject.clone()),
        ordinal: i64::from(attempt.number),
        name: None,
        body: encode(attempt),
    }
}

fn read_attempt(row: &StoredRow) -> Result<Attempt, StoreError> {
    decode(row, |attempt: &Attempt| (attempt.id.to_string(), attempt.status()))
}

impl Store {
    pub async fn find_attempt(&self, id: &str) -> Result<Option<Attempt>, StoreError> {
        self.find_row(Table::Attempts, id).await?.as_ref().map(read_attempt).transpose()
    }

    /// The attempts of a run or step (`run:7Q4K2MA`, `step:12`), by number.
    pub async fn list_attempts(&self, subject: &str, limit: u32) -> Result<Vec<Attempt>, StoreError> {
        let query = RowQuery {
            table: Table::Attempts,
            parent: Some(subject.to_owned()),
            statuses: Vec::new(),
            order: Order::Ascending,
            after: None,
            limit,
        };
        self.list_rows(&query).await?.iter().map(read_attempt).collect()
    }
}
