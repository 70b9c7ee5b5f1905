//! All SQL of Pilothouse: the ledger and the queue, on SQLite and on PostgreSQL.
//!
//! One narrow surface, two backends, one conformance suite. Writes are [`domain::commit::Commit`] values; nothing
//! outside ever holds a transaction. What this crate does not do: decide. Start at [`Store`], then at `sqlite` or
//! `postgres` for the backend.

pub mod error;
pub mod meter;
pub mod query;
pub mod queue;
pub mod stored;
pub mod gates;
pub mod attempts;
pub mod runs;
pub mod people;
pub mod tokens;
pub mod messages;
pub mod catalogs;
pub mod projects;
pub mod protocols;
pub mod steps;

mod fairness;
mod known;
mod migrate;
mod rules;
mod sql;
mod task_row;

use std::{path::PathBuf, sync::Arc};

use domain::commit::{Ack, Commit, Committed, StoredAnswer, Subject, Table};

use crate::known::{Known, Question};

pub use crate::{
    error::StoreError,
    meter::Meter,
    query::{EventPage, EventQuery, Loaded, Order, RowQuery, StoredEvent, StoredRow},
    queue::{Beat, Claim, Heartbeat, QueueCounts, Reaped, Retention, TaskQuery, Wake, Worked},
    stored::{Stored, Versioned},
};

/// Where the ledger lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreConfig {
    /// A file that this process alone owns; refused while another process holds it.
    Sqlite { path: PathBuf },
    /// `postgres://…`; any number of processes.
    Postgres { url: String },
}

/// The ledger. Cheap to clone; all clones share one backend.
#[derive(Clone, Debug)]
pub struct Store {
    backend: Backend,
}

#[derive(Clone, Debug)]
enum Backend {
    Sqlite(sqlite::SqliteStore),
    Postgres(postgres::PostgresStore),
}

pub mod postgres;
pub mod sqlite;

/// Calls the same function of whichever backend is behind; what asks a server ends within its time.
macro_rules! both {
    ($self:ident . $function:ident ( $($argument:expr),* )) => {
        match &$self.backend {
            Backend::Sqlite(store) => store.$function($($argument),*).await,
            // Boxed, so that every caller's future does not hold two of them.
            Backend::Postgres(store) => store.within(Box::pin(store.$function($($argument),*))).await,
        }
    };
}

/// The same for what takes its own time.
macro_rules! both_unhurried {
    ($self:ident . $function:ident ( $($argument:expr),* )) => {
        match &$self.backend {
            Backend::Sqlite(store) => store.$function($($argument),*).await,
            Backend::Postgres(store) => store.$function($($argument),*).await,
        }
    };
}

impl Store {
    /// Opens the ledger, refuses unsafe settings, and brings the schema up to date.
    pub async fn open(config: &StoreConfig) -> Result<Self, StoreError> {
        let backend = match config {
            StoreConfig::Sqlite { path } => Backend::Sqlite(sqlite::SqliteStore::open(path).await?),
            StoreConfig::Postgres { url } => Backend::Postgres(postgres::PostgresStore::open(url).await?),
        };
        Ok(Self { backend })
    }

