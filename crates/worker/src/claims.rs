//! The loops that claim tasks and hand each to its handler.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use control::{Cause, CommandError, Control, ledger::Rendered};
use domain::{
    commit::{Ack, Then},
    task::{Lane, Task},
};
use futures_util::{StreamExt, stream::FuturesUnordered};
use host::trace::{self, Origin, Span};
use store::{
    StoreError,
    meter::Handled,
    queue::{Caps, Claim},
};
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Handle, StartError, Worker,
    acks::{self, Batch, Waiting},
    config::WorkerConfig,
    failure::Failure,
    lease::{Deadline, Lease, Leases},
};

/// How long at most until an acknowledgement is tried again while the ledger cannot be written.
const ACKNOWLEDGE_AT_LEAST_EVERY: Duration = Duration::from_secs(1);
/// How long at most until a claim is tried again that failed.
const CLAIM_AT_LEAST_EVERY: Duration = Duration::from_secs(5);
/// The most tasks that one claim takes: a third of the usual room, so that handlers work while the ledger is written.
const TOGETHER: usize = 500;
/// How many claims of quick tasks are under way at once: while the ledger carries out one and flushes another, what the
/// third brought is handled, and none of them waits for the others.
const AT_ONCE: usize = 3;
/// What makes another claim beside one that is under way worth its commit: so many acknowledgements, or room for so many
/// tasks while more are waiting than were taken.
const WORTH_ANOTHER: usize = 64;
/// How many tasks run programs of git at once in one process.
pub(crate) const GIT_AT_ONCE: usize = 64;

/// Starts a worker: adopts what an earlier one left running, then claims.
pub async fn start(config: WorkerConfig, control: Control) -> Result<Handle, StartError> {
    for dir in [config.data_dir.clone(), config.attempts_dir(), config.workers_dir()] {
        host::fs::create_private_dir(&dir).map_err(StartError::Directory)?;
    }
    let (worker, waiting) = prepared(config, control);
    let alive = worker.config.workers_dir().join(&worker.incarnation);
    let alive = host::fs::LockFile::acquire(&alive).map_err(StartError::Alive)?;
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
    // Waited for by a drain: what its last claims bring is leased to this worker.
    let claiming = worker.clone().claim_fast(slots.clone(), waiting);
    host::task::spawn("claim fast", worker.tracker.track_future(claiming));
    host::task::spawn("claim engine", worker.clone().claim_engines(slots));
    tracing::info!(worker = %worker.incarnation, "Started worker {}", worker.incarnation);
    Ok(Handle { worker, _alive: alive })
}

