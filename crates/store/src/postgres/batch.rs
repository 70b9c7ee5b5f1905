//! The batcher: commits queue up, a few connections carry them out, many by one statement.
//!
//! Nobody waits for a batch to fill. A commit is sent at once when a connection is free; what queues up behind busy ones
//! goes together. No two commits under way share a row that either of them writes: a later one waits for its turn, so
//! a batch can neither meet itself nor, within this process, wait for another batch. When a statement fails because of
//! others, each of its commits runs again alone.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    hash::{DefaultHasher, Hash, Hasher},
    num::NonZero,
    ops::RangeInclusive,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use domain::commit::{Commit, Committed, Then};
use tokio::sync::{Notify, oneshot};
use tokio_postgres::Statement;

use crate::{
    Meter, StoreError,
    postgres::{
        connect::{Connected, Connector, Role},
        fault::Fault,
        outcome,
        patience::Patience,
        statement::{self, Repeats},
    },
};

#[cfg(test)]
mod tests;

/// Connections that carry out commits, at least and at most. One waits for its commit to be durable while the other is at
/// work; more make batches smaller, and every statement has a cost of its own.
const FLUSHERS: RangeInclusive<usize> = 2..=8;
/// Commits in one statement.
const BATCH: usize = 256;
/// How long at most commits are held back because they are few: a connection that hangs must not hold the others up.
const HELD_BACK: Duration = Duration::from_millis(25);
/// Commits that may wait; more are refused, so that callers hear about overload instead of timing out.
const WAITING: usize = 4096;
/// How often a commit runs again alone when others are in its way.
pub(super) const TRIES: u32 = 6;
/// Statements that look dedup keys up after one was found taken.
const WARY: u32 = 256;
/// Prepared statements a connection keeps.
const STATEMENTS: usize = 200;

/// How a queued commit ended, as far as its connection could tell.
pub(super) type Answer = Result<Committed, Fault>;

/// Hands commits to the connections.
#[derive(Debug, Clone)]
pub(super) struct Batcher {
    shared: Arc<Shared>,
    patience: Patience,
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    work: Notify,
    meter: Meter,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Member>,
    /// Rows that commits under way write, and how many of them read each row.
    written: HashSet<u64>,
    read: HashMap<u64, u32>,
    /// Commits under way.
    in_flight: usize,
    closed: bool,
    /// Connections that there are, and how many of them have not ended.
    flushers: usize,
    running: usize,
}

/// A commit in the queue.
#[derive(Debug)]
struct Member {
    commit: Arc<Commit>,
    keys: Keys,
    reply: oneshot::Sender<Answer>,
}

/// What a commit touches, as hashes: two that collide wait for each other without need, which harms nobody.
#[derive(Debug, Default)]
struct Keys {
    writes: Vec<u64>,
    reads: Vec<u64>,
    /// Takes back waiting tasks of a subject, whichever they are.
    withdraws: bool,
    /// Leaves its task waiting or leased: a withdrawal in the same statement could not see the outcome.
    keeps_task: bool,
}

impl Keys {
    fn of(commit: &Commit) -> Self {
        let mut keys = Self::default();
        keys.writes.push(hash(("commit", commit.id.as_str())));
        if let Some((subject, _)) = &commit.subject {
            keys.writes.push(hash((subject.kind.head().name(), subject.id.as_str())));
        }
        keys.writes.extend(commit.rows.iter().map(|row| hash((row.table.name(), row.id.as_str()))));
        if let Some(dedup) = &commit.cause.dedup {
            keys.writes.push(hash(("dedup", dedup.scope.as_str(), dedup.key.as_str())));
        }
        if let Some(ack) = &commit.ack {
            keys.writes.push(hash(("task", ack.task.as_str())));
            keys.keeps_task = match ack.then {
                Then::Keep | Then::Again { .. } => true,
                Then::Done | Then::Dead { .. } => false,
            };
        }
        keys.withdraws = !commit.withdraw.is_empty();
        keys.reads.extend(commit.expects.iter().map(|expect| hash((expect.table.name(), expect.id.as_str()))));
        keys
    }
}

