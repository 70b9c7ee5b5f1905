//! Callers of the queue: they claim and finish, keep leases alive, and return those that ended.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use domain::{
    commit::Then,
    ids::{Fence, TaskId},
    task::{Lane, Task, TaskKind},
};
use store::{Beat, Claim, Store, StoreError, queue::Caps};

use super::{Drill, in_time};
use crate::support::{Build, Db, NOON, ack, commit, fence, noop, task};

const LEASE: Duration = Duration::from_millis(800);
const TASKS: usize = 6000;

/// Who was told to hold what.
#[derive(Clone, Default)]
pub(super) struct Queue {
    held: Arc<Mutex<BTreeMap<TaskId, Holding>>>,
    /// Tasks whose end was confirmed, and under which fence.
    done: Arc<Mutex<BTreeMap<TaskId, Fence>>>,
}

#[derive(Clone, Debug)]
struct Holding {
    fence: Fence,
    /// Not before this can anybody else be given the task, unless it was given back.
    until: Instant,
    /// Its end was asked for, and nobody said whether it counted.
    may_be_done: bool,
}

fn claim(incarnation: &str, lane: Lane, limit: u32) -> Claim {
    Claim { lane, incarnation: incarnation.to_owned(), limit, lease: LEASE, caps: Caps::default(), now: NOON }
}

impl Queue {
    pub(super) async fn fill(store: &Store) -> Self {
        for slice in (0..TASKS).collect::<Vec<_>>().chunks(100) {
            let tasks = slice.iter().map(|n| match n % 6 {
                0 => task(&format!("E{n:05}"), TaskKind::RunJob),
                _ => noop(&format!("T{n:05}")),
            });
            store.commit(tasks.fold(commit(), Build::task)).await.unwrap();
        }
        Self::default()
    }

    /// Notes a claim that began at `sent_at`: fences only grow, and a lease that can still hold is nobody else's.
    fn take(&self, task: &Task, sent_at: Instant) {
        let mut held = self.held.lock().unwrap();
        let now = host::clock::monotonic();
        if let Some(before) = held.get(&task.id) {
            assert!(fence(task) > before.fence, "{}: fence {:?} behind {before:?}", task.id, fence(task));
            assert!(now >= before.until, "{} was given away while it was held: {before:?}", task.id);
        }
        let done = self.done.lock().unwrap();
        assert!(!done.contains_key(&task.id), "{} was done under {:?} and claimed again", task.id, done[&task.id]);
        held.insert(task.id.clone(), Holding { fence: fence(task), until: sent_at + LEASE, may_be_done: false });
    }

    /// Notes that the end of a task was not confirmed, so that it may be done or not.
    fn doubt(&self, task: &Task) {
        if let Some(holding) = self.held.lock().unwrap().get_mut(&task.id)
            && holding.fence == fence(task)
        {
            holding.may_be_done = true;
        }
    }

    fn finish(&self, task: &Task) {
        let before = self.done.lock().unwrap().insert(task.id.clone(), fence(task));
        assert_eq!(before, None, "{} was done twice", task.id);
    }

    /// A refusal is true when the lease ran out, or when the task was done by a call that nobody answered.
    fn refuse(&self, task: &Task) {
        let held = self.held.lock().unwrap();
        let Some(holding) = held.get(&task.id).filter(|holding| holding.fence == fence(task)) else { return };
        let ran_out = host::clock::monotonic() >= holding.until;
        assert!(ran_out || holding.may_be_done, "{} was told to be fenced while it was held: {holding:?}", task.id);
    }

    /// What was confirmed to be done is done.
    pub(super) async fn compare(&self, db: &Db) {
        let rows = db.rows("SELECT id FROM tasks WHERE state = 'done'").await;
        let done_there: BTreeSet<&str> = rows.iter().map(String::as_str).collect();
        let done = self.done.lock().unwrap();
        for task in done.keys() {
            assert!(done_there.contains(task.as_str()), "{task} was confirmed to be done");
        }
        assert!(done.len() > 50, "only {} tasks were done", done.len());
    }
}

/// Completes what it holds and claims the next, in one call.
pub(super) async fn claim_and_finish(drill: Drill, queue: Queue, lane: Lane, n: usize) {
    let name = format!("claimer-{n}");
    let mut held: Vec<Task> = Vec::new();
    while drill.goes_on() {
        let done: Vec<_> = held.iter().map(|task| ack(task, Then::Done)).collect();
        let sent_at = host::clock::monotonic();
        match in_time("claim", drill.store.work(done, claim(&name, lane, 4))).await {
            Ok(worked) => {
                for task in std::mem::take(&mut held) {
                    match worked.fenced.iter().any(|ack| ack.task == task.id && ack.fence == fence(&task)) {
                        true => queue.refuse(&task),
                        false => queue.finish(&task),
                    }
                }
                worked.tasks.iter().for_each(|task| queue.take(task, sent_at));
                held = worked.tasks;
            }
            Err(StoreError::UnknownOutcome { .. }) => held.iter().for_each(|task| queue.doubt(task)),
            Err(error) => assert!(error.is_transient(), "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Holds a few tasks for as long as its heartbeats get through.
pub(super) async fn keep_alive(drill: Drill, queue: Queue) {
    while drill.goes_on() {
        let sent_at = host::clock::monotonic();
        let held = drill.witness.work(Vec::new(), claim("keeper", Lane::Fast, 3)).await.unwrap().tasks;
        held.iter().for_each(|task| queue.take(task, sent_at));
        let beats: Vec<Beat> = held.iter().map(|task| Beat { task: task.id.clone(), fence: fence(task) }).collect();
        let mut kept_until = sent_at + LEASE;
        while drill.goes_on() {
            tokio::time::sleep(Duration::from_millis(60)).await;
            let sent_at = host::clock::monotonic();
            let Ok(heard) = in_time("heartbeat", drill.store.heartbeat(&beats, LEASE, NOON)).await else { continue };
            let now = host::clock::monotonic();
            assert!(heard.fenced.is_empty() || now >= kept_until, "fenced while it was kept: {:?}", heard.fenced);
            if !heard.fenced.is_empty() {
                break;
            }
            if heard.skipped.is_empty() {
                kept_until = sent_at + LEASE;
                let mut held = queue.held.lock().unwrap();
                for beat in &beats {
                    if let Some(holding) = held.get_mut(&beat.task).filter(|holding| holding.fence == beat.fence) {
                        holding.until = kept_until;
                    }
                }
            }
        }
    }
}

/// Returns what claims took whose answer was lost.
pub(super) async fn reap(drill: Drill) {
    while drill.goes_on() {
        if let Err(error) = in_time("reap", drill.store.reap("reaper", 100)).await {
            assert!(error.is_transient(), "{error}");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
