//! Tokens as rows, found by the hash of their secret.

use domain::{
    aggregate::Aggregate,
    commit::{Row, Table},
    token::Token,
};

use crate::{
    Store, StoreError,
    query::{Loaded, Order, RowQuery, StoredRow},
    stored::{Stored, decode, encode, row},
};

impl Stored for Token {
    fn rows(&self, _before: Option<&Self>) -> Vec<Row> {
        let mut head = row(Table::Tokens, self.id(), self.status(), self.created_at.as_micros(), encode(self));
        head.name = Some(self.secret_hash.clone());
        head.parent = Some(format!("person:{}", self.person));
        vec![head]
    }

    fn read(loaded: Loaded) -> Result<Self, StoreError> {
        read_token(&loaded.head)
    }
}

fn read_token(row: &StoredRow) -> Result<Token, StoreError> {
    decode(row, |token: &Token| (token.id.to_string(), token.status()))
}

impl Store {
    /// For every request: on PostgreSQL one that another process revoked is found for a second more.
    pub async fn known_token_by_hash(&self, secret_hash: &str) -> Result<Option<Token>, StoreError> {
        self.known_by_name(Table::Tokens, secret_hash).await?.as_ref().map(read_token).transpose()
    }

    /// Newest first.
    pub async fn list_tokens(&self, limit: u32) -> Result<Vec<Token>, StoreError> {
        let query = RowQuery {
            table: Table::Tokens,
            parent: None,
            statuses: Vec::new(),
            order: Order::Descending,
            after: None,
            limit,
        };
        self.list_rows(&query).await?.iter().map(read_token).collect()
    }
}
