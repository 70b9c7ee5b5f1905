//! Rounds: every row and its limit, one after the other, several times over.

use std::{collections::BTreeMap, path::Path, time::Duration};

use store::{Store, StoreConfig};
use tempfile::TempDir;

use crate::{
    bench::{
        load, pgbench, raw,
        report::{Outcome, Report},
        rows::Row,
    },
    database::{self, Database},
};

/// How long and how often.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub rounds: usize,
    pub span: Duration,
    pub drained: usize,
}

impl Plan {
    pub const FULL: Self = Self { rounds: 5, span: Duration::from_secs(4), drained: 30_000 };
    pub const QUICK: Self = Self { rounds: 3, span: Duration::from_secs(2), drained: 10_000 };
}

/// What one kind of measurement gave in each round.
#[derive(Clone, Debug, Default)]
struct Series {
    values: Vec<f64>,
    failed: Option<String>,
}

impl Series {
    fn add(&mut self, measured: Result<f64, String>) {
        match measured {
            Ok(value) => self.values.push(value),
            Err(reason) => self.failed = Some(reason),
        }
    }

    fn median(&self) -> Result<f64, String> {
        if let Some(reason) = &self.failed {
            return Err(reason.clone());
        }
        let mut values = self.values.clone();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().ok_or_else(|| "nothing was measured".to_owned())
    }
}

/// A row's own figures and those of its limit.
#[derive(Clone, Debug, Default)]
struct Measurements {
    values: Series,
    limits: Series,
}

/// Measures these rows; `say` is told what is being done.
pub async fn run(rows: &[Row], plan: Plan, say: impl Fn(&str)) -> Vec<Report> {
    let postgres = match rows.iter().any(|row| row.needs_postgres()) {
        true => Postgres::prepare(rows.iter().any(|row| row.needs_pgbench())).await,
        false => Err("not asked for".to_owned()),
    };
    let mut measured: BTreeMap<&str, Measurements> = BTreeMap::new();
    for round in 1..=plan.rounds {
        for row in rows {
            say(&format!("round {round} of {}: {}", plan.rounds, row.name()));
            let entry = measured.entry(row.name()).or_default();
            match (row, &postgres) {
                (Row::Sqlite256, _) => sqlite_rate(entry, plan).await,
                (Row::Sqlite1, _) => sqlite_latency(entry, plan).await,
                (Row::DrainSqlite, _) => entry.values.add(drain_sqlite(plan).await),
                (Row::Postgres64, Ok(postgres)) => postgres.rate(entry, 64, plan).await,
                (Row::Postgres256, Ok(postgres)) => postgres.rate(entry, 256, plan).await,
                (Row::DrainPostgres, Ok(postgres)) => {
                    let drained = load::drain(&postgres.store, plan.drained, 4, 200).await;
                    entry.values.add(drained.map_err(|error| error.to_string()));
                }
                (Row::Postgres64 | Row::Postgres256 | Row::DrainPostgres, Err(_)) => {}
            }
        }
    }
    let reports = rows.iter().map(|row| Report { row: *row, outcome: outcome(*row, &measured, &postgres) }).collect();
    if let Ok(postgres) = postgres {
        postgres.end().await;
    }
    reports
}

fn outcome(row: Row, measured: &BTreeMap<&str, Measurements>, postgres: &Result<Postgres, String>) -> Outcome {
    if row.needs_postgres() {
        match postgres {
            Err(reason) => return Outcome::Missing { reason: reason.clone() },
            Ok(postgres) if row.needs_pgbench() => {
                if let Err(reason) = &postgres.pgbench {
                    return Outcome::Missing { reason: reason.clone() };
                }
            }
            Ok(_) => {}
        }
    }
    let Some(series) = measured.get(row.name()) else { return Outcome::Failed { reason: "not measured".to_owned() } };
    let limit = match row.limit() {
        Some(_) => series.limits.median().map(Some),
        None => Ok(None),
    };
    match (series.values.median(), limit) {
        (Ok(value), Ok(limit)) => Outcome::Measured { value, limit },
        (Err(reason), _) | (_, Err(reason)) => Outcome::Failed { reason },
    }
}

