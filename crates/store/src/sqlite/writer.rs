//! The one connection that writes, and its group commit.
//!
//! A thread takes what queued up while the last COMMIT was on its way to the disk, at most [`GROUP`] jobs, puts them into
//! one transaction, and answers all of them once that is durable. A job that is refused leaves nothing behind: the
//! transaction is begun anew and every job of it done again, each behind a savepoint, which keeps the others. That is
//! not how it begins, because SQLite copies each page that a savepoint sees changed for the first time.
//!
//! A caller who is alone does its job where it stands, because waking two threads takes longer than many a commit. As
//! soon as there are several, everything goes through the thread, whose groups are what makes many callers fast.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread::JoinHandle,
    time::Duration,
};

use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::{
    Meter, StoreError,
    known::{Known, Tables},
    queue::Wake,
    sqlite::{checkpoint::Checkpoints, fault, owner::Owner},
};

/// Jobs that may wait; one more is refused.
const QUEUE: usize = 4096;
/// Jobs that share one transaction.
const GROUP: usize = 256;

/// Transactions with savepoints from the start after one that was begun anew, so that where many jobs are refused hardly
/// anything is done twice.
const CAREFUL: u32 = 16;

/// A commit that takes less keeps its thread: to hand the thread's other tasks over means two changes of threads, which
/// is a good part of what a commit takes on a fast disk.
const QUICK: Duration = Duration::from_millis(1);

/// What a job is given: the connection, inside a transaction.
#[derive(Debug)]
pub(super) struct Ledger {
    pub(super) conn: Connection,
    /// The last fence that was given. Only this thread gives any.
    pub(super) fences: i64,
    /// Whether the transaction made tasks ready and stored events, so that whoever waits is woken after it.
    pub(super) ready: u32,
    pub(super) events: bool,
    /// What the transaction wrote, and perhaps took back.
    pub(super) written: Tables,
    /// What a job ran into that ended the transaction for all of its members, or that no file may be trusted after.
    pub(super) ended: Option<rusqlite::Error>,
}

/// What a job came to.
pub(super) struct Done<T> {
    value: T,
    /// Whether its changes stay.
    keep: bool,
}

impl<T> Done<T> {
    pub(super) fn keep(value: T) -> Self {
        Self { value, keep: true }
    }

    /// Whatever the job wrote is taken back.
    pub(super) fn undo(value: T) -> Self {
        Self { value, keep: false }
    }
}

trait Job: Send {
    /// Does the work, once more for each transaction that was begun anew; whether its changes stay.
    fn run(&mut self, ledger: &mut Ledger) -> bool;

    /// Answers the caller: with the result when the transaction was committed.
    fn answer(self: Box<Self>, outcome: &Result<(), StoreError>);
}

struct Call<T, F> {
    work: F,
    result: Option<Result<T, StoreError>>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, F> Job for Call<T, F>
where
    T: Send,
    F: FnMut(&mut Ledger) -> Result<Done<T>, rusqlite::Error> + Send,
{
    fn run(&mut self, ledger: &mut Ledger) -> bool {
        match (self.work)(ledger) {
            Ok(done) => {
                self.result = Some(Ok(done.value));
                done.keep
            }
            Err(error) => {
                // SQLite itself rolls back where there is no space and where input or output failed.
                if fault::is_fatal(&error) || ledger.conn.is_autocommit() {
                    let reason = Some(error.to_string());
                    ledger.ended = error.sqlite_error().map(|code| rusqlite::Error::SqliteFailure(*code, reason));
                }
                self.result = Some(Err(fault::of(error)));
                false
            }
        }
    }

    fn answer(self: Box<Self>, outcome: &Result<(), StoreError>) {
        let result = match (outcome, self.result) {
            // What the job itself ran into says more than that the transaction failed.
            (_, Some(Err(error))) => Err(error),
            (Ok(()), Some(result)) => result,
            (Ok(()), None) => Err(StoreError::Unavailable { reason: "the writer did not run the job".to_owned() }),
            (Err(error), _) => Err(error.clone()),
        };
        // A caller that no longer waits has lost interest, not the commit.
        let _ = self.reply.send(result);
    }
}

enum Message {
    Job(Box<dyn Job>),
    Close,
}

/// The way to the writer's thread.
#[derive(Debug)]
pub(super) struct Writer {
    jobs: SyncSender<Message>,
    desk: Arc<Mutex<Option<Desk>>>,
    /// Calls that are under way.
    calls: AtomicUsize,
    closed: AtomicBool,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// One call, counted until it is answered or given up.
struct Counted<'a>(&'a AtomicUsize);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Message")
    }
}

