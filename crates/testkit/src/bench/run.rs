//! Rounds: every row and its limit, one after the other, several times over.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    bench::{
        backlog,
        fixture::{self, Fixture},
        load, pgbench, raw,
        report::Report,
        rows::{Kind, Row},
        series::{Sample, Series, Unmeasured},
        start,
    },
    database::{self, Database},
};

/// How long, how often and how much.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub rounds: usize,
    pub span: Duration,
    /// Longer where the span is short: its 64 connections take a while to get going.
    pub pgbench: Duration,
    pub drained: usize,
    pub started: usize,
    /// Tasks behind those that are drained: half ready, half scheduled.
    pub behind: usize,
    /// Messages and events of a large ledger.
    pub history: usize,
}

impl Plan {
    pub const FULL: Self = Self {
        rounds: 5,
        span: Duration::from_secs(4),
        pgbench: Duration::from_secs(5),
        drained: 30_000,
        started: 100,
        behind: 2_000_000,
        history: 1_000_000,
    };
    pub const QUICK: Self = Self {
        rounds: 3,
        span: Duration::from_millis(1_500),
        pgbench: Duration::from_secs(4),
        drained: 10_000,
        started: 20,
        behind: 20_000,
        history: 20_000,
    };
}

/// Pages that are read for one figure.
const PAGES: usize = 200;
const WORKERS: usize = 4;
const CLAIM: u32 = 200;

/// A figure and its limit, measured one after the other.
type Measured = Result<(f64, Option<f64>), String>;

/// Measures these rows; `say` is told what is being done.
pub async fn run(rows: &[Row], plan: Plan, say: impl Fn(&str)) -> Vec<Report> {
    let mut bench = Bench::prepare(rows, plan).await;
    let mut measured: BTreeMap<&str, Series> = BTreeMap::new();
    for round in 1..=plan.rounds {
        bench.round_limit = None;
        for row in rows {
            let series = measured.entry(row.name()).or_default();
            if series.has_ended() {
                continue;
            }
            if let Some(reason) = bench.missing(*row) {
                series.push(Err(Unmeasured::Missing(reason.to_owned())));
                continue;
            }
            say(&format!("round {round} of {}: {}", plan.rounds, row.name()));
            let taken = bench.measure(*row).await;
            series.push(taken.map(|(value, limit)| Sample { value, limit, note: None }).map_err(Unmeasured::Failed));
        }
    }
    let reports = rows.iter().map(|row| measured.entry(row.name()).or_default().report(row.figure())).collect();
    bench.end().await;
    reports
}

/// What the rows share.
struct Bench {
    plan: Plan,
    /// The server's address, or why there is none.
    server: Result<String, String>,
    program: String,
    /// The database that pgbench works on, or why there is none.
    pgbench: Result<Database, String>,
    /// What pgbench reached in this round; all rows of a round are compared with one run.
    round_limit: Option<f64>,
    /// Ledgers that are too expensive to make for every round.
    ledgers: BTreeMap<&'static str, Fixture>,
}

impl Bench {
    async fn prepare(rows: &[Row], plan: Plan) -> Self {
        let server = host::env::var(database::URL)
            .filter(|url| !url.is_empty())
            .ok_or_else(|| format!("{} names no PostgreSQL server", database::URL));
        let program = pgbench::find();
        let pgbench = match &server {
            Ok(server) if rows.iter().any(|row| row.needs_pgbench()) => prepare_pgbench(&program, server).await,
            Ok(_) => Err("not asked for".to_owned()),
            Err(reason) => Err(reason.clone()),
        };
        Self { plan, server, program, pgbench, round_limit: None, ledgers: BTreeMap::new() }
    }

    /// Why a row cannot be measured here.
    fn missing(&self, row: Row) -> Option<&str> {
        let server = self.server.as_ref().err().filter(|_| row.needs_postgres());
        let pgbench = self.pgbench.as_ref().err().filter(|_| row.needs_pgbench());
        server.or(pgbench).map(String::as_str)
    }

    async fn measure(&mut self, row: Row) -> Measured {
        match row.kind() {
            Kind::Rate { callers } => self.rate(row, callers).await,
            Kind::Latency => self.latency(row).await,
            Kind::Start => self.start(row).await,
            Kind::DrainBehind => self.drain_behind(row).await,
            Kind::Pages => self.pages(row).await,
        }
    }

    /// A ledger of the row's own.
    async fn fresh(&self, row: Row) -> Result<Fixture, String> {
        match (row.needs_postgres(), &self.server) {
            (false, _) => Fixture::sqlite().await,
            (true, Ok(server)) => Fixture::postgres(server).await,
            (true, Err(reason)) => Err(reason.clone()),
        }
    }

