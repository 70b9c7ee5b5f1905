//! A migration that is killed at each of its statements: what is left is the schema before or the schema after, and the
//! next start goes on from there.
//!
//! On SQLite the store passes a failpoint before each statement. PostgreSQL is given all statements of a migration in one
//! message, so that its nodes are killed at random moments of their start. The controls carry out the same statements one
//! by one, without a transaction around them.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use futures_util::{FutureExt, future::BoxFuture};
use rusqlite::{Connection, fallible_iterator::FallibleIterator as _};
use testkit::random::Random;
use tokio_postgres::Client;

use crate::{
    fault::{self, Backend, Expects, Fault, On, Outcome, Setting, Weight},
    node::{Node, Program, Role, Seat},
    place::Place,
    tool,
    violation::{Kind, Violation},
};

/// On SQLite counts are statements; the quick gate and the long one both want all there are.
pub const FAULT: Fault = Fault {
    name: "migration",
    injects: "SIGKILL of a node at each statement of its migrations (PostgreSQL: at random moments of them)",
    on: &[
        On { backend: Backend::Sqlite, quick: 200, long: 200, budget: 20 },
        On { backend: Backend::Postgres, quick: 60, long: 1_000, budget: 20 },
    ],
    weight: Weight::Light,
    needs: &[],
    run: |setting| run(setting).boxed(),
    controls: &[fault::Control {
        name: "no-transaction",
        expects: Expects::A(Kind::Integrity),
        run: |setting| without_transaction(setting),
    }],
};

const POINT: &str = "sqlite.migrate.statement";
const PATIENCE: Duration = Duration::from_secs(20);
/// Where the control stops.
const PART: u64 = 12;

/// How long after its start a node is killed at the latest: a migration takes a part of that.
const LATEST: u64 = 120;

async fn run(setting: Setting) -> Result<Outcome> {
    let place = Place::create(setting.backend, setting.dir.join("place"), setting.postgres.as_deref()).await?;
    let program = Program::Product(setting.programs.product.clone());
    let mut outcome = Outcome::default();
    let stop = match place.database_url() {
        None => Stop::Failpoint,
        Some(url) => Stop::Moment(testkit::database::connect(&url).await?),
    };
    let mut random = setting.random.fork(11);
    let started = host::clock::monotonic();
    let mut statements = None;
    for at in 1..=setting.wanted {
        if setting.is_spent(started) || !outcome.violations.is_empty() {
            break;
        }
        if !stop.kill_at(at, &program, &place, &mut random).await? {
            // There is no such statement: the node serves.
            statements = Some(at - 1);
            break;
        }
        outcome.done = at;
        outcome.violations.extend(stop.judge(&place, at).await?);
    }
    if let Some(all) = statements {
        outcome.figures = format!("all {all} statements; schemas to come from: the empty one");
        outcome.cut = Some(format!("there are {all} statements"));
    }
    if outcome.violations.is_empty() {
        outcome.violations.extend(goes_on(&setting.programs.product, &program, &place).await?);
        place.remove().await?;
    }
    Ok(outcome)
}

/// How a node is made to die.
enum Stop {
    /// At the statement itself.
    Failpoint,
    /// At any moment of its start: PostgreSQL is given all statements of a migration at once.
    Moment(Client),
}