impl Writer {
    /// Starts the thread, which gives the file back after its connection is closed.
    pub(super) fn start(
        ledger: Ledger,
        checkpoints: Checkpoints,
        told: Told,
        owner: Owner,
    ) -> Result<Self, StoreError> {
        let (jobs, queue) = sync_channel(QUEUE);
        let desk = Arc::new(Mutex::new(Some(Desk {
            ledger,
            checkpoints,
            told,
            broken: None,
            careful: 0,
            together: 0,
            took: Duration::MAX,
        })));
        let shared = Arc::clone(&desk);
        let thread = std::thread::Builder::new()
            .name("ledger-writer".to_owned())
            .spawn(move || {
                // A job that panicked left the connection as it was; the file is looked at before it is used again.
                let served = catch_unwind(AssertUnwindSafe(|| serve(&shared, &queue)));
                let was_orderly = served.is_ok() && !shared.is_poisoned();
                let Some(mut desk) = shared.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
                let is_whole = was_orderly && desk.broken.is_none();
                // Nobody else may open the file before the last connection to it is closed.
                desk.checkpoints.stop();
                drop(desk);
                match is_whole {
                    true => owner.leave(),
                    // A file that failed is looked at before it is used again.
                    false => drop(owner),
                }
            })
            .map_err(|error| StoreError::Unavailable { reason: format!("no thread for the writer: {error}") })?;
        Ok(Self {
            jobs,
            desk,
            calls: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Has a job done and waits until its outcome is durable. The work may be done more than once; what it did before
    /// was taken back.
    pub(super) async fn call<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnMut(&mut Ledger) -> Result<Done<T>, rusqlite::Error> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        if self.closed.load(Ordering::Acquire) {
            return Err(closed());
        }
        let others = self.calls.fetch_add(1, Ordering::AcqRel);
        let _counted = Counted(&self.calls);
        let job: Box<dyn Job> = Box::new(Call { work, result: None, reply });
        let left = if others == 0 { self.do_here(job) } else { Some(job) };
        if let Some(job) = left {
            match self.jobs.try_send(Message::Job(job)) {
                Ok(()) => {}
                Err(TrySendError::Full(_)) => return Err(StoreError::Overloaded),
                Err(TrySendError::Disconnected(_)) => return Err(closed()),
            }
        }
        // The thread answers every job it takes; it ends without only when it panicked or the store was closed.
        answer.await.unwrap_or_else(|_| Err(closed()))
    }

    /// Does the job on this thread if nothing else is being written and this thread may wait for a disk; else gives it
    /// back.
    fn do_here(&self, job: Box<dyn Job>) -> Option<Box<dyn Job>> {
        if !host::task::may_block_here() {
            return Some(job);
        }
        let Ok(mut desk) = self.desk.try_lock() else { return Some(job) };
        match desk.as_mut() {
            // Those that the last group answered are about to come back.
            Some(desk) if desk.together <= 1 => {
                if desk.is_quick() {
                    desk.serve(job, None);
                } else {
                    host::task::block_here(|| desk.serve(job, None));
                }
                None
            }
            Some(_) | None => Some(job),
        }
    }

    pub(super) async fn close(&self) {
        self.closed.store(true, Ordering::Release);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(thread) = thread else { return };
        let jobs = self.jobs.clone();
        let ended = host::task::spawn_blocking("close the ledger", move || {
            // Blocks while the queue is full; the thread is emptying it.
            let _ = jobs.send(Message::Close);
            let _ = thread.join();
        });
        let _ = ended.await;
    }
}

fn closed() -> StoreError {
    StoreError::Unavailable { reason: "the ledger is closed".to_owned() }
}

/// Who hears of a transaction before its callers do, or counts it.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) wake: Wake,
    pub(super) known: Known,
    pub(super) meter: Meter,
}

/// What whoever writes works with, one at a time.
#[derive(Debug)]
struct Desk {
    ledger: Ledger,
    checkpoints: Checkpoints,
    told: Told,
    /// Why nothing is accepted any more.
    broken: Option<StoreError>,
    /// How many more transactions have savepoints from the start.
    careful: u32,
    /// How many jobs the last transaction held, and how long it took.
    together: usize,
    took: Duration,
}

/// The thread: serves what is queued until the store is closed.
fn serve(desk: &Mutex<Option<Desk>>, queue: &Receiver<Message>) {
    while let Ok(Message::Job(first)) = queue.recv() {
        let Ok(mut desk) = desk.lock() else { return };
        let Some(desk) = desk.as_mut() else { return };
        if desk.serve(first, Some(queue)) {
            return;
        }
    }
}

impl Desk {
    /// Whether the next transaction will probably be over so soon that this thread's other tasks may wait for it.
    fn is_quick(&self) -> bool {
        self.took < QUICK && !self.checkpoints.is_due()
    }

