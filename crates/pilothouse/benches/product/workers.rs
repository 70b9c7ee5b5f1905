//! One, two and three worker processes on one PostgreSQL: how much more they do, and who is busy when they do no more.

use std::time::Instant;

use store::{Store, StoreConfig};
use testkit::{
    bench::{
        machine::{processor_seconds, processor_seconds_of},
        node::{Launch, Node},
        series::Sample,
    },
    database,
};

use crate::{
    Measured, Plan,
    drain::Queue,
    place::{Database, EXE, Place, server},
};

const MOST: usize = 3;

/// What so many processes did.
struct Step {
    rate: f64,
    /// Of the processors' whole time, that of PostgreSQL and that of the workers.
    server: f64,
    workers: f64,
}

/// The rate of three beside that of one; the note tells of every step.
pub(crate) async fn measure(plan: Plan) -> Measured {
    let mut steps = Vec::new();
    for processes in 1..=MOST {
        let place = Place::new(Database::Sqlite).await?;
        let database = database::Database::create(&server()?).await.map_err(|error| error.to_string())?;
        let step = with(processes, &place, &database.url(), plan.drained * 2).await;
        // The server is thrown away afterwards, or its owner sees what was left behind.
        drop(database.drop_now().await);
        place.end().await;
        steps.push(step?);
    }
    let told = |(n, step): (usize, &Step)| {
        let Step { rate, server, workers } = step;
        format!("{}: {rate:.0}/s, PostgreSQL {server:.0} % and workers {workers:.0} % of the processors", n + 1)
    };
    let note: Vec<String> = steps.iter().enumerate().map(told).collect();
    let [one, .., three] = steps.as_slice() else { return Err("nothing was measured".into()) };
    Ok(Sample::beside(three.rate, one.rate).noting(note.join("; ")))
}

async fn with(processes: usize, place: &Place, url: &str, tasks: usize) -> Result<Step, String> {
    let store = Store::open(&StoreConfig::Postgres { url: url.to_owned() }).await.map_err(|error| error.to_string())?;
    let stepped = step(processes, place, &store, url, tasks).await;
    store.close().await;
    stepped
}

async fn step(processes: usize, place: &Place, store: &Store, url: &str, tasks: usize) -> Result<Step, String> {
    let queue = Queue::fill(store, tasks).await?;
    let mut nodes = Vec::new();
    for n in 0..processes {
        let dir = place.root().join(format!("worker-{n}"));
        std::fs::create_dir(&dir).map_err(|error| error.to_string())?;
        let launch = Launch { database: Some(url.to_owned()), ..Launch::new(EXE.as_ref(), "work", &dir) };
        nodes.push(Node::start(&launch)?);
    }
    let used = || {
        let workers: f64 = nodes.iter().map(|node| processor_seconds(node.pid())).sum();
        (host::clock::monotonic(), processor_seconds_of("postgres"), workers)
    };
    let (rate, before) = queue.rate(store, &used).await?;
    let after = used();
    let share = |from: f64, to: f64| 100.0 * (to - from) / (seconds(before.0, after.0) * processors());
    Ok(Step { rate, server: share(before.1, after.1), workers: share(before.2, after.2) })
}

fn seconds(from: Instant, to: Instant) -> f64 {
    (to - from).as_secs_f64()
}

fn processors() -> f64 {
    std::thread::available_parallelism().ok().and_then(|n| u32::try_from(n.get()).ok()).map_or(1.0, f64::from)
}