    async fn rate(&mut self, row: Row, callers: usize) -> Measured {
        if !row.needs_postgres() {
            let ledger = self.fresh(row).await?;
            let measured = load::decide(&ledger.store, callers, self.plan.span).await;
            ledger.end().await;
            let value = measured.map_err(|error| error.to_string())?.per_second;
            return Ok((value, Some(raw_loop(256, self.plan).await?.per_second)));
        }
        // Making and dropping a database keeps the server's disk busy for a while, so one serves all rounds.
        const SHARED: &str = "rates on PostgreSQL";
        if !self.ledgers.contains_key(SHARED) {
            let ledger = self.fresh(row).await?;
            self.ledgers.insert(SHARED, ledger);
        }
        let (Some(ledger), Ok(beside)) = (self.ledgers.get(SHARED), &self.pgbench) else {
            return Err("the database is gone".to_owned());
        };
        let measured = load::decide(&ledger.store, callers, self.plan.span).await;
        let value = measured.map_err(|error| error.to_string())?.per_second;
        let limit = match self.round_limit {
            Some(limit) => limit,
            None => pgbench::measure(&self.program, &beside.url(), 64, self.plan.pgbench).await?,
        };
        self.round_limit = Some(limit);
        Ok((value, Some(limit)))
    }

    async fn latency(&mut self, row: Row) -> Measured {
        let ledger = self.fresh(row).await?;
        let measured = load::decide(&ledger.store, 1, self.plan.span).await;
        ledger.end().await;
        let value = measured.map_err(|error| error.to_string())?.p50_ms;
        Ok((value, Some(raw_loop(1, self.plan).await?.p50_ms)))
    }

    async fn start(&mut self, row: Row) -> Measured {
        let ledger = self.fresh(row).await?;
        let started = start::measure(&ledger.store, self.plan.started).await;
        ledger.end().await;
        let started = started.map_err(|error| error.to_string())?;
        let allowance = if row.needs_postgres() { 1.0 } else { 0.5 };
        Ok((started.start_ms, Some(2.0 * started.commit_ms + allowance)))
    }

    async fn drain(&mut self, row: Row) -> Result<f64, String> {
        let ledger = self.fresh(row).await?;
        let drained = load::drain(&ledger.store, self.plan.drained, WORKERS, CLAIM).await;
        ledger.end().await;
        drained.map_err(|error| error.to_string())
    }

    async fn drain_behind(&mut self, row: Row) -> Measured {
        if !self.ledgers.contains_key(row.name()) {
            let ledger = self.fresh(row).await?;
            let written = backlog::enqueue_behind(&ledger.store, self.plan.behind).await;
            self.ledgers.insert(row.name(), ledger);
            written.map_err(|error| error.to_string())?;
        }
        let plan = self.plan;
        let Some(ledger) = self.ledgers.get(row.name()) else { return Err("the backlog is gone".to_owned()) };
        let drained = load::drain(&ledger.store, plan.drained, WORKERS, CLAIM).await;
        let value = drained.map_err(|error| error.to_string())?;
        Ok((value, Some(self.drain(row).await?)))
    }

    async fn pages(&mut self, row: Row) -> Measured {
        let short = match row.needs_postgres() {
            true => "a short history on PostgreSQL",
            false => "a short history on SQLite",
        };
        let mut times = [0.0; 2];
        for (time, (name, rows)) in
            times.iter_mut().zip([(row.name(), self.plan.history), (short, backlog::SHORT_HISTORY)])
        {
            if !self.ledgers.contains_key(name) {
                let ledger = self.fresh(row).await?;
                let written = backlog::write_history(&ledger.store, rows).await;
                self.ledgers.insert(name, ledger);
                written.map_err(|error| error.to_string())?;
            }
            let Some(ledger) = self.ledgers.get(name) else { return Err("the history is gone".to_owned()) };
            *time = backlog::read_pages(&ledger.store, PAGES).await.map_err(|error| error.to_string())?;
        }
        Ok((times[0], Some(times[1])))
    }

    async fn end(self) {
        for (_, ledger) in self.ledgers {
            ledger.end().await;
        }
        if let Ok(database) = self.pgbench {
            // The server is thrown away afterwards, or its owner sees what was left behind.
            drop(database.drop_now().await);
        }
    }
}

async fn prepare_pgbench(program: &str, server: &str) -> Result<Database, String> {
    wear_in(server).await.map_err(|error| error.to_string())?;
    let database = Database::create(server).await.map_err(|error| error.to_string())?;
    match pgbench::prepare(program, &database.url()).await {
        Ok(()) => Ok(database),
        Err(reason) => {
            drop(database.drop_now().await);
            Err(reason)
        }
    }
}

/// Has a new server make the log segments that one at work has and reuses: each is written twice the first time. Dropping
/// a database is a checkpoint, after which the server keeps as many as `min_wal_size` says.
async fn wear_in(server: &str) -> Result<(), tokio_postgres::Error> {
    let database = Database::create(server).await?;
    let fill =
        "SELECT count(pg_logical_emit_message(false, 'wear in', repeat('x', 1048576))) FROM generate_series(1, 960)";
    let filled = database::connect(&database.url()).await?.batch_execute(fill).await;
    database.drop_now().await?;
    filled
}

/// The limit on SQLite, on a new file.
async fn raw_loop(per_transaction: usize, plan: Plan) -> Result<load::Measured, String> {
    let directory = fixture::directory()?;
    let path = directory.path().join("ledger.sqlite");
    let store = store::Store::open(&store::StoreConfig::Sqlite { path: path.clone() }).await;
    store.map_err(|error| error.to_string())?.close().await;
    let measured = host::task::spawn_blocking("raw loop", move || raw::run(&path, per_transaction, plan.span)).await;
    measured.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
}