    /// Does this job, with what else is queued, and answers; whether the store is to close.
    fn serve(&mut self, first: Box<dyn Job>, queue: Option<&Receiver<Message>>) -> bool {
        let mut members: Vec<Box<dyn Job>> = Vec::with_capacity(if queue.is_some() { GROUP } else { 1 });
        let (outcome, closing) = match &self.broken {
            Some(error) => {
                members.push(first);
                (Err(error.clone()), false)
            }
            None => {
                let begun = host::clock::monotonic();
                let ended = self.group(first, queue, &mut members);
                self.took = begun.elapsed();
                self.told.meter.count_flush(members.len(), self.took);
                ended
            }
        };
        // Also after a failure: whether the log kept the transaction is known at the next start.
        self.told.known.forget(std::mem::take(&mut self.ledger.written));
        if outcome.is_ok() {
            if self.ledger.ready > 0 {
                self.told.wake.tasks_ready();
            }
            if self.ledger.events {
                self.told.wake.events_committed();
            }
        }
        (self.ledger.ready, self.ledger.events) = (0, false);
        self.together = members.len();
        for job in members {
            job.answer(&outcome);
        }
        host::failpoint!("sqlite.group.answered");
        if !closing {
            self.checkpoints.after_commit(&self.ledger.conn);
        }
        closing
    }

    /// One transaction; whether it was committed, and whether the store is to close after it.
    fn group(
        &mut self,
        first: Box<dyn Job>,
        queue: Option<&Receiver<Message>>,
        members: &mut Vec<Box<dyn Job>>,
    ) -> (Result<(), StoreError>, bool) {
        let mut closing = false;
        if let Err(error) = self.execute("BEGIN IMMEDIATE") {
            members.push(first);
            return (Err(self.failed(error)), closing);
        }
        host::failpoint!("sqlite.group.begun");
        let mut next = Some(first);
        while let Some(job) = next.take() {
            members.push(job);
            if let Err(error) = self.add(members) {
                return (Err(self.failed(error)), closing);
            }
            if members.len() < GROUP {
                match queue.map(Receiver::try_recv) {
                    Some(Ok(Message::Job(job))) => next = Some(job),
                    Some(Ok(Message::Close)) => closing = true,
                    Some(Err(_)) | None => {}
                }
            }
        }
        self.careful = self.careful.saturating_sub(1);
        host::failpoint!("sqlite.commit.before");
        match self.execute("COMMIT") {
            Ok(()) => {
                host::failpoint!("sqlite.commit.after");
                (Ok(()), closing)
            }
            Err(error) => (Err(self.failed(error)), closing),
        }
    }