fn hash(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

impl Queue {
    /// The next commits that may go together, oldest first; their rows are taken until [`Queue::release`].
    fn take(&mut self, limit: usize, however_few: bool) -> Vec<Member> {
        // Less than an equal share of what is under way gains nothing beside it: it would only compete for the disk. It
        // goes when others are done, with what has queued up until then.
        if !however_few && self.waiting.len() * self.flushers < self.in_flight {
            return Vec::new();
        }
        let mut taken: Vec<Member> = Vec::new();
        let (mut withdraws, mut keeps_task) = (false, false);
        let mut left = VecDeque::new();
        while taken.len() < limit {
            let Some(member) = self.waiting.pop_front() else { break };
            if member.reply.is_closed() {
                continue;
            }
            let keys = &member.keys;
            let busy = keys.writes.iter().any(|key| self.written.contains(key) || self.read.contains_key(key))
                || keys.reads.iter().any(|key| self.written.contains(key) && !keys.writes.contains(key))
                || (keys.withdraws && keeps_task)
                || (keys.keeps_task && withdraws)
                // A commit may take back tasks and keep its own; two such commits meet in each other's tasks.
                || (keys.withdraws && keys.keeps_task && !taken.is_empty());
            if busy {
                left.push_back(member);
                continue;
            }
            withdraws |= keys.withdraws;
            keeps_task |= keys.keeps_task;
            self.written.extend(&keys.writes);
            for key in &keys.reads {
                *self.read.entry(*key).or_default() += 1;
            }
            taken.push(member);
        }
        // Those that have to wait stay in front of those that came later.
        left.append(&mut self.waiting);
        self.waiting = left;
        self.in_flight += taken.len();
        taken
    }

    /// Whether the commit was still waiting.
    fn withdraw(&mut self, commit: &Arc<Commit>) -> bool {
        let waiting = self.waiting.len();
        self.waiting.retain(|member| !Arc::ptr_eq(&member.commit, commit));
        self.waiting.len() < waiting
    }

    fn release(&mut self, keys: &Keys) {
        self.in_flight -= 1;
        for key in &keys.writes {
            self.written.remove(key);
        }
        for key in &keys.reads {
            if let Some(readers) = self.read.get_mut(key) {
                *readers -= 1;
                if *readers == 0 {
                    self.read.remove(key);
                }
            }
        }
    }
}

impl Batcher {
    /// Starts the connections' tasks; each connects when it first has something to do.
    pub(super) fn start(connector: &Connector, meter: Meter) -> Self {
        let shared = Arc::new(Shared { queue: Mutex::default(), work: Notify::new(), meter });
        let batcher = Self { shared, patience: connector.patience };
        let flushers = flushers();
        {
            let mut queue = batcher.shared.lock();
            (queue.flushers, queue.running) = (flushers, flushers);
        }
        for _ in 0..flushers {
            let flusher = Flusher { shared: batcher.shared.clone(), connector: connector.clone(), session: None };
            drop(host::task::spawn("postgres flusher", flusher.run()));
        }
        batcher
    }

    /// Queues a commit and waits for its end.
    pub(super) async fn commit(&self, commit: Arc<Commit>) -> Result<Answer, StoreError> {
        let (reply, answer) = oneshot::channel();
        let member = Member { keys: Keys::of(&commit), commit: commit.clone(), reply };
        {
            let mut queue = self.shared.lock();
            if queue.closed {
                return Err(StoreError::Unavailable { reason: "the store was closed".to_owned() });
            }
            if queue.waiting.len() >= WAITING {
                return Err(StoreError::Overloaded);
            }
            queue.waiting.push_back(member);
        }
        self.shared.work.notify_one();
        match tokio::time::timeout(self.patience.commit(), answer).await {
            Ok(answer) => answer.map_err(|_| StoreError::Unavailable { reason: "the store was closed".to_owned() }),
            // What nobody has taken yet is taken back; of everything else the outcome is not known.
            Err(_) if self.shared.lock().withdraw(&commit) => Err(StoreError::Overloaded),
            Err(_) => Ok(Err(Fault::silent())),
        }
    }

    /// Lets what was accepted finish, then ends the connections.
    pub(super) async fn close(&self) {
        self.shared.lock().closed = true;
        let until = host::clock::monotonic() + self.patience.commit();
        while host::clock::monotonic() < until {
            self.shared.work.notify_waiters();
            self.shared.work.notify_one();
            if self.shared.lock().running == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// One connection for two cores: a backend and what feeds it keep about as many busy. The cores of the database's machine
/// are taken to be no fewer than ours.
fn flushers() -> usize {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    (cores / 2).clamp(*FLUSHERS.start(), *FLUSHERS.end())
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing panics while it holds the queue; a poisoned one is whole.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection and the statements prepared on it.
struct Session {
    client: Connected,
    statements: HashMap<String, Statement>,
    /// Statements that still look dedup keys up.
    wary: u32,
    patience: Patience,
}

struct Flusher {
    shared: Arc<Shared>,
    connector: Connector,
    session: Option<Session>,
}

impl Flusher {
    async fn run(mut self) {
        // Since when something waits that nobody takes.
        let mut held_since: Option<Instant> = None;
        loop {
            // Those that were just answered come back with their next commit before anything is taken.
            tokio::task::yield_now().await;
            let however_few = held_since.is_some_and(|since| since.elapsed() >= HELD_BACK);
            let (batch, more, closed) = {
                let mut queue = self.shared.lock();
                let batch = queue.take(BATCH, however_few);
                (batch, !queue.waiting.is_empty(), queue.closed)
            };
            if batch.is_empty() {
                if closed && !more {
                    break;
                }
                let woken = self.shared.work.notified();
                if more {
                    held_since.get_or_insert_with(host::clock::monotonic);
                    // Whichever comes first, the queue is looked at again.
                    let _ = tokio::time::timeout(HELD_BACK, woken).await;
                } else {
                    held_since = None;
                    woken.await;
                }
                continue;
            }
            held_since = None;
            if more {
                self.shared.work.notify_one();
            }
            self.flush(batch).await;
        }
        self.shared.lock().running -= 1;
    }

    async fn flush(&mut self, batch: Vec<Member>) {
        let commits: Vec<Arc<Commit>> = batch.iter().map(|member| member.commit.clone()).collect();
        let begun = host::clock::monotonic();
        let answers = self.answers(&commits).await;
        self.shared.meter.count_flush(commits.len(), begun.elapsed());
        host::failpoint!("postgres.batch.answered");
        let mut queue = self.shared.lock();
        for member in &batch {
            queue.release(&member.keys);
        }
        let more = !queue.waiting.is_empty();
        drop(queue);
        if more {
            self.shared.work.notify_one();
        }
        for (member, answer) in batch.into_iter().zip(answers) {
            // Whoever stopped waiting does not want to know.
            drop(member.reply.send(answer));
        }
        host::failpoint!("postgres.batch.told");
    }

    /// One answer for each commit.
    async fn answers(&mut self, commits: &[Arc<Commit>]) -> Vec<Answer> {
        let everyone = |fault: &Fault| commits.iter().map(|_| Err(fault.clone())).collect();
        let session = match self.session().await {
            Ok(session) => session,
            // Nothing was sent, so nothing is unknown.
            Err(error) => {
                // Callers that try again at once must not keep a database from coming up.
                tokio::time::sleep(jitter(Duration::from_millis(50))).await;
                return everyone(&Fault::Refused(error));
            }
        };
        let result = match session.send_hoping(commits).await {
            Ok(answers) => return answers,
            Err(fault) => fault,
        };
        match result {
            Fault::Lost(_) => {
                self.session = None;
                everyone(&result)
            }
            Fault::Contended(_) | Fault::Refused(_) => {
                let mut answers = Vec::with_capacity(commits.len());
                for commit in commits {
                    let answer = match self.session.as_mut() {
                        Some(session) => session.alone(commit).await,
                        // Lost on the way; those behind were not sent this time and were rolled back before.
                        None => Err(Fault::Contended(StoreError::Unavailable {
                            reason: "the connection was lost".to_owned(),
                        })),
                    };
                    if matches!(answer, Err(Fault::Lost(_))) {
                        self.session = None;
                    }
                    answers.push(answer);
                }
                answers
            }
        }
    }

    async fn session(&mut self) -> Result<&mut Session, StoreError> {
        if self.session.as_ref().is_some_and(|session| session.client.is_closed()) {
            self.session = None;
        }
        let session = match self.session.take() {
            Some(session) => session,
            None => Session::open(&self.connector).await?,
        };
        Ok(self.session.insert(session))
    }
}

impl Session {
    async fn open(connector: &Connector) -> Result<Self, StoreError> {
        let client = connector.connect(Role::Keyed).await?;
        Ok(Self { client, statements: HashMap::new(), wary: 0, patience: connector.patience })
    }

    /// Sends commits in the hope that none repeats another. A repeat fails the statement, and with it all of them: they
    /// are sent again by one that looks for repeats, and so is what comes after, because repeats seldom come alone.
    async fn send_hoping(&mut self, commits: &[Arc<Commit>]) -> Result<Vec<Answer>, Fault> {
        if self.wary == 0 {
            match self.send(commits, Repeats::Fail).await {
                Err(Fault::Contended(_)) => self.wary = WARY,
                outcome => return outcome,
            }
        }
        self.wary -= 1;
        self.send(commits, Repeats::AreLeftOut).await
    }

    /// Sends commits and waits for the answer as long as one may take.
    async fn send(&mut self, commits: &[Arc<Commit>], repeats: Repeats) -> Result<Vec<Answer>, Fault> {
        let patience = self.patience.answer();
        tokio::time::timeout(patience, self.exchange(commits, repeats)).await.unwrap_or_else(|_| Err(Fault::silent()))
    }

    /// Sends commits as one statement, and finds out why those that were not applied were not.
    async fn exchange(&mut self, commits: &[Arc<Commit>], repeats: Repeats) -> Result<Vec<Answer>, Fault> {
        let refs: Vec<&Commit> = commits.iter().map(AsRef::as_ref).collect();
        let composed = statement::compose(&refs, repeats);
        host::failpoint!("postgres.batch.built");
        let prepared = self.prepared(composed.text).await?;
        let answer =
            self.client.query_one(&prepared, &composed.parameters.as_sql()).await.map_err(|error| Fault::of(&error))?;
        host::failpoint!("postgres.batch.committed");
        let mut applied = vec![false; commits.len()];
        for place in statement::places(&answer) {
            if let Some(applied) = applied.get_mut(place) {
                *applied = true;
            }
        }
        let mut answers = Vec::with_capacity(commits.len());
        for (commit, applied) in refs.iter().zip(applied) {
            answers.push(match applied {
                true => Ok(outcome::applied(commit)),
                // The batch is durable by now: an error here belongs to this commit alone.
                false => outcome::refusal(&self.client, commit).await,
            });
        }
        Ok(answers)
    }

    /// Runs one commit until others no longer are in its way.
    async fn alone(&mut self, commit: &Arc<Commit>) -> Answer {
        let mut tries = 1;
        loop {
            match self.send(std::slice::from_ref(commit), Repeats::AreLeftOut).await {
                Ok(mut answers) => {
                    return answers.pop().unwrap_or_else(|| {
                        Err(Fault::Refused(StoreError::Unavailable { reason: "no answer was given".to_owned() }))
                    });
                }
                Err(Fault::Contended(error)) if tries < TRIES && (error.is_transient() || tries < 2) => {
                    tokio::time::sleep(jitter(Duration::from_millis(5 << tries))).await;
                    tries += 1;
                }
                Err(fault) => return Err(fault),
            }
        }
    }

    async fn prepared(&mut self, text: String) -> Result<Statement, Fault> {
        if let Some(statement) = self.statements.get(&text) {
            return Ok(statement.clone());
        }
        // Shapes are few; should they ever be many, starting over is cheaper than keeping an order of use.
        if self.statements.len() >= STATEMENTS {
            self.statements.clear();
        }
        let statement = self.client.prepare(&text).await.map_err(|error| Fault::of(&error))?;
        self.statements.insert(text, statement.clone());
        Ok(statement)
    }
}

/// Between half and all of a span, so that nodes do not come back together.
pub(super) fn jitter(span: Duration) -> Duration {
    let half = span / 2;
    let micros = u64::try_from(half.as_micros()).unwrap_or(u64::MAX).max(1);
    half + Duration::from_micros(host::random::u64() % micros)
}
