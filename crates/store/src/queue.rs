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
/// ready while it was claiming.
#[derive(Debug)]
pub struct Wake {
    tasks: std::sync::Arc<tokio::sync::watch::Sender<u64>>,
    seen: std::sync::atomic::AtomicU64,
    events: std::sync::Arc<tokio::sync::Notify>,
}

impl Default for Wake {
    fn default() -> Self {
        let tasks = std::sync::Arc::new(tokio::sync::watch::Sender::new(0));
        Self { tasks, seen: 0.into(), events: std::sync::Arc::default() }
    }
}

impl Clone for Wake {
    fn clone(&self) -> Self {
        let seen = *self.tasks.borrow();
        Self { tasks: self.tasks.clone(), seen: seen.into(), events: self.events.clone() }
    }
}

impl Wake {
    /// Waits until tasks may be ready.
    pub async fn tasks(&self) {
        use std::sync::atomic::Ordering;

        let seen = self.seen.load(Ordering::Relaxed);
        let mut tasks = self.tasks.subscribe();
        // The sender lives in `self`, so the channel cannot be closed.
        if let Ok(now) = tasks.wait_for(|now| *now != seen).await {
            self.seen.store(*now, Ordering::Relaxed);
        }
    }

    /// Waits until events may have been committed. Every waiter is woken.
    pub async fn events(&self) {
        self.events.notified().await;
    }

    pub(crate) fn tasks_ready(&self) {
        self.tasks.send_modify(|now| *now = now.wrapping_add(1));
    }

    pub(crate) fn events_committed(&self) {
        self.events.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

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
