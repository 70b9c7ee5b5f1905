//! What is asked of the queue: claim, heartbeat, reap, promote, prune.

use std::{collections::BTreeMap, time::Duration};

use domain::{
    commit::Ack,
    ids::{Fence, TaskId},
    task::{Lane, Task, TaskKind},
    time::Timestamp,
};

/// A claim of up to `limit` due tasks of one lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    pub lane: Lane,
    /// The claiming process, by the random name it drew at its start.
    pub incarnation: String,
    pub limit: u32,
    /// PostgreSQL: until when from the database's clock. On SQLite the lease belongs to the incarnation.
    pub lease: Duration,
    /// Caps of the engine lane; ignored in the fast lane.
    pub caps: Caps,
    /// The caller's wall clock: SQLite's time. PostgreSQL uses its own.
    pub now: Timestamp,
}

/// How many tasks of the engine lane may be leased at once, over all nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caps {
    pub total: Option<u32>,
    pub per_project: Option<u32>,
    /// By engine id.
    pub per_engine: BTreeMap<String, u32>,
}

/// What completing a batch and claiming the next brought, in one commit.
#[derive(Clone, Debug, PartialEq)]
pub struct Worked {
    /// The acknowledgements that no longer counted.
    pub fenced: Vec<Ack>,
    /// Every one leased under a fence of its own ([`domain::task::TaskState::Leased`]).
    pub tasks: Vec<Task>,
}

/// One lease to keep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beat {
    pub task: TaskId,
    pub fence: Fence,
}

/// What a heartbeat learned. A beat in neither list is still held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// Taken over, finished or withdrawn: stop at once, write nothing.
    pub fenced: Vec<TaskId>,
    /// Still held, but nobody wants it any more: stop and say so.
    pub stop: Vec<TaskId>,
    /// Held by a row lock somewhere; neither renewed nor lost. Beat again soon.
    pub skipped: Vec<TaskId>,
    /// The database's clock (SQLite: the caller's).
    pub now: Timestamp,
}

/// Leases that ended without an acknowledgement, now ready again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reaped {
    pub tasks: Vec<TaskId>,
}

/// A page of tasks, newest first by id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskQuery {
    /// State names; empty means all.
    pub states: Vec<String>,
    pub kinds: Vec<TaskKind>,
    pub after: Option<TaskId>,
    /// At most 500.
    pub limit: u32,
}

/// How many tasks are in which state, and how old the oldest ready one is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueCounts {
    pub by_state: BTreeMap<String, i64>,
    pub oldest_ready_at: Option<Timestamp>,
}

/// What may be deleted, as instants: anything older goes, in slices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    pub dedup_before: Timestamp,
    /// Dedup rows of scopes that begin with `http:`.
    pub idempotency_before: Timestamp,
    pub tasks_before: Timestamp,
    /// At most this many rows in one call.
    pub slice: u32,
}

/// A hint that something may be ready or new. The tables are the truth; a poll of at most a second backs it up.
///
/// Each clone remembers what it has seen, so that every one of several claiming loops is woken, also by what became
/// ready while it was claiming; and every follower, also by what was committed while it was reading.
#[derive(Debug)]
pub struct Wake {
    tasks: std::sync::Arc<tokio::sync::watch::Sender<u64>>,
    seen: std::sync::atomic::AtomicU64,
    events: std::sync::Arc<tokio::sync::watch::Sender<u64>>,
    events_seen: std::sync::atomic::AtomicU64,
}

impl Default for Wake {
    fn default() -> Self {
        let sender = || std::sync::Arc::new(tokio::sync::watch::Sender::new(0));
        Self { tasks: sender(), seen: 0.into(), events: sender(), events_seen: 0.into() }
    }
}

impl Clone for Wake {
    fn clone(&self) -> Self {
        let (seen, events_seen) = (*self.tasks.borrow(), *self.events.borrow());
        Self {
            tasks: self.tasks.clone(),
            seen: seen.into(),
            events: self.events.clone(),
            events_seen: events_seen.into(),
        }
    }
}

impl Wake {
    /// Waits until tasks may be ready.
    pub async fn tasks(&self) {
        changed(&self.tasks, &self.seen).await;
    }

    /// Waits until events may have been committed. Every waiter is woken.
    pub async fn events(&self) {
        changed(&self.events, &self.events_seen).await;
    }

    pub(crate) fn tasks_ready(&self) {
        self.tasks.send_modify(|now| *now = now.wrapping_add(1));
    }

    pub(crate) fn events_committed(&self) {
        self.events.send_modify(|now| *now = now.wrapping_add(1));
    }
}

/// Waits until the number is another than the one that was seen.
async fn changed(now: &tokio::sync::watch::Sender<u64>, seen: &std::sync::atomic::AtomicU64) {
    use std::sync::atomic::Ordering;

    let last = seen.load(Ordering::Relaxed);
    let mut numbers = now.subscribe();
    // The sender is borrowed, so the channel cannot be closed.
    if let Ok(now) = numbers.wait_for(|now| *now != last).await {
        seen.store(*now, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn events_that_were_committed_while_somebody_read_wake_them_when_they_wait() {
        let wake = Wake::default();
        let (reader, other) = (wake.clone(), wake.clone());
        wake.events_committed();

        reader.events().await;
        other.events().await;

        assert!(tokio::time::timeout(Duration::from_millis(20), reader.events()).await.is_err());
    }

    #[tokio::test]
    async fn every_clone_is_woken_also_by_what_came_before_it_waited() {
        let wake = Wake::default();
        let (fast, engine) = (wake.clone(), wake.clone());
        wake.tasks_ready();
        wake.tasks_ready();

        fast.tasks().await;
        engine.tasks().await;

        let again = tokio::time::timeout(Duration::from_millis(20), engine.tasks()).await;
        assert!(again.is_err(), "nothing became ready since");
    }
}
