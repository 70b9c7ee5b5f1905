//! The ledger on PostgreSQL: any number of processes over one database.
//!
//! Commits go through a batcher over a few connections ([`batch`], [`statement`]); those with guards go alone
//! ([`guarded`]). Reads, claims and heartbeats have connections of their own, so that a burst of commits delays no lease.
//! Nothing here waits for a hint: a poll of at most a second is the truth ([`hint`]).

mod connect;
mod fault;
mod migrate;
mod records;
mod parameters;
mod statement;
mod batch;
mod guarded;
mod outcome;
mod tasks;
mod claims;
mod leases;
mod rows;
mod events;
mod prune;
mod check;
mod hint;

use std::{sync::Arc, time::Duration};

use deadpool_postgres::Pool;
use domain::commit::{Commit, Committed};

use crate::{
    StoreError,
    postgres::{
        batch::{Answer, Batcher},
        connect::{Connector, Role},
        fault::Fault,
        hint::Hints,
        leases::HeartbeatConnection,
    },
    queue::Wake,
    rules,
};

/// How long an unknown outcome is looked for before the caller is told that it stays unknown.
const SETTLE_WITHIN: Duration = Duration::from_secs(15);

/// The backend; clones share everything.
#[derive(Clone, Debug)]
pub struct PostgresStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// Reads and the queue.
    pool: Pool,
    /// Commits that go alone.
    writers: Pool,
    batcher: Batcher,
    heartbeat: HeartbeatConnection,
    hints: Hints,
    wake: Wake,
    /// The random name of this database's history.
    epoch: String,
}

impl PostgresStore {
    pub(crate) async fn open(url: &str) -> Result<Self, StoreError> {
        let connector = Connector::parse(url)?;
        let mut client = connector.connect(Role::General).await?;
        connect::check_fitness(&client).await?;
        let epoch = migrate::migrate(&mut client).await?;
        let wake = Wake::default();
        let inner = Inner {
            pool: connector.pool(Role::General, POOL)?,
            writers: connector.pool(Role::Keyed, WRITERS)?,
            batcher: Batcher::start(&connector),
            heartbeat: HeartbeatConnection::new(connector.clone()),
            hints: Hints::start(connector, wake.clone()),
            wake,
            epoch,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    pub(crate) async fn commit(&self, commit: Commit) -> Result<Committed, StoreError> {
        rules::validate(&commit)?;
        let commit = Arc::new(commit);
        let answer = match guarded::is_guarded(&commit) {
            true => self.commit_alone(&commit).await?,
            false => self.inner.batcher.commit(commit.clone()).await?,
        };
        let committed = match answer {
            Ok(committed) => committed,
            Err(Fault::Lost(error)) => self.settle(&commit, error).await?,
            Err(fault) => return Err(fault.into_error()),
        };
        if matches!(committed, Committed::Applied { .. }) {
            self.announce(&commit);
        }
        Ok(committed)
    }

    /// Wakes whoever waits, here at once and elsewhere soon.
    fn announce(&self, commit: &Commit) {
        let now = commit.cause.now;
        let again = commit.ack.as_ref().is_some_and(|ack| matches!(ack.then, domain::commit::Then::Again { .. }));
        if again || commit.tasks.iter().any(|task| task.due_at.is_none_or(|due| due <= now)) {
            self.tasks_ready();
        }
        if !commit.events.is_empty() {
            self.inner.wake.events_committed();
            self.inner.hints.events();
        }
    }

    fn tasks_ready(&self) {
        self.inner.wake.tasks_ready();
        self.inner.hints.tasks();
    }

    async fn commit_alone(&self, commit: &Commit) -> Result<Answer, StoreError> {
        let mut client = self.inner.writers.get().await.map_err(|error| fault::of_pool(&error))?;
        let mut tries = 1;
        loop {
            let answer = guarded::commit(&mut client, commit).await;
            match &answer {
                Err(fault) if guarded::is_worth_another(fault, tries) && tries < batch::TRIES => {
                    tokio::time::sleep(batch::jitter(Duration::from_millis(5 << tries))).await;
                    tries += 1;
                }
                _ => return Ok(answer),
            }
        }
    }

    /// The connection was lost before the answer came: finds out whether the commit is durable, else repeats it once.
    ///
    /// A repeat is safe whatever the first attempt still does: both need the same version, key or fence, and row locks let
    /// one of them through.
    async fn settle(&self, commit: &Commit, lost: StoreError) -> Result<Committed, StoreError> {
        let unknown =
            |error: StoreError| StoreError::UnknownOutcome { commit: commit.id.to_string(), reason: error.to_string() };
        tracing::warn!(commit.id = %commit.id, "Lost the connection before commit {} was answered", commit.id);
        let until = host::clock::monotonic() + SETTLE_WITHIN;
        let mut repeated = false;
        let mut last = lost;
        while host::clock::monotonic() < until {
            match self.look(commit).await {
                Ok(Some(true)) => return Ok(outcome::applied(commit)),
                Ok(None) => return Err(unknown(last)),
                Ok(Some(false)) if repeated => return Err(unknown(last)),
                Ok(Some(false)) => {
                    repeated = true;
                    match self.commit_alone(commit).await {
                        Ok(Ok(Committed::Applied { version })) => return Ok(Committed::Applied { version }),
                        // Refused: by others, or by the first attempt that came through after all.
                        Ok(Ok(refusal)) => {
                            return match self.look(commit).await.map_err(unknown)? {
                                Some(true) => Ok(outcome::applied(commit)),
                                Some(false) => Ok(refusal),
                                None => Err(unknown(last)),
                            };
                        }
                        Ok(Err(Fault::Lost(error))) => last = error,
                        Ok(Err(Fault::Contended(error) | Fault::Refused(error))) => {
                            return match self.look(commit).await.map_err(unknown)? {
                                Some(true) => Ok(outcome::applied(commit)),
                                Some(false) => Err(error),
                                None => Err(unknown(error)),
                            };
                        }
                        Err(error) => {
                            // Not sent: it may be tried again.
                            repeated = false;
                            last = error;
                        }
                    }
                }
                Err(error) => last = error,
            }
            tokio::time::sleep(batch::jitter(Duration::from_millis(250))).await;
        }
        Err(unknown(last))
    }

    async fn look(&self, commit: &Commit) -> Result<Option<bool>, StoreError> {
        let client = self.client().await?;
        outcome::find(&client, commit).await
    }

    async fn client(&self) -> Result<deadpool_postgres::Client, StoreError> {
        self.inner.pool.get().await.map_err(|error| fault::of_pool(&error))
    }

    pub(crate) async fn backup(&self, _to: &std::path::Path) -> Result<(), StoreError> {
        Err(StoreError::Unfit {
            reason: "a PostgreSQL ledger is backed up with PostgreSQL's own tools: pg_dump for one database, \
                     pg_basebackup and WAL archiving for a point in time"
                .to_owned(),
        })
    }

    pub(crate) fn wake(&self) -> Wake {
        self.inner.wake.clone()
    }

    pub(crate) async fn close(&self) {
        self.inner.batcher.close().await;
        self.inner.hints.close();
        self.inner.pool.close();
        self.inner.writers.close();
    }
}

/// Connections for reads and the queue, and for commits that go alone.
const POOL: usize = 12;
const WRITERS: usize = 4;