    /// Does the last member's job inside the transaction. An error is the transaction's, not the job's.
    fn add(&mut self, members: &mut [Box<dyn Job>]) -> Result<(), rusqlite::Error> {
        let Some((last, others)) = members.split_last_mut() else { return Ok(()) };
        // The first needs no savepoint: there is nothing else to keep.
        if self.run(last.as_mut(), self.careful > 0 && !others.is_empty())? {
            return Ok(());
        }
        self.execute("ROLLBACK")?;
        self.execute("BEGIN IMMEDIATE")?;
        if others.is_empty() {
            return Ok(());
        }
        self.careful = CAREFUL;
        (self.ledger.ready, self.ledger.events) = (0, false);
        members.iter_mut().try_for_each(|job| self.run(job.as_mut(), true).map(|_| ()))
    }

    /// Does one job inside the transaction, behind a savepoint or without; whether all that it left may be committed.
    fn run(&mut self, job: &mut dyn Job, guarded: bool) -> Result<bool, rusqlite::Error> {
        let (ready, events, changes) = (self.ledger.ready, self.ledger.events, self.ledger.conn.total_changes());
        if guarded {
            self.execute("SAVEPOINT job")?;
        }
        let keep = job.run(&mut self.ledger);
        host::failpoint!("sqlite.job.done");
        if let Some(error) = self.ledger.ended.take() {
            return Err(error);
        }
        if self.ledger.conn.is_autocommit() {
            return Err(rusqlite::Error::SqliteFailure(
                rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_ABORT),
                Some("the transaction was rolled back".to_owned()),
            ));
        }
        if !keep {
            (self.ledger.ready, self.ledger.events) = (ready, events);
        }
        let stays = keep || self.ledger.conn.total_changes() == changes;
        if guarded {
            if !stays {
                self.execute("ROLLBACK TO job")?;
            }
            self.execute("RELEASE job")?;
        }
        Ok(stays || guarded)
    }

    fn execute(&self, sql: &str) -> Result<(), rusqlite::Error> {
        self.ledger.conn.prepare_cached(sql)?.execute(()).map(|_| ())
    }

    /// Ends a transaction that failed, and decides whether the file can be trusted with another.
    fn failed(&mut self, error: rusqlite::Error) -> StoreError {
        if !self.ledger.conn.is_autocommit()
            && let Err(error) = self.ledger.conn.execute_batch("ROLLBACK")
        {
            tracing::error!(%error, "A failed transaction could not be rolled back");
        }
        let is_settled = !fault::may_be_logged(&error) || self.overwrite_log();
        if fault::is_fatal(&error) || !is_settled {
            let code = error.sqlite_error().map_or(0, |error| error.extended_code);
            let reason = format!("{error} (SQLite's code {code}); the file is opened anew at the next start");
            tracing::error!(%error, code, "The ledger's file failed; nothing more is accepted");
            self.broken = Some(StoreError::Unavailable { reason });
        }
        fault::of(error)
    }

    /// Takes the place of a transaction in the log that was written whole but not indexed: with its first page gone, no
    /// start can find it committed, and its callers may be told that it is not. Whether that is certain.
    fn overwrite_log(&self) -> bool {
        if !self.ledger.conn.is_autocommit() {
            // It could not be rolled back: what is written now would be a part of it.
            return false;
        }
        tracing::warn!("The log's index had no space; the transaction in the log is overwritten");
        // A change, because what stays as it is is not written; fences may skip one.
        match self.execute("UPDATE counters SET value = value + 1 WHERE name = 'fences'") {
            Ok(()) => true,
            // Written, which is what it was for, and not indexed either.
            Err(error) => fault::may_be_logged(&error),
        }
    }
}

#[cfg(test)]
mod tests;
