//! How soon an idle worker starts what is asked for: from the call that enqueues to the claim that returns.

use std::time::{Duration, Instant};

use domain::{
    commit::{Ack, Then},
    ids::TaskId,
    task::TaskState,
};
use store::{Store, StoreError};
use tokio::sync::mpsc;

use crate::bench::{
    load::{self, median_ms},
    operation,
};

/// The middle of so many starts, and of the commits that asked for them; milliseconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Started {
    pub start_ms: f64,
    pub commit_ms: f64,
}

/// Enqueues one task after the other on a store where nothing else happens.
pub async fn measure(store: &Store, times: usize) -> Result<Started, StoreError> {
    let (tell, mut told) = mpsc::unbounded_channel();
    let worker = host::task::spawn("bench starter", {
        let store = store.clone();
        async move { claim_each(&store, &tell).await }
    });
    let (mut starts, mut commits) = (Vec::new(), Vec::new());
    for _ in 0..times {
        // Long enough for the worker to have found nothing and gone to sleep.
        tokio::time::sleep(Duration::from_millis(15)).await;
        let commit = operation::enqueue(1);
        let Some(task) = commit.tasks.first().map(|task| task.id.clone()) else { break };
        let begun = host::clock::monotonic();
        load::applied(&store.commit(commit).await?)?;
        commits.push(host::clock::monotonic() - begun);
        match tokio::time::timeout(Duration::from_secs(10), started(&mut told, &task)).await {
            Ok(Some(at)) => starts.push(at - begun),
            Ok(None) | Err(_) => break,
        }
    }
    drop(told);
    // The worker ends when nobody listens any more; its own failure says more than a missing start.
    worker.await.map_err(load::lost)??;
    if starts.len() < times {
        return Err(StoreError::Rejected { reason: format!("{} of {times} tasks were started", starts.len()) });
    }
    Ok(Started { start_ms: median_ms(&mut starts), commit_ms: median_ms(&mut commits) })
}

async fn started(told: &mut mpsc::UnboundedReceiver<(TaskId, Instant)>, task: &TaskId) -> Option<Instant> {
    loop {
        let (id, at) = told.recv().await?;
        if id == *task {
            return Some(at);
        }
    }
}

async fn claim_each(store: &Store, tell: &mpsc::UnboundedSender<(TaskId, Instant)>) -> Result<(), StoreError> {
    let wake = store.wake();
    let mut done: Vec<Ack> = Vec::new();
    while !tell.is_closed() {
        let worked = store.work(std::mem::take(&mut done), load::claim("bench-start", 1)).await?;
        let at = host::clock::monotonic();
        if worked.tasks.is_empty() {
            // The poll that backs the hint up in a worker ends this wait after the last start.
            let _ = tokio::time::timeout(Duration::from_secs(1), wake.tasks()).await;
        }
        for task in worked.tasks {
            if let TaskState::Leased { fence, .. } = task.state {
                done.push(Ack { task: task.id.clone(), fence, then: Then::Done });
            }
            if tell.send((task.id, at)).is_err() {
                break;
            }
        }
    }
    store.work(done, load::claim("bench-start", 0)).await.map(|_| ())
}