/// A worker that does nothing yet, and what its handlers send to the loop that is to claim.
fn prepared(config: WorkerConfig, control: Control) -> (Worker, Waiting) {
    let (acks, waiting) = acks::channel();
    let worker = Worker {
        control,
        config: Arc::new(config),
        incarnation: format!("w-{}", host::random::base62(12)),
        leases: Leases::default(),
        acks,
        git_slots: Arc::new(Semaphore::new(GIT_AT_ONCE)),
        tracker: TaskTracker::new(),
        git: Arc::default(),
        survey: Arc::default(),
        draining: CancellationToken::new(),
    };
    (worker, waiting)
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

/// Claims wait after one that failed, for longer each time; acknowledgements do not.
#[derive(Debug, Default)]
struct Trouble {
    pause: Duration,
    over: Option<Instant>,
}

impl Trouble {
    fn met(&mut self, error: &StoreError) {
        tracing::warn!(%error, "A claim failed");
        self.pause = (self.pause * 2).clamp(Duration::from_millis(50), CLAIM_AT_LEAST_EVERY);
        self.over = Some(host::clock::monotonic() + self.pause);
    }

    fn is_over(&self) -> bool {
        self.over.is_none_or(|over| over <= host::clock::monotonic())
    }

    /// Waits until it is over.
    async fn pass(&self) {
        if let Some(over) = self.over {
            tokio::time::sleep_until(over.into()).await;
        }
    }
}

/// What is known of the queue of quick tasks, and of the claims that are under way.
#[derive(Debug)]
struct Ahead {
    /// Tasks may be ready that no claim has asked for.
    is_due: bool,
    /// The last claim brought as many as it asked for.
    is_more: bool,
    /// Room that the claims under way may take, less what they will make.
    promised: isize,
}

impl Ahead {
    /// Counts a claim that begins; what it is to be counted down by.
    fn promise(&mut self, room: usize, done: usize) -> isize {
        let promised = room.cast_signed() - done.cast_signed();
        self.promised += promised;
        self.is_more = false;
        promised
    }

    fn came(&mut self, asked: usize, promised: isize, claimed: usize) {
        self.promised -= promised;
        if asked > 0 {
            self.is_due = claimed > 0;
            self.is_more = claimed == asked;
        }
    }

    /// A claim failed: what it asked for is still to be claimed.
    fn failed(&mut self, promised: isize) {
        self.promised -= promised;
        self.is_due = true;
    }
}

impl Worker {
    /// Claims what is quickly done, and takes along what handlers have done: one commit for both.
    async fn claim_fast(self, slots: Slots, mut waiting: Waiting) {
        let wake = self.control.store().wake();
        let mut trouble = Trouble::default();
        let mut ahead = Ahead { is_due: true, is_more: false, promised: 0 };
        let mut under_way = FuturesUnordered::new();
        while !self.draining.is_cancelled() {
            let is_first = under_way.is_empty();
            let room = self.room(&slots, waiting.count(), &ahead);
            let is_worth = match is_first {
                true => ahead.is_due || waiting.count() > 0,
                false => {
                    under_way.len() < AT_ONCE
                        && (waiting.count() >= WORTH_ANOTHER || ahead.is_more && room >= WORTH_ANOTHER)
                }
            };
            if is_worth {
                let done = waiting.take().await;
                let room = if trouble.is_over() { self.room(&slots, done.len(), &ahead) } else { 0 };
                if room > 0 || done.len() > 0 {
                    under_way.push(self.claim_counted(room, ahead.promise(room, done.len()), done, &slots));
                    continue;
                }
            }
            let may_claim = trouble.is_over();
            let share = if is_first { 1 } else { WORTH_ANOTHER };
            tokio::select! {
                Some((asked, promised, claimed)) = under_way.next() => match claimed {
                    Ok(claimed) => {
                        if asked > 0 {
                            trouble = Trouble::default();
                        }
                        ahead.came(asked, promised, claimed);
                    }
                    Err(error) => {
                        trouble.met(&error);
                        ahead.failed(promised);
                    }
                },
                () = waiting.gather(share), if under_way.len() < AT_ONCE => {}
                () = wake.tasks(), if is_first && may_claim && room > 0 => ahead.is_due = true,
                () = self.room_is_made(&slots), if is_first && may_claim && room == 0 => ahead.is_due = true,
                () = trouble.pass(), if is_first && !may_claim => {}
                () = tokio::time::sleep(self.config.poll), if is_first => ahead.is_due = true,
                () = self.draining.cancelled() => {}
            }
        }
        while under_way.next().await.is_some() {}
    }

    async fn claim_counted(
        &self,
        asked: usize,
        promised: isize,
        done: Batch,
        slots: &Slots,
    ) -> (usize, isize, Result<usize, StoreError>) {
        (asked, promised, self.claim(Lane::Fast, asked, done, slots).await)
    }

    /// For how many quick tasks there is room once so many are acknowledged and the claims that are under way have ended:
    /// handlers wait for these very commits. None while programs of git take all of theirs, so that no more pile up behind
    /// them here while other processes are idle.
    fn room(&self, slots: &Slots, done: usize, ahead: &Ahead) -> usize {
        if self.git_slots.available_permits() == 0 {
            return 0;
        }
        (slots.fast.available_permits() + done).saturating_add_signed(-ahead.promised).min(TOGETHER)
    }

    async fn room_is_made(&self, slots: &Slots) {
        made(&slots.fast).await;
        made(&self.git_slots).await;
    }

    async fn claim_engines(self, slots: Slots) {
        let wake = self.control.store().wake();
        let mut trouble = Trouble::default();
        while !self.draining.is_cancelled() {
            // Waits for room first, so that nothing is leased that has to queue here.
            made(&slots.engine).await;
            let room = slots.engine.available_permits().clamp(1, TOGETHER);
            match self.claim(Lane::Engine, room, Batch::default(), &slots).await {
                Ok(claimed) => {
                    trouble = Trouble::default();
                    if claimed > 0 {
                        continue;
                    }
                }
                Err(error) => {
                    trouble.met(&error);
                    trouble.pass().await;
                }
            }
            tokio::select! {
                () = wake.tasks() => {}
                () = tokio::time::sleep(self.config.poll) => {}
                () = self.draining.cancelled() => {}
            }
        }
    }

    /// Acknowledges what is done and claims as many tasks as there is room for, each handed to its handler; how many there
    /// were.
    async fn claim(&self, lane: Lane, room: usize, done: Batch, slots: &Slots) -> Result<usize, StoreError> {
        let deadline = self.deadline(host::clock::since_boot());
        let claim = self.claim_of(lane, u32::try_from(room).unwrap_or(u32::MAX));
        let worked = self.control.store().work(done.acks(), claim).await?;
        done.answer(&worked.fenced);
        let claimed = worked.tasks.len();
        for task in worked.tasks {
            self.begin(task, &deadline, slots);
        }
        Ok(claimed)
    }

    fn claim_of(&self, lane: Lane, limit: u32) -> Claim {
        Claim {
            lane,
            incarnation: self.incarnation.clone(),
            limit,
            lease: self.config.lease,
            caps: match lane {
                Lane::Fast => Caps::default(),
                Lane::Engine => self.config.caps.clone(),
            },
            now: self.control.clock().now(),
        }
    }

    /// Hands a leased task to its handler, which waits for room where there is none at this moment.
    pub(crate) fn begin(&self, task: Task, deadline: &Deadline, slots: &Slots) {
        let slots = Arc::clone(slots.of(task.kind.lane()));
        let room = Arc::clone(&slots).try_acquire_owned();
        let Some(lease) = self.leases.take(task, deadline) else { return };
        host::failpoint!("worker.task.claimed");
        let worker = self.clone();
        host::task::spawn(
            "task",
            self.tracker.track_future(async move {
                let _room = match room {
                    Ok(room) => Ok(room),
                    Err(_) => slots.acquire_owned().await,
                };
                let meter = worker.control.store().meter();
                let begun = host::clock::monotonic();
                meter.begin_task();
                let span = span_of(&lease);
                let how = Box::pin(span.around(worker.carry_out(&lease))).await;
                span.set("pilothouse.outcome", || how.as_str());
                meter.end_task(lease.task.kind, how, begun.elapsed());
                worker.leases.release(&lease);
            }),
        );
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
                    Box::pin(self.report_death(lease, error)).await;
                    Handled::Dead
                } else {
                    self.acknowledge(lease, lease.ack(then)).await;
                    Handled::Again
                }
            }
        }
    }

    /// Acknowledges a task, for as long as its lease holds: on SQLite, where no lease runs out, a task that is left alone
    /// stays leased until the next start, however soon the ledger could be written again.
    pub(crate) async fn acknowledge(&self, lease: &Lease, ack: Ack) {
        let outcome = match self.acks.send(ack.clone()).await {
            Some(true) => Ok(()),
            Some(false) => Err(CommandError::Fenced),
            None => self.acknowledge_alone(lease, ack).await,
        };
        if let Err(error) = outcome {
            tracing::warn!(task.id = %lease.task.id, %error, "Task {} could not be acknowledged", lease.task.id);
        }
    }

    /// In a commit of its own; nothing came of it when the lease was lost before.
    async fn acknowledge_alone(&self, lease: &Lease, ack: Ack) -> Result<(), CommandError> {
        let cause = Cause::of(self.actor()).acknowledging(ack);
        let mut pause = Duration::from_millis(10);
        loop {
            match self.control.record(&cause, &"acknowledge", Rendered::default()).await {
                Err(CommandError::Store(error)) if error.0.is_transient() => {
                    tokio::select! {
                        () = tokio::time::sleep(pause) => pause = (pause * 3).min(ACKNOWLEDGE_AT_LEAST_EVERY),
                        () = lease.lost.cancelled() => return Ok(()),
                    }
                }
                outcome => return outcome,
            }
        }
    }
}

/// Waits until there is room.
async fn made(slots: &Semaphore) {
    // These are never closed.
    drop(slots.acquire().await);
}

#[cfg(test)]
mod tests;
