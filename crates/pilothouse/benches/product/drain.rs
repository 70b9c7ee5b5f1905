//! Tasks that do nothing, claimed, handed to their handlers and completed by the real worker.
//!
//! What is timed is the middle of a long queue: the worker is at work before, and still is behind it.

use std::time::{Duration, Instant};

use control::{Clock, Control};
use domain::{ids::TaskId, task::TaskState};
use store::Store;
use testkit::bench::{fixture::Fixture, load, operation};
use worker::WorkerConfig;

use crate::{
    Measured, Plan,
    place::{Database, EXE, Place, server},
};

/// Tasks that are enqueued by one commit.
const SHARE: usize = 500;
const LOOK: Duration = Duration::from_millis(3);
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) async fn measure(database: Database, plan: Plan) -> Measured {
    let ledger = match database {
        Database::Sqlite => Fixture::sqlite().await?,
        Database::Postgres => Fixture::postgres(&server()?).await?,
    };
    let place = Place::new(Database::Sqlite).await?;
    let drained = work(&ledger.store, &place, plan.drained).await;
    ledger.end().await;
    place.end().await;
    Ok(drained?.into())
}

async fn work(store: &Store, place: &Place, tasks: usize) -> Result<f64, String> {
    let queue = Queue::fill(store, tasks).await?;
    let config = WorkerConfig::new(place.root().join("data"), EXE);
    let handle = worker::start(config, Control::new(store.clone(), Clock::default())).await;
    let handle = handle.map_err(|error| error.to_string())?;
    let rate = queue.rate(store, || ()).await;
    handle.drain().await;
    rate.map(|(rate, ())| rate)
}

/// Tasks in the order in which they are claimed.
pub(crate) struct Queue {
    ids: Vec<TaskId>,
}

impl Queue {
    pub(crate) async fn fill(store: &Store, tasks: usize) -> Result<Self, String> {
        let mut ids = Vec::with_capacity(tasks);
        for _ in 0..tasks / SHARE {
            let commit = operation::enqueue(SHARE);
            ids.extend(commit.tasks.iter().map(|task| task.id.clone()));
            let committed = store.commit(commit).await.map_err(|error| error.to_string())?;
            load::applied(&committed).map_err(|error| error.to_string())?;
        }
        Ok(Self { ids })
    }

    /// Tasks a second between the tenth and the last tenth, and what `look` saw at the first of these moments.
    pub(crate) async fn rate<T>(&self, store: &Store, look: impl FnOnce() -> T) -> Result<(f64, T), String> {
        let (first, last) = (self.ids.len() / 10, self.ids.len() * 9 / 10);
        let begun = self.done(store, first).await?;
        let seen = look();
        let ended = self.done(store, last).await?;
        Ok((load::per_second(last - first, ended - begun), seen))
    }

    /// Waits until this one is done.
    async fn done(&self, store: &Store, place: usize) -> Result<Instant, String> {
        let id = self.ids.get(place).ok_or("there are no tasks")?;
        let begun = host::clock::monotonic();
        while begun.elapsed() < PATIENCE {
            let task = store.find_task(id).await.map_err(|error| error.to_string())?;
            if task.is_some_and(|task| matches!(task.state, TaskState::Done { .. })) {
                return Ok(host::clock::monotonic());
            }
            tokio::time::sleep(LOOK).await;
        }
        Err(format!("task {place} of {} was not done within {PATIENCE:?}", self.ids.len()))
    }
}
