//! The ledger on PostgreSQL: any number of processes over one database.
//!
//! Commits go through a batcher over a few connections ([`batch`], [`statement`]); those with guards go alone
//! ([`guarded`]). Reads, claims and heartbeats have connections of their own, so that a burst of commits delays no lease.
//! Nothing here waits for a hint: a poll of at most a second is the truth ([`hint`]).

mod patience;
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
mod told;
mod claims;
mod lease;
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
    Meter, StoreError,
    known::{Known, Tables},
    postgres::{
        batch::{Answer, Batcher},
        connect::{Connector, Role},
        fault::Fault,
        hint::Hints,
        leases::HeartbeatConnection,
        patience::{Lent, Patience},
        prune::Pruned,
    },
    queue::Wake,
    rules,
};

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
    patience: Patience,
    wake: Wake,
    known: Known,
    meter: Meter,
    pruned: Pruned,
    /// The random name of this database's history.
    epoch: String,
}

impl PostgresStore {
    pub(crate) async fn open(url: &str) -> Result<Self, StoreError> {
        let (url, has_hints) = hint::of_address(url);
        let connector = Connector::parse(&url)?;
        let mut client = connector.connect(Role::General).await?;
        let patience = connector.patience;
        let prepared = async {
            connect::check_fitness(&client).await?;
            host::failpoint!("postgres.open.connected");
            migrate::migrate(&mut client).await
        };
        let epoch = tokio::time::timeout(patience.open(), prepared).await.unwrap_or_else(|_| Err(fault::silent()))?;
        drop(client);
        let (wake, meter) = (Wake::default(), Meter::default());
        let inner = Inner {
            pool: connector.pool(Role::General, POOL)?,
            writers: connector.pool(Role::Keyed, WRITERS)?,
            batcher: Batcher::start(&connector, meter.clone()),
            heartbeat: HeartbeatConnection::new(connector.clone()),
            hints: if has_hints { Hints::start(connector, wake.clone()) } else { Hints::none() },
            patience,
            wake,
            known: Known::shared(),
            meter,
            pruned: Pruned::default(),
            epoch,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    pub(crate) fn meter(&self) -> &Meter {
        &self.inner.meter
    }

    pub(crate) async fn commit(&self, commit: Commit) -> Result<Committed, StoreError> {
        rules::validate(&commit)?;
        let commit = Arc::new(commit);
        let answer = match guarded::is_guarded(&commit) {
            true => self.commit_alone(&commit).await?,
            false => self.inner.batcher.commit(commit.clone()).await?,
        };
        let settled = match answer {
            Ok(committed) => Ok(committed),
            Err(Fault::Lost(error)) => Box::pin(self.settle(&commit, error)).await,
            Err(fault) => Err(fault.into_error()),
        };
        // Also after a failure, which may not be the last word.
        self.inner.known.forget(Tables::of(&commit.rows));
        let committed = settled?;
        if matches!(committed, Committed::Applied { .. }) {
            host::failpoint!("postgres.commit.unannounced");
            self.announce(&commit);
        }
        Ok(committed)
    }

    /// Wakes whoever waits, here at once and elsewhere soon.
    fn announce(&self, commit: &Commit) {
        let now = commit.cause.now;
        let again = commit.ack.as_ref().is_some_and(|ack| matches!(ack.then, domain::commit::Then::Again { .. }));
        let told = commit.withdraw.iter().any(|withdraw| !withdraw.begun.is_empty());
        if again || told || commit.tasks.iter().any(|task| task.due_at.is_none_or(|due| due <= now)) {
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
        let mut client = Lent::of(&self.inner.writers, self.inner.patience).await?;
        let mut tries = 1;
        loop {
            let answer = tokio::time::timeout(self.inner.patience.answer(), guarded::commit(&mut client, commit)).await;
            let answer = answer.unwrap_or_else(|_| Err(Fault::silent()));
            match &answer {
                Err(fault) if guarded::is_worth_another(fault, tries) && tries < batch::TRIES => {
                    tokio::time::sleep(batch::jitter(Duration::from_millis(5 << tries))).await;
                    tries += 1;
                }
                _ => return Ok(answer),
            }
        }
    }

    /// The answer was lost: finds out within its time whether the commit is durable, and repeats it while it is not.
    ///
    /// A repeat is safe whatever the first attempt still does: both need the same version, key or fence, and row locks let
    /// one of them through. "Not applied" is said only when the first attempt can no longer come through either.
    async fn settle(&self, commit: &Commit, lost: StoreError) -> Result<Committed, StoreError> {
        tracing::warn!(commit.id = %commit.id, "Lost the answer to commit {}", commit.id);
        let mut last = lost;
        let settled = tokio::time::timeout(self.inner.patience.settle(), async {
            loop {
                match self.look(commit).await {
                    Ok(Some(true)) => return Some(outcome::applied(commit)),
                    Ok(None) => return None,
                    Ok(Some(false)) => match self.commit_alone(commit).await {
                        Ok(Ok(applied @ Committed::Applied { .. })) => return Some(applied),
                        Ok(Ok(refusal)) => return self.believe(commit, refusal).await,
                        Ok(Err(Fault::Refused(error))) if !error.is_transient() => {
                            last = error;
                            let found = matches!(self.look(commit).await, Ok(Some(true)));
                            return found.then(|| outcome::applied(commit));
                        }
                        Ok(Err(fault)) => last = fault.into_error(),
                        Err(error) => last = error,
                    },
                    Err(error) => last = error,
                }
                tokio::time::sleep(batch::jitter(Duration::from_millis(250))).await;
            }
        });
        match settled.await {
            Ok(Some(committed)) => Ok(committed),
            Ok(None) | Err(_) => {
                Err(StoreError::UnknownOutcome { commit: commit.id.to_string(), reason: last.to_string() })
            }
        }
    }

    /// What the refusal of a repeat says about the first attempt; `None` when it says nothing.
    async fn believe(&self, commit: &Commit, refusal: Committed) -> Option<Committed> {
        match (self.look(commit).await, refusal) {
            // Refused by the first attempt, which came through after all.
            (Ok(Some(true)), _) => Some(outcome::applied(commit)),
            // Versions, fences and keys never come back, so the first attempt is refused for the same reason.
            (Ok(Some(false)), refusal @ (Committed::Duplicate(_) | Committed::Stale | Committed::Fenced)) => {
                Some(refusal)
            }
            // A lock may be released and a budget raised before the first attempt gets there.
            (Ok(Some(false)), Committed::Applied { .. } | Committed::Refused { .. }) | (Ok(None) | Err(_), _) => None,
        }
    }

    async fn look(&self, commit: &Commit) -> Result<Option<bool>, StoreError> {
        let client = self.client().await?;
        outcome::find(&client, commit).await
    }

    async fn client(&self) -> Result<Lent, StoreError> {
        Lent::of(&self.inner.pool, self.inner.patience).await
    }

    pub(crate) async fn backup(&self, _to: &std::path::Path) -> Result<(), StoreError> {
        Err(StoreError::Unfit {
            reason: "a PostgreSQL ledger is backed up with PostgreSQL's own tools: pg_dump for one database, \
                     pg_basebackup and WAL archiving for a point in time"
                .to_owned(),
        })
    }

    pub(crate) fn known(&self) -> &Known {
        &self.inner.known
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
