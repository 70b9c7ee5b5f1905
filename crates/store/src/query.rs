//! What is read: rows by key, pages of rows, pages of events. Every list has a bound and pages by key.

use domain::{
    commit::{Subject, Table},
    time::Timestamp,
};

/// A row as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRow {
    pub table: Table,
    pub id: String,
    pub version: i64,
    pub status: String,
    pub parent: Option<String>,
    pub ordinal: i64,
    pub name: Option<String>,
    pub body: String,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// A subject's rows, read in one snapshot: the head and its children (a protocol's steps and gates, a run's gates, a
/// person's identities), children by ordinal, then id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    pub head: StoredRow,
    pub children: Vec<StoredRow>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Order {
    Ascending,
    Descending,
}

/// A page of one table, ordered by (ordinal, id); messages of all conversations by id.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RowQuery {
    pub table: Table,
    /// Only rows of this parent.
    pub parent: Option<String>,
    /// Only rows in one of these states; empty means all.
    pub statuses: Vec<String>,
    pub order: Order,
    /// Continue behind this (ordinal, id).
    pub after: Option<(i64, String)>,
    /// At most 500.
    pub limit: u32,
}

/// Which events, oldest or newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventQuery {
    pub subject: Option<Subject>,
    pub project: Option<i64>,
    pub step: Option<i64>,
    /// Only events of subjects of these kinds; empty means all.
    pub kinds: Vec<domain::commit::SubjectKind>,
    pub order: Order,
    /// An opaque cursor from an earlier page; it can never skip an event. Only with ascending order.
    pub after: Option<String>,
    /// At most 500.
    pub limit: u32,
}

/// An event as stored. `id` grows with time but is not the cursor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEvent {
    pub id: i64,
    pub subject: Subject,
    /// The subject's version that the event led to, and its place within that commit.
    pub version: i64,
    pub place: i16,
    pub kind: String,
    pub schema: i16,
    pub at: Timestamp,
    pub actor: String,
    pub project: Option<i64>,
    pub step: Option<i64>,
    pub data: String,
    /// The cursor that continues behind this event.
    pub cursor: String,
}

/// Events and the cursor that continues behind them; also given when the page is empty, so that a follower can wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventPage {
    pub events: Vec<StoredEvent>,
    pub next: String,
    /// More may be read at once.
    pub more: bool,
}
