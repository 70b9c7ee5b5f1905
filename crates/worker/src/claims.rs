//! The loops that claim tasks and hand each to its handler.

use std::{sync::Arc, time::Duration};

use control::Control;
use domain::{
    commit::{Ack, Then},
    task::{Lane, Task},
};
use host::trace::{self, Origin, Span};
use store::{
    meter::Handled,
    queue::{Caps, Claim},
};
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Handle, StartError, Worker,
    config::WorkerConfig,
    failure::Failure,
    lease::{Lease, Leases},
};

/// How long at most until an acknowledgement is tried again while the ledger cannot be written.
const ACKNOWLEDGE_AT_LEAST_EVERY: Duration = Duration::from_secs(1);

/// Starts a worker: adopts what an earlier one left running, then claims.
pub async fn start(config: WorkerConfig, control: Control) -> Result<Handle, StartError> {
    for dir in [config.data_dir.clone(), config.attempts_dir(), config.workers_dir()] {
        host::fs::create_private_dir(&dir).map_err(StartError::Directory)?;
    }
    let incarnation = format!("w-{}", host::random::base62(12));
    let alive = host::fs::LockFile::acquire(&config.workers_dir().join(&incarnation)).map_err(StartError::Alive)?;
    let worker = Worker {
        control,
        config: Arc::new(config),
        incarnation,
        leases: Leases::default(),
        tracker: TaskTracker::new(),
        git: Arc::default(),
        survey: Arc::default(),
        draining: CancellationToken::new(),
    };
    host::task::spawn("heartbeat", worker.clone().heartbeat());
    let slots = Slots::new(&worker.config);
    host::failpoint!("worker.start.alive");
    worker.recover(&slots).await.map_err(StartError::Recovery)?;
    host::failpoint!("worker.start.recovered");
    let looking = worker.clone();
    host::task::spawn("survey", async move {
        // Whoever needs it and finds nothing tries again, and says so.
        let _ = looking.look_at_machine().await;
    });
    host::task::spawn("housekeeping", worker.clone().housekeep());
    host::task::spawn("sweep", worker.clone().sweep());
    host::task::spawn("claim fast", worker.clone().claim(Lane::Fast, slots.clone()));
    host::task::spawn("claim engine", worker.clone().claim(Lane::Engine, slots));
    tracing::info!(worker = %worker.incarnation, "Started worker {}", worker.incarnation);
    Ok(Handle { worker, _alive: alive })
}

/// Room for tasks, by lane.
#[derive(Clone, Debug)]
pub(crate) struct Slots {
    fast: Arc<Semaphore>,
    engine: Arc<Semaphore>,
}

impl Slots {
    fn new(config: &WorkerConfig) -> Self {
        Self {
            fast: Arc::new(Semaphore::new(config.fast_slots.max(1))),
            engine: Arc::new(Semaphore::new(config.engine_slots.max(1))),
        }
    }

    fn of(&self, lane: Lane) -> &Arc<Semaphore> {
        match lane {
            Lane::Fast => &self.fast,
            Lane::Engine => &self.engine,
        }
    }
}

/// A task goes on with the trace of the commit that asked for it.
fn span_of(lease: &Lease) -> Span {
    let task = &lease.task;
    let carrier = if trace::is_on() { control::traced::carrier(&task.payload) } else { None };
    let span = Span::following(Origin::Task, "task", carrier.as_deref());
    span.rename(|| format!("task {}", task.kind.as_str()));
    span.set("pilothouse.task.id", || task.id.to_string());
    span.set("pilothouse.subject", || task.subject.to_string());
    span.set("pilothouse.fence", || lease.fence.0);
    span
}

