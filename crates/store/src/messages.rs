//! Messages as rows: written with whatever asked for them, found by idempotency key, listed by conversation.

use domain::{
    commit::{Row, Table},
    message::Message,
    time::Timestamp,
};

use crate::{
    Store, StoreError,
    query::{Order, RowQuery, StoredRow},
    stored::{Versioned, decode, encode},
};

/// The row of a message that is asked for, or that got further.
pub fn message_row(message: &Message, queued_at: Timestamp) -> Row {
    Row {
        table: Table::Messages,
        id: message.id.to_string(),
        status: message.state.name().to_owned(),
        parent: Some(message.conversation.clone()),
        ordinal: queued_at.as_micros(),
        name: Some(message.idempotency_key.clone()),
        body: encode(message),
    }
}

fn read_message(row: &StoredRow) -> Result<Message, StoreError> {
    decode(row, |message: &Message| (message.id.to_string(), message.state.name()))
}

impl Store {
    /// A message, its version, and when it was asked for.
    pub async fn find_message(&self, id: &str) -> Result<Option<(Versioned<Message>, Timestamp)>, StoreError> {
        let Some(row) = self.find_row(Table::Messages, id).await? else { return Ok(None) };
        let subject = read_message(&row)?;
        Ok(Some((Versioned { version: row.version, subject }, Timestamp::from_micros(row.ordinal))))
    }

    /// The messages of one conversation, or of all, newest first.
    pub async fn list_messages(&self, conversation: Option<&str>, limit: u32) -> Result<Vec<Message>, StoreError> {
        let query = RowQuery {
            table: Table::Messages,
            parent: conversation.map(str::to_owned),
            statuses: Vec::new(),
            order: Order::Descending,
            after: None,
            limit,
        };
        self.list_rows(&query).await?.iter().map(read_message).collect()
    }
}
