//! Queues that others made, on the same machine in the same run: ours beside theirs.
//!
//! Each runs at the settings that its authors measure with, in a program of its own (`bench/peers`), on the same
//! PostgreSQL; RQ on a Redis of its own, which writes its log once a second and so promises less.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::Value;
use testkit::{
    bench::{
        fixture::Fixture,
        series::{Sample, Unmeasured},
        start,
    },
    database::Database,
};

use crate::{
    Measured, Plan,
    place::{self, Place, server},
};

/// One way to run one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    GraphileBatched,
    GraphileDefault,
    Apalis,
    PgBoss,
    Rq,
    RqSimple,
}

impl Peer {
    /// Its tasks a second, with a queue that takes seconds to empty.
    pub(crate) async fn drain(self) -> Result<f64, Unmeasured> {
        let rate = match self {
            Self::GraphileBatched => graphile("batched", 10_000).await?,
            Self::GraphileDefault => graphile("default", 4_000).await?,
            Self::Apalis => apalis(20_000).await?,
            Self::PgBoss => pg_boss(20_000).await?,
            Self::Rq => rq("worker", 300).await?,
            Self::RqSimple => rq("simple", 3_000).await?,
        };
        rate["per_second"].as_f64().ok_or_else(|| "a peer did not tell its rate".into())
    }
}

/// Ours beside graphile-worker's: from the call that enqueues to the claim that returns, to its handler there.
pub(crate) async fn starts(plan: Plan) -> Measured {
    let ledger = Fixture::postgres(&server()?).await?;
    let ours = start::measure(&ledger.store, plan.started).await;
    ledger.end().await;
    let ours = ours.map_err(|error| error.to_string())?.start_ms;
    let theirs = graphile("start", plan.started).await?["start_ms"].as_f64();
    Ok(Sample::beside(ours, theirs.ok_or("graphile-worker did not tell its time")?))
}

async fn graphile(mode: &'static str, jobs: usize) -> Result<Value, Unmeasured> {
    let dir = found("NODE")?;
    with_database(move |url| {
        let mut command = Command::new("node");
        command.arg("graphile.mjs").arg(mode).arg(url).arg(jobs.to_string()).current_dir(dir);
        command
    })
    .await
}

async fn pg_boss(jobs: usize) -> Result<Value, Unmeasured> {
    let dir = found("NODE")?;
    with_database(move |url| {
        let mut command = Command::new("node");
        command.arg("pgboss.mjs").arg(url).arg(jobs.to_string()).current_dir(dir);
        command
    })
    .await
}

async fn apalis(jobs: usize) -> Result<Value, Unmeasured> {
    let program = found("APALIS")?;
    with_database(move |url| {
        let mut command = Command::new(program);
        command.arg(url).arg(jobs.to_string());
        command
    })
    .await
}

async fn with_database(command: impl FnOnce(String) -> Command) -> Result<Value, Unmeasured> {
    let database = Database::create(&server()?).await.map_err(|error| error.to_string())?;
    let answer = answer_of(command(database.url())).await;
    // The server is thrown away afterwards, or its owner sees what was left behind.
    drop(database.drop_now().await);
    Ok(answer?)
}

async fn rq(kind: &'static str, jobs: usize) -> Result<Value, Unmeasured> {
    let (dir, program) = (found("PYTHON")?, found("REDIS")?);
    let place = Place::new(place::Database::Sqlite).await?;
    let redis = Redis::start(&program, place.root()).await?;
    let mut command = Command::new(dir.join("venv/bin/python"));
    command.arg("rq_peer.py").arg(kind).arg(&redis.url).arg(jobs.to_string()).current_dir(dir);
    let answer = answer_of(command).await;
    drop(redis);
    place.end().await;
    Ok(answer?)
}

/// Where the task that started us has put it, or why it has not.
fn found(what: &str) -> Result<PathBuf, Unmeasured> {
    let name = format!("PILOTHOUSE_BENCH_PEERS_{what}");
    let missing = std::env::var(format!("{name}_MISSING"));
    std::env::var_os(&name).map(PathBuf::from).ok_or_else(|| {
        Unmeasured::Missing(missing.unwrap_or_else(|_| "`cargo xtask bench peers` fetches the peers".to_owned()))
    })
}

/// What the program says on its last line.
async fn answer_of(mut command: Command) -> Result<Value, String> {
    let ran = host::task::spawn_blocking("peer", move || command.stdin(Stdio::null()).output()).await;
    let output = ran.map_err(|error| error.to_string())?.map_err(|error| format!("a peer did not start: {error}"))?;
    let (said, wrong) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let last = said.lines().last().unwrap_or_default();
    serde_json::from_str(last).map_err(|_| format!("a peer failed ({}): {}", output.status, wrong.trim()))
}

/// Killed when it is dropped.
struct Redis {
    child: Child,
    url: String,
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Redis {
    /// As its authors ship it for those who want to keep what they write.
    async fn start(program: &Path, dir: &Path) -> Result<Self, String> {
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let port = free.map_err(|error| error.to_string())?.port();
        let mut command = Command::new(program);
        command.args(["--bind", "127.0.0.1", "--port", &port.to_string()]);
        command.args(["--save", "", "--appendonly", "yes", "--appendfsync", "everysec", "--dir"]).arg(dir);
        let spawned = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        let child = spawned.map_err(|error| format!("Redis did not start: {error}"))?;
        let redis = Self { child, url: format!("redis://127.0.0.1:{port}") };
        for _ in 0..500 {
            if tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
                return Ok(redis);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Err("Redis did not listen in time".to_owned())
    }
}