impl Stop {
    /// Starts a node that dies at this statement, or at some moment; `false` when there is no such statement.
    async fn kill_at(&self, at: u64, program: &Program, place: &Place, random: &mut Random) -> Result<bool> {
        let mut seat = Seat::of(if place.database_url().is_some() { Role::Serve } else { Role::Up });
        if let Self::Moment(client) = self {
            let node = Node::start(program, &seat, place)?;
            tokio::time::sleep(random.millis(0, LATEST)).await;
            node.kill().await?;
            end_sessions(client).await?;
            return Ok(true);
        }
        seat.environment = vec![("FAILPOINTS".to_owned(), format!("{POINT}={}*off->return", at - 1))];
        let mut node = Node::start(program, &seat, place)?;
        let started = host::clock::monotonic();
        loop {
            if node.find_target().is_some() {
                node.kill().await?;
                return Ok(false);
            }
            if node.has_ended()? {
                return Ok(true);
            }
            ensure!(started.elapsed() < PATIENCE, "the node neither died at statement {at} nor serves");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Nothing of a migration may be there that was not committed, and what was committed is whole.
    async fn judge(&self, place: &Place, at: u64) -> Result<Option<Violation>> {
        let left = match self {
            Self::Failpoint => sqlite_tables(&place.data().join("pilothouse.db"))?,
            Self::Moment(client) => {
                let count = "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace";
                let left: i64 = client.query_one(count, &[]).await?.get(0);
                let named = "SELECT count(*) FROM pg_class WHERE relname = 'meta'";
                let version = "SELECT count(*) FROM meta WHERE key = 'schema_version'";
                let is_whole = client.query_one(named, &[]).await?.get::<_, i64>(0) == 1
                    && client.query_one(version, &[]).await?.get::<_, i64>(0) == 1;
                if is_whole {
                    // It came through before the end; the next one begins from nothing again.
                    client.batch_execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public").await?;
                    return Ok(None);
                }
                left
            }
        };
        let what = format!("killed at statement {at}, a migration left {left} tables and indexes behind");
        Ok((left != 0).then(|| Violation::of(Kind::Integrity, what)))
    }
}

/// The server learns of the death of its client only when it has something to say.
async fn end_sessions(client: &Client) -> Result<()> {
    let others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
                  AND backend_type = 'client backend'";
    client.query_one(&format!("SELECT count(pg_terminate_backend(pid)) {others}"), &[]).await?;
    let started = host::clock::monotonic();
    while client.query_one(&format!("SELECT count(*) {others}"), &[]).await?.get::<_, i64>(0) > 0 {
        ensure!(started.elapsed() < PATIENCE, "a session of the dead does not end");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok(())
}

/// What a file holds besides what every database has; the log beside it is read with it, from a copy.
fn sqlite_tables(path: &Path) -> Result<i64> {
    let copy = path.with_extension("looked-at");
    for ending in ["", "-wal"] {
        let (from, to) = (beside(path, ending), beside(&copy, ending));
        let _ = std::fs::remove_file(&to);
        if from.exists() {
            std::fs::copy(&from, &to)?;
        }
    }
    if !copy.exists() {
        return Ok(0);
    }
    Ok(Connection::open(&copy)?.query_row("SELECT count(*) FROM sqlite_schema", (), |row| row.get(0))?)
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

/// A start that nobody disturbs brings the schema up to date, and the ledger is sound.
async fn goes_on(product: &Path, program: &Program, place: &Place) -> Result<Option<Violation>> {
    let mut node = Node::start(program, &Seat::of(Role::Up), place)?;
    if let Err(error) = node.ready().await {
        return Ok(Some(Violation::of(Kind::Integrity, format!("the next start does not go on: {error:#}"))));
    }
    ensure!(node.stop().await?.success(), "the node did not stop in order");
    let mut arguments = vec!["db".to_owned(), "check".to_owned(), "--fold".to_owned()];
    if let Some(url) = place.database_url() {
        arguments.extend(["--database-url".to_owned(), url]);
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let checked = tool::run(product, &arguments, place).await?;
    Ok((!checked.succeeded).then(|| Violation::of(Kind::Integrity, checked.said)))
}

/// The control: the first part of the same statements, each by itself, and then the death of whoever carried them out.
fn without_transaction(setting: Setting) -> BoxFuture<'static, Result<Outcome>> {
    async move {
        let place = Place::create(setting.backend, setting.dir.join("place"), setting.postgres.as_deref()).await?;
        let mut random: Random = setting.random.clone();
        let n = usize::try_from(1 + random.below(PART))?;
        let stop = match place.database_url() {
            None => {
                std::fs::create_dir_all(place.data())?;
                let conn = Connection::open(place.data().join("pilothouse.db"))?;
                conn.execute_batch("PRAGMA journal_mode = WAL")?;
                let text = migration("sqlite")?;
                let mut batch = rusqlite::Batch::new(&conn, &text);
                for _ in 0..n {
                    let Some(mut statement) = batch.next()? else { break };
                    statement.execute(())?;
                }
                Stop::Failpoint
            }
            Some(url) => {
                let client = testkit::database::connect(&url).await?;
                // Domains come first and are no tables.
                for statement in migration("postgres")?.split(";\n").take(n + 20) {
                    client.batch_execute(statement).await?;
                }
                Stop::Moment(client)
            }
        };
        let mut outcome = Outcome { done: 1, ..Outcome::default() };
        outcome.violations.extend(stop.judge(&place, n as u64).await?);
        drop(stop);
        place.remove().await?;
        Ok(outcome)
    }
    .boxed()
}

/// The first migration, as the store has it.
fn migration(dialect: &str) -> Result<String> {
    let path = format!("{}/../store/migrations/{dialect}/0001_ledger.sql", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))
}