    /// `sqlite` or `postgres`.
    pub fn backend_name(&self) -> &'static str {
        match &self.backend {
            Backend::Sqlite(_) => "sqlite",
            Backend::Postgres(_) => "postgres",
        }
    }

    /// Makes a commit durable, all or nothing. Whatever is answered survives `kill -9` and power loss.
    pub async fn commit(&self, commit: Commit) -> Result<Committed, StoreError> {
        let attempts = Meter::ended_attempts(&commit);
        host::failpoint!("store.commit.before");
        let outcome = both_unhurried!(self.commit(commit));
        host::failpoint!("store.commit.after");
        self.meter().count_commit(&outcome);
        if matches!(outcome, Ok(Committed::Applied { .. })) {
            self.meter().count_attempts(&attempts);
        }
        outcome
    }

    /// A subject's head and children in one snapshot.
    pub async fn load(&self, subject: &Subject) -> Result<Option<Loaded>, StoreError> {
        both!(self.load(subject))
    }

    pub async fn find_row(&self, table: Table, id: &str) -> Result<Option<StoredRow>, StoreError> {
        both!(self.find_row(table, id))
    }

    /// The newest row (by ordinal, id) with this `name`, within `parent` when one is given. Messages have no index on
    /// their names: nothing looks for them by name.
    pub async fn find_by_name(
        &self,
        table: Table,
        parent: Option<&str>,
        name: &str,
    ) -> Result<Option<StoredRow>, StoreError> {
        both!(self.find_by_name(table, parent, name))
    }

    pub async fn list_rows(&self, query: &RowQuery) -> Result<Vec<StoredRow>, StoreError> {
        both!(self.list_rows(query))
    }

    /// The same three for what hardly ever changes, from memory where that is as good: see [`known`].
    pub(crate) async fn known_row(&self, table: Table, id: &str) -> Result<Option<StoredRow>, StoreError> {
        let question = Question::Row(table, id.to_owned());
        let read = async { Ok(self.find_row(table, id).await?.into_iter().collect()) };
        Ok(self.ask(question, read).await?.first().cloned())
    }

    pub(crate) async fn known_by_name(&self, table: Table, name: &str) -> Result<Option<StoredRow>, StoreError> {
        let question = Question::Name(table, name.to_owned());
        let read = async { Ok(self.find_by_name(table, None, name).await?.into_iter().collect()) };
        Ok(self.ask(question, read).await?.first().cloned())
    }

    pub(crate) async fn known_rows(&self, query: RowQuery) -> Result<Arc<[StoredRow]>, StoreError> {
        let read = async { Ok(self.list_rows(&query).await?.into()) };
        self.ask(Question::List(query.clone()), read).await
    }

    async fn ask(
        &self,
        question: Question,
        read: impl Future<Output = Result<Arc<[StoredRow]>, StoreError>>,
    ) -> Result<Arc<[StoredRow]>, StoreError> {
        let known: &Known = match &self.backend {
            Backend::Sqlite(store) => store.known(),
            Backend::Postgres(store) => store.known(),
        };
        let since = known.since(&question);
        if let Some(rows) = known.find(&question, since) {
            return Ok(rows);
        }
        let rows = read.await?;
        known.remember(question, since, &rows);
        Ok(rows)
    }

    /// Draws the next number for a table with integer ids; numbers may be lost, never repeated.
    pub async fn next_number(&self, table: Table) -> Result<i64, StoreError> {
        both!(self.next_number(table))
    }

    /// What was answered to this key before.
    pub async fn find_answer(&self, scope: &str, key: &str) -> Result<Option<StoredAnswer>, StoreError> {
        let outcome = both!(self.find_answer(scope, key));
        host::failpoint!("store.dedup.after");
        outcome
    }

    pub async fn list_events(&self, query: &EventQuery) -> Result<EventPage, StoreError> {
        let outcome = both!(self.list_events(query));
        host::failpoint!("store.events.after");
        outcome
    }

    /// The first event of the commit that led to `version`, with its cause `{commit, command, ids}` as JSON.
    pub async fn find_cause(&self, subject: &Subject, version: i64) -> Result<Option<String>, StoreError> {
        both!(self.find_cause(subject, version))
    }

    /// Completes what was done and claims what is due, in one commit.
    pub async fn work(&self, done: Vec<Ack>, claim: Claim) -> Result<Worked, StoreError> {
        host::failpoint!("store.claim.before");
        let outcome = both_unhurried!(self.work(done, claim));
        host::failpoint!("store.claim.after");
        outcome.inspect(|worked| self.meter().count_work(worked))
    }

    pub async fn heartbeat(
        &self,
        beats: &[Beat],
        lease: std::time::Duration,
        now: domain::time::Timestamp,
    ) -> Result<Heartbeat, StoreError> {
        host::failpoint!("store.heartbeat.before");
        let outcome = both!(self.heartbeat(beats, lease, now));
        host::failpoint!("store.heartbeat.after");
        outcome.inspect(|heard| self.meter().count_heartbeat(heard))
    }

    /// Makes tasks ready again whose lease ended: by time on PostgreSQL; on SQLite those of other incarnations.
    pub async fn reap(&self, incarnation: &str, limit: u32) -> Result<Reaped, StoreError> {
        host::failpoint!("store.reap.before");
        let outcome = both!(self.reap(incarnation, limit));
        host::failpoint!("store.reap.after");
        outcome.inspect(|reaped| self.meter().count_reaped(reaped))
    }

    /// Swaps the fence of a leased task for a new one, for the process that took its attempt over; `None` when `old`
    /// no longer holds. Works on leases of older incarnations.
    pub async fn adopt(
        &self,
        task: &domain::ids::TaskId,
        old: domain::ids::Fence,
        incarnation: &str,
        lease: std::time::Duration,
    ) -> Result<Option<domain::task::Task>, StoreError> {
        host::failpoint!("store.adopt.before");
        let outcome = both!(self.adopt(task, old, incarnation, lease));
        host::failpoint!("store.adopt.after");
        outcome
    }

    /// Leases that other incarnations still hold, so that a restarted process can adopt their attempts first.
    pub async fn list_leases(&self, except_incarnation: &str) -> Result<Vec<domain::task::Task>, StoreError> {
        both!(self.list_leases(except_incarnation))
    }

    /// Makes scheduled tasks ready whose time has come, at most `limit`; how many there were, and when the next is due.
    pub async fn promote(
        &self,
        now: domain::time::Timestamp,
        limit: u32,
    ) -> Result<(u32, Option<domain::time::Timestamp>), StoreError> {
        host::failpoint!("store.promote.before");
        let outcome = both!(self.promote(now, limit));
        host::failpoint!("store.promote.after");
        outcome
    }

    pub async fn find_task(&self, id: &domain::ids::TaskId) -> Result<Option<domain::task::Task>, StoreError> {
        both!(self.find_task(id))
    }

    pub async fn list_tasks(&self, query: &TaskQuery) -> Result<Vec<domain::task::Task>, StoreError> {
        both!(self.list_tasks(query))
    }

    pub async fn count_tasks(&self) -> Result<QueueCounts, StoreError> {
        both!(self.count_tasks())
    }

    /// Deletes one slice of what retention no longer keeps; how many rows went.
    pub async fn prune(&self, retention: &Retention) -> Result<u64, StoreError> {
        host::failpoint!("store.prune.before");
        let outcome = both!(self.prune(retention));
        host::failpoint!("store.prune.after");
        outcome
    }

    /// Writes a consistent copy of an SQLite ledger; PostgreSQL is backed up with its own tools and refuses.
    pub async fn backup(&self, to: &std::path::Path) -> Result<(), StoreError> {
        both_unhurried!(self.backup(to))
    }

    /// Integrity as the database itself sees it, plus our own invariants; empty means sound. Read-only.
    pub async fn check(&self) -> Result<Vec<String>, StoreError> {
        both_unhurried!(self.check())
    }

    /// What this process has done to the ledger so far.
    pub fn meter(&self) -> &Meter {
        match &self.backend {
            Backend::Sqlite(store) => store.meter(),
            Backend::Postgres(store) => store.meter(),
        }
    }

    pub fn wake(&self) -> Wake {
        match &self.backend {
            Backend::Sqlite(store) => store.wake(),
            Backend::Postgres(store) => store.wake(),
        }
    }

    /// Ends background threads and connections after what was accepted is durable.
    pub async fn close(&self) {
        both_unhurried!(self.close());
    }
}
