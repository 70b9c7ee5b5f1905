//! apalis on PostgreSQL: four workers that fetch and acknowledge 100 at once, on jobs that do nothing.
//!
//!     pilothouse-bench-apalis CONNECTION JOBS
//!
//! Prints one JSON object.

use std::{
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use apalis::prelude::*;
use apalis_postgres::{Config, PostgresStorage};
use sqlx::postgres::PgPoolOptions;

const WORKERS: usize = 4;
const BATCH: usize = 100;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, connection, jobs] = arguments.as_slice() else {
        return Err("name a connection and a number of jobs".into());
    };
    println!("{{\"per_second\":{}}}", drain(connection, jobs.parse()?).await?);
    Ok(())
}

/// Jobs a second in the middle of a full queue, counted as their handler sees them.
async fn drain(connection: &str, jobs: usize) -> Result<f64, Box<dyn Error>> {
    let pool = PgPoolOptions::new().max_connections(16).connect(connection).await?;
    PostgresStorage::setup(&pool).await?;
    let config = Config::default().queue("noop").batch_size(BATCH);
    let mut storage = PostgresStorage::<usize>::new(&pool).with_config(config.clone());
    for from in (0..jobs).step_by(1000) {
        storage.push_bulk((from..jobs.min(from + 1000)).collect()).await.map_err(|error| format!("{error:?}"))?;
    }
    let done = Arc::new(AtomicUsize::new(0));
    for worker in 0..WORKERS {
        let storage = PostgresStorage::<usize>::new(&pool).with_config(config.clone());
        let worker = WorkerBuilder::new(format!("noop-{worker}"))
            .backend(storage)
            .data(Arc::clone(&done))
            .concurrency(BATCH)
            .build(noop);
        drop(tokio::spawn(async move {
            if let Err(error) = worker.run().await {
                eprintln!("a worker ended: {error}");
                std::process::exit(1);
            }
        }));
    }
    let (first, begun) = until(&done, jobs / 10).await;
    let (last, ended) = until(&done, jobs / 10 * 9).await;
    Ok((last - first) as f64 / (ended - begun).as_secs_f64())
}

async fn noop(_job: usize, done: Data<Arc<AtomicUsize>>) -> Result<(), BoxDynError> {
    done.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

async fn until(done: &AtomicUsize, count: usize) -> (usize, Instant) {
    loop {
        let now = done.load(Ordering::Relaxed);
        if now >= count {
            return (now, Instant::now());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
