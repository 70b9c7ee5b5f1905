//! Leases: what a handler holds while it works, kept alive by heartbeats, given up on our own clock.
//!
//! A handler that sees [`Lease::lost`] writes nothing more and leaves nothing running. On PostgreSQL a lease counts as
//! lost once the last acknowledged heartbeat is older than the lease less five seconds, before anyone else may claim; on
//! SQLite a lease lasts as long as the process, which alone owns the file.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use domain::{
    actor::Actor,
    commit::{Ack, Then},
    ids::{Fence, TaskId},
    run::Begin,
    task::{Task, TaskState},
};
use engines::supervisor;
use store::Beat;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::Worker;

/// How long before the end of a lease its holder stops.
const MARGIN: Duration = Duration::from_secs(5);

/// How often at most a wake-up makes us look before the next heartbeat is due.
const LEARN_AT_MOST: Duration = Duration::from_secs(1);

/// One task held under its fence.
#[derive(Clone, Debug)]
pub(crate) struct Lease {
    pub(crate) task: Arc<Task>,
    pub(crate) fence: Fence,
    /// Somebody no longer wants the task: known from the claim on, or learned at a heartbeat.
    pub(crate) stop: CancellationToken,
    /// The lease was taken over or ran out.
    pub(crate) lost: CancellationToken,
    /// Until when a supervised tree may live without hearing from us, since boot; `None` on SQLite.
    pub(crate) deadline: watch::Receiver<Option<Duration>>,
}

impl Lease {
    /// Guards a write in the middle of the work.
    pub(crate) fn keep(&self) -> Ack {
        self.ack(Then::Keep)
    }

    pub(crate) fn done(&self) -> Ack {
        self.ack(Then::Done)
    }

    pub(crate) fn is_told_to_stop(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// What an attempt begins with that this task carries.
    pub(crate) fn begin(&self, worker: &str) -> Begin {
        let (task, worker) = (self.task.id.clone(), worker.to_owned());
        Begin { task, fence: self.fence, worker, nonce: supervisor::new_nonce() }
    }

    pub(crate) fn ack(&self, then: Then) -> Ack {
        Ack { task: self.task.id.clone(), fence: self.fence, then }
    }
}

/// All leases of this process.
#[derive(Clone, Debug, Default)]
pub(crate) struct Leases {
    held: Arc<Mutex<HashMap<TaskId, Held>>>,
}

#[derive(Debug)]
struct Held {
    fence: Fence,
    stop: CancellationToken,
    lost: CancellationToken,
    deadline: Deadline,
}

/// Until when work may go on, since boot, for all that was leased together; `None` on SQLite.
pub(crate) type Deadline = Arc<watch::Sender<Option<Duration>>>;

impl Leases {
    /// Takes charge of a claimed task; `None` when the task is not leased.
    pub(crate) fn take(&self, task: Task, deadline: &Deadline) -> Option<Lease> {
        let TaskState::Leased { fence, .. } = &task.state else { return None };
        let held = Held {
            fence: *fence,
            stop: CancellationToken::new(),
            lost: CancellationToken::new(),
            deadline: Arc::clone(deadline),
        };
        if task.stop {
            held.stop.cancel();
        }
        let lease = Lease {
            fence: *fence,
            stop: held.stop.clone(),
            lost: held.lost.clone(),
            deadline: deadline.subscribe(),
            task: Arc::new(task),
        };
        self.lock().insert(lease.task.id.clone(), held);
        Some(lease)
    }

    /// The handler is through with the task.
    pub(crate) fn release(&self, lease: &Lease) {
        let mut held = self.lock();
        if held.get(&lease.task.id).is_some_and(|held| held.fence == lease.fence) {
            held.remove(&lease.task.id);
        }
    }

    fn beats(&self) -> Vec<Beat> {
        self.lock().iter().map(|(task, held)| Beat { task: task.clone(), fence: held.fence }).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<TaskId, Held>> {
        self.held.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Worker {
    /// The deadline of what was leased by a question that was sent at this instant, since boot.
    pub(crate) fn deadline(&self, sent_at: Duration) -> Deadline {
        Arc::new(watch::Sender::new(self.deadline_from(sent_at)))
    }

    /// On PostgreSQL the instant, since boot, at which work under a lease taken or renewed now must have stopped.
    fn deadline_from(&self, sent_at: Duration) -> Option<Duration> {
        let timed = self.control.store().backend_name() == "postgres";
        timed.then(|| sent_at + self.config.lease.saturating_sub(MARGIN.min(self.config.lease / 3)))
    }

    pub(crate) fn actor(&self) -> Actor {
        Actor::Worker { id: self.incarnation.clone() }
    }

    /// Renews every lease until the process ends: also while it drains.
    pub(crate) async fn heartbeat(self) {
        let beat = if self.control.store().backend_name() == "postgres" {
            self.config.lease / 3
        } else {
            // No lease runs out on SQLite: this only learns what is to stop.
            Duration::from_millis(250)
        };
        let wake = self.control.store().wake();
        loop {
            tokio::select! {
                () = tokio::time::sleep(beat) => {}
                // Something was committed: perhaps that one of our tasks is no longer wanted.
                () = async {
                    tokio::time::sleep(LEARN_AT_MOST.min(beat)).await;
                    wake.events().await;
                } => {}
            }
            self.beat().await;
        }
    }

    async fn beat(&self) {
        let beats = self.leases.beats();
        if !beats.is_empty() {
            // Measured from before the question, so that a slow answer shortens the lease and never lengthens it.
            let sent_at = host::clock::since_boot();
            let now = self.control.clock().now();
            match self.control.store().heartbeat(&beats, self.config.lease, now).await {
                Ok(heard) => {
                    if self.control.store().backend_name() == "postgres" {
                        self.control.clock().correct(heard.now);
                    }
                    let deadline = self.deadline_from(sent_at);
                    let mut held = self.leases.lock();
                    for beat in &beats {
                        let Some(held) = held.get_mut(&beat.task).filter(|held| held.fence == beat.fence) else {
                            continue;
                        };
                        if heard.fenced.contains(&beat.task) {
                            held.lost.cancel();
                        } else if !heard.skipped.contains(&beat.task) {
                            held.deadline.send_replace(deadline);
                        }
                        if heard.stop.contains(&beat.task) {
                            held.stop.cancel();
                        }
                    }
                }
                Err(error) => tracing::warn!(%error, "A heartbeat failed"),
            }
        }
        self.fence_ourselves();
    }

    /// Gives up what was not renewed in time, whatever the database says.
    fn fence_ourselves(&self) {
        let now = host::clock::since_boot();
        for held in self.leases.lock().values() {
            if held.deadline.borrow().is_some_and(|deadline| deadline <= now) {
                held.lost.cancel();
            }
        }
    }
}