impl Worker {
    async fn claim(self, lane: Lane, slots: Slots) {
        let wake = self.control.store().wake();
        let mut trouble = Duration::ZERO;
        while !self.draining.is_cancelled() {
            // Waits for room first, so that nothing is leased that has to queue here.
            let room = Arc::clone(slots.of(lane));
            let Ok(first) = Arc::clone(&room).acquire_owned().await else { return };
            drop(first);
            let free = u32::try_from(room.available_permits()).unwrap_or(1).max(1);
            let sent_at = host::clock::since_boot();
            match self.control.store().work(Vec::new(), self.claim_of(lane, free)).await {
                Ok(worked) => {
                    trouble = Duration::ZERO;
                    let claimed = worked.tasks.len();
                    for task in worked.tasks {
                        self.begin(task, sent_at, &slots).await;
                    }
                    if claimed > 0 {
                        continue;
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "A claim failed");
                    trouble = (trouble * 2).clamp(Duration::from_millis(50), Duration::from_secs(5));
                    tokio::time::sleep(trouble).await;
                }
            }
            tokio::select! {
                () = wake.tasks() => {}
                () = tokio::time::sleep(self.config.poll) => {}
                () = self.draining.cancelled() => {}
            }
        }
    }

    fn claim_of(&self, lane: Lane, limit: u32) -> Claim {
        Claim {
            lane,
            incarnation: self.incarnation.clone(),
            limit: limit.min(256),
            lease: self.config.lease,
            caps: match lane {
                Lane::Fast => Caps::default(),
                Lane::Engine => self.config.caps.clone(),
            },
            now: self.control.clock().now(),
        }
    }

    /// Hands a leased task to its handler.
    pub(crate) async fn begin(&self, task: Task, sent_at: Duration, slots: &Slots) {
        let Ok(room) = Arc::clone(slots.of(task.kind.lane())).acquire_owned().await else { return };
        let Some(lease) = self.leases.take(task, self.deadline_from(sent_at)) else { return };
        host::failpoint!("worker.task.claimed");
        let worker = self.clone();
        self.tracker.spawn(host::task::spawn("task", async move {
            let meter = worker.control.store().meter();
            let begun = host::clock::monotonic();
            meter.begin_task();
            let span = span_of(&lease);
            let how = Box::pin(span.around(worker.carry_out(&lease))).await;
            span.set("pilothouse.outcome", || how.as_str());
            meter.end_task(lease.task.kind, how, begun.elapsed());
            worker.leases.release(&lease);
            drop(room);
        }));
    }

    /// Runs the handler, and sees to it that the task is acknowledged or knowingly left alone.
    async fn carry_out(&self, lease: &Lease) -> Handled {
        let task = &lease.task;
        let failure = match self.handle(lease).await {
            Ok(()) => return Handled::Done,
            Err(failure) => failure,
        };
        match failure {
            Failure::Left => Handled::Left,
            Failure::Fenced => {
                tracing::warn!(task.id = %task.id, kind = task.kind.as_str(), "Fenced: task {} was taken over", task.id);
                Handled::Fenced
            }
            Failure::Task(failure) => {
                tracing::warn!(task.id = %task.id, kind = task.kind.as_str(), ?failure, "Task {} failed", task.id);
                let then = failure.then(task.failures, task.max_failures, self.control.clock().now());
                if let Then::Dead { error } = &then {
                    self.report_death(lease, error).await;
                    Handled::Dead
                } else {
                    self.acknowledge(lease, lease.ack(then)).await;
                    Handled::Again
                }
            }
        }
    }

    /// Acknowledges a task by itself, for as long as its lease holds: on SQLite, where no lease runs out, a task that is
    /// left alone stays leased until the next start, however soon the ledger could be written again.
    pub(crate) async fn acknowledge(&self, lease: &Lease, ack: Ack) {
        let cause = control::Cause::of(self.actor()).acknowledging(ack);
        let mut pause = Duration::from_millis(10);
        loop {
            match self.control.record(&cause, &"acknowledge", control::ledger::Rendered::default()).await {
                Err(control::CommandError::Store(error)) if error.0.is_transient() => {
                    tokio::select! {
                        () = tokio::time::sleep(pause) => pause = (pause * 3).min(ACKNOWLEDGE_AT_LEAST_EVERY),
                        () = lease.lost.cancelled() => return,
                    }
                }
                Ok(()) => return,
                Err(error) => {
                    tracing::warn!(%error, "A task could not be acknowledged");
                    return;
                }
            }
        }
    }
}