/// A directory for one measurement, on the disk the working directory is on: `/tmp` may be memory.
fn directory() -> Result<TempDir, String> {
    let target = Path::new("target");
    let parent = if target.is_dir() { target } else { Path::new(".") };
    tempfile::Builder::new().prefix("bench-").tempdir_in(parent).map_err(|error| error.to_string())
}

async fn open_sqlite(directory: &TempDir) -> Result<Store, String> {
    let path = directory.path().join("ledger.sqlite");
    Store::open(&StoreConfig::Sqlite { path }).await.map_err(|error| error.to_string())
}

async fn sqlite_load(callers: usize, plan: Plan) -> Result<load::Measured, String> {
    let directory = directory()?;
    let store = open_sqlite(&directory).await?;
    let measured = load::decide(&store, callers, plan.span).await.map_err(|error| error.to_string());
    store.close().await;
    measured
}

async fn sqlite_raw(per_transaction: usize, plan: Plan) -> Result<load::Measured, String> {
    let directory = directory()?;
    open_sqlite(&directory).await?.close().await;
    let path = directory.path().join("ledger.sqlite");
    let measured = host::task::spawn_blocking("raw loop", move || raw::run(&path, per_transaction, plan.span))
        .await
        .map_err(|error| error.to_string())?;
    measured.map_err(|error| error.to_string())
}

async fn sqlite_rate(entry: &mut Measurements, plan: Plan) {
    entry.values.add(sqlite_load(256, plan).await.map(|measured| measured.per_second));
    entry.limits.add(sqlite_raw(256, plan).await.map(|measured| measured.per_second));
}

async fn sqlite_latency(entry: &mut Measurements, plan: Plan) {
    entry.values.add(sqlite_load(1, plan).await.map(|measured| measured.p50_ms));
    entry.limits.add(sqlite_raw(1, plan).await.map(|measured| measured.p50_ms));
}

async fn drain_sqlite(plan: Plan) -> Result<f64, String> {
    let directory = directory()?;
    let store = open_sqlite(&directory).await?;
    let drained = load::drain(&store, plan.drained, 4, 200).await.map_err(|error| error.to_string());
    store.close().await;
    drained
}

/// A database of the benchmark's own, and one for pgbench beside it.
struct Postgres {
    store: Store,
    database: Database,
    program: String,
    pgbench: Result<Database, String>,
}

impl Postgres {
    async fn prepare(with_pgbench: bool) -> Result<Self, String> {
        let server = host::env::var(database::URL)
            .filter(|url| !url.is_empty())
            .ok_or_else(|| format!("{} names no PostgreSQL server", database::URL))?;
        let database = Database::create(&server).await.map_err(|error| error.to_string())?;
        let store = match Store::open(&StoreConfig::Postgres { url: database.url() }).await {
            Ok(store) => store,
            Err(error) => {
                let _ = database.drop_now().await;
                return Err(error.to_string());
            }
        };
        let program = pgbench::find();
        let pgbench = match with_pgbench {
            true => Self::prepare_pgbench(&program, &server).await,
            false => Err("not asked for".to_owned()),
        };
        Ok(Self { store, database, program, pgbench })
    }

    async fn prepare_pgbench(program: &str, server: &str) -> Result<Database, String> {
        let database = Database::create(server).await.map_err(|error| error.to_string())?;
        match pgbench::prepare(program, &database.url()).await {
            Ok(()) => Ok(database),
            Err(reason) => {
                let _ = database.drop_now().await;
                Err(reason)
            }
        }
    }

    async fn rate(&self, entry: &mut Measurements, callers: usize, plan: Plan) {
        let Ok(beside) = &self.pgbench else { return };
        let measured = load::decide(&self.store, callers, plan.span).await;
        entry.values.add(measured.map(|measured| measured.per_second).map_err(|error| error.to_string()));
        entry.limits.add(pgbench::measure(&self.program, &beside.url(), 64, plan.span).await);
    }

    async fn end(self) {
        self.store.close().await;
        let mut databases = vec![self.database];
        databases.extend(self.pgbench);
        for database in databases {
            // The server is thrown away afterwards, or its owner sees what was left behind.
            let _ = database.drop_now().await;
        }
    }
}
