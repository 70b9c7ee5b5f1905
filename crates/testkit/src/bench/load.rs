//! Callers of a store: each waits for its own operation before it makes the next.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use domain::{
    commit::{Ack, Committed, Then},
    task::{Lane, TaskState},
    time::Timestamp,
};
use store::{Claim, Store, StoreError};

use crate::bench::operation;

/// What came of a load.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    pub per_second: f64,
    /// The middle latency, in milliseconds.
    pub p50_ms: f64,
}

/// Runs `callers` side by side for a while, each on a run of its own.
pub async fn decide(store: &Store, callers: usize, span: Duration) -> Result<Measured, StoreError> {
    let runs: Vec<String> = (0..callers).map(|_| operation::draw_run()).collect();
    let created: Vec<_> = runs
        .iter()
        .map(|run| {
            let (store, commit) = (store.clone(), operation::create(run));
            host::task::spawn("bench create", async move { store.commit(commit).await })
        })
        .collect();
    for created in created {
        applied(&created.await.map_err(lost)??)?;
    }
    let start = host::clock::monotonic();
    // A run-up, so that what is measured is steady.
    let (from, until) = (start + span / 5, start + span + span / 5);
    let callers: Vec<_> = runs
        .into_iter()
        .map(|run| {
            let store = store.clone();
            host::task::spawn("bench caller", async move { one_caller(&store, &run, from, until).await })
        })
        .collect();
    let mut latencies = Vec::new();
    for caller in callers {
        latencies.extend(caller.await.map_err(lost)??);
    }
    Ok(Measured { per_second: per_second(latencies.len(), span), p50_ms: median_ms(&mut latencies) })
}

async fn one_caller(store: &Store, run: &str, from: Instant, until: Instant) -> Result<Vec<Duration>, StoreError> {
    let mut latencies = Vec::new();
    let mut version = 1;
    loop {
        let commit = operation::decide(run, version);
        let begun = host::clock::monotonic();
        applied(&store.commit(commit).await?)?;
        let ended = host::clock::monotonic();
        if ended >= until {
            return Ok(latencies);
        }
        if ended >= from {
            latencies.push(ended - begun);
        }
        version += 1;
    }
}

/// Enqueues tasks, then claims, completes and claims again until so many are done; tasks completed in a second. What
/// waits behind them is left alone.
pub async fn drain(store: &Store, tasks: usize, workers: usize, batch: u32) -> Result<f64, StoreError> {
    let share = 500;
    for _ in 0..tasks / share {
        applied(&store.commit(operation::enqueue(share)).await?)?;
    }
    let expected = tasks / share * share;
    let left = Arc::new(Mutex::new(expected));
    let begun = host::clock::monotonic();
    let workers: Vec<_> = (0..workers)
        .map(|worker| {
            let (store, left) = (store.clone(), left.clone());
            host::task::spawn("bench worker", async move { one_worker(&store, worker, batch, &left).await })
        })
        .collect();
    let mut done = 0;
    for worker in workers {
        done += worker.await.map_err(lost)??;
    }
    let ended = host::clock::monotonic();
    if done != expected {
        return Err(StoreError::Rejected { reason: format!("{done} tasks were done, not {expected}") });
    }
    Ok(per_second(done, ended - begun))
}

/// A claim of the fast lane.
pub(crate) fn claim(incarnation: &str, limit: u32) -> Claim {
    Claim {
        lane: Lane::Fast,
        incarnation: incarnation.to_owned(),
        limit,
        lease: Duration::from_secs(30),
        caps: store::queue::Caps::default(),
        now: Timestamp::from_micros(host::clock::now_micros()),
    }
}

/// How often a worker may find nothing although tasks are left: others hold them for the length of a statement.
const IDLE: usize = 10_000;

async fn one_worker(store: &Store, worker: usize, batch: u32, left: &Mutex<usize>) -> Result<usize, StoreError> {
    let incarnation = format!("bench-{worker}");
    let lock = || left.lock().unwrap_or_else(PoisonError::into_inner);
    let mut done: Vec<Ack> = Vec::new();
    let (mut count, mut idle) = (0, 0);
    loop {
        // A share is taken before the claim, so that all workers together claim exactly what was enqueued.
        let share = {
            let mut left = lock();
            let share = (*left).min(usize::try_from(batch).unwrap_or(usize::MAX));
            *left -= share;
            share
        };
        let acknowledged = done.len();
        let limit = u32::try_from(share).unwrap_or(batch);
        let worked = store.work(std::mem::take(&mut done), claim(&incarnation, limit)).await?;
        count += acknowledged - worked.fenced.len();
        if share == 0 {
            return Ok(count);
        }
        *lock() += share - worked.tasks.len();
        if worked.tasks.is_empty() {
            idle += 1;
            if idle > IDLE {
                return Err(StoreError::Rejected { reason: "tasks are left that nobody can claim".to_owned() });
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        done = worked
            .tasks
            .into_iter()
            .filter_map(|task| match task.state {
                TaskState::Leased { fence, .. } => Some(Ack { task: task.id, fence, then: Then::Done }),
                _ => None,
            })
            .collect();
    }
}

pub fn applied(committed: &Committed) -> Result<(), StoreError> {
    match committed {
        Committed::Applied { .. } => Ok(()),
        other => Err(StoreError::Rejected { reason: format!("an operation ended as {other:?}") }),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err asks for")]
pub(crate) fn lost(error: tokio::task::JoinError) -> StoreError {
    StoreError::Unavailable { reason: error.to_string() }
}

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
pub fn per_second(count: usize, span: Duration) -> f64 {
    count as f64 / span.as_secs_f64().max(1e-9)
}

pub(crate) fn median_ms(latencies: &mut [Duration]) -> f64 {
    latencies.sort_unstable();
    latencies.get(latencies.len() / 2).map_or(0.0, |latency| latency.as_secs_f64() * 1000.0)
}
