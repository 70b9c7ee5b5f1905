//! Power cuts: everything that a node keeps lies on a filesystem that is shut down at once, in the middle of everything,
//! so that what was not made durable is gone; then it is mounted again, and the next start finds everything acknowledged.
//!
//! On PostgreSQL the database lies on the same filesystem, so that both lose their power in one instant. A shutdown of
//! ext4 drops what the kernel holds. It does not stand for a disk that lies about its cache. It needs root and a loop
//! device, and runs only when asked for. The controls are writers that do not wait for the disk, and a supervisor that
//! does not.

mod launch;

use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use futures_util::{FutureExt, future::BoxFuture};
use rusqlite::Connection;
use tempfile::TempDir;
use testkit::database::{self, Database};

use crate::{
    cluster::{self, Cluster},
    fault::{self, Backend, Expects, Fault, On, Outcome, Setting, Weight},
    ledger::Ledger,
    load::Customers,
    mount::{Disk, call},
    need::{Need, What},
    node::{Node, Program, Role, Seat},
    place::Place,
    processes,
    rest::{self, Closing},
    violation::{Kind, Violation},
};

pub const FAULT: Fault = Fault {
    name: "power-cut",
    injects: "the filesystem of the node and of its ledger is shut down under load, mounted again, and all started again",
    // Only when asked for: it needs root and a loop device.
    on: &[
        On { backend: Backend::Sqlite, quick: 0, long: 1_000, budget: 60 },
        On { backend: Backend::Postgres, quick: 0, long: 1_000, budget: 60 },
    ],
    weight: Weight::Light,
    needs: &[
        Need { what: What::Mounts, is_demanded: false },
        Need { what: What::Program("mkfs.ext4"), is_demanded: false },
        Need { what: What::Program("losetup"), is_demanded: false },
    ],
    run: |setting| run(setting).boxed(),
    controls: &[
        fault::Control { name: "not-durable", expects: Expects::A(Kind::Lost), run: |setting| not_durable(setting) },
        fault::Control {
            name: "forgetful-supervisor",
            expects: Expects::A(Kind::Repeated),
            run: |setting| launch::forgetful(setting),
        },
    ],
};

const SIZE: u64 = 256 << 20;
/// A cluster with its log, what is there to run it, and a node's data.
const CLUSTER_SIZE: u64 = 8 << 30;
const CUSTOMERS: u64 = 6;
/// How long the dead may take to close their files.
const BACK_WITHIN: Duration = Duration::from_secs(10);
/// Cuts within which the control has to lose something.
const CONTROL: u64 = 10;

/// What loses its power.
struct Machine {
    disk: Disk,
    at: PathBuf,
    /// Where a node has its data on that disk.
    data: PathBuf,
    /// PostgreSQL, with all it has on that disk beside what the node has.
    cluster: Option<Cluster>,
    /// Where the disk is mounted that a cluster's account has to enter; behind the disk, which goes first.
    _public: Option<TempDir>,
}

impl Machine {
    /// The machine on which a control takes place.
    async fn of(setting: &Setting) -> Result<Self> {
        let at = setting.dir.join("at");
        match setting.backend {
            Backend::Postgres if cluster::missing().is_none() => Self::with_cluster(&setting.dir, &at).await,
            Backend::Postgres | Backend::Sqlite | Backend::Neither => Self::with_file(&setting.dir, &at).await,
        }
    }

    async fn with_file(dir: &Path, at: &Path) -> Result<Self> {
        let disk = Disk::mount(&dir.join("disk"), at, SIZE).await?;
        Ok(Self { disk, at: at.to_owned(), data: at.to_owned(), cluster: None, _public: None })
    }

    /// A machine with PostgreSQL, whose disk has the data directory of a node at `data`, too.
    async fn with_cluster(dir: &Path, data: &Path) -> Result<Self> {
        let everybody = std::fs::Permissions::from_mode(0o755);
        let public = tempfile::Builder::new().prefix("pilothouse-disk-").permissions(everybody).tempdir()?;
        let at = public.path().to_owned();
        let mut disk = Disk::mount(&dir.join("disk"), &at, CLUSTER_SIZE).await?;
        disk.bind("node", data).await?;
        let cluster = Cluster::start_in(&at).await?;
        // The making of a cluster is not what this is about, and waits for no disk.
        call("sync", &["-f", &at.display().to_string()]).await?;
        Ok(Self { disk, at, data: data.to_owned(), cluster: Some(cluster), _public: Some(public) })
    }

    fn cut(&self) -> Result<()> {
        host::failpoint::cut_power(&self.at).context("the power cannot be cut")
    }

    /// Ends what it ran, by the directory that names it and the program that is started in sandboxes, as often as
    /// something of it is left.
    async fn come_back(&mut self, ran: Option<(&Path, &Path)>) -> Result<()> {
        if let Some(cluster) = &mut self.cluster {
            cluster.halt().await?;
        }
        let until = host::clock::monotonic() + BACK_WITHIN;
        loop {
            if let Some((dir, program)) = ran {
                kill_all(dir, program).await?;
            }
            match self.disk.mount_again().await {
                Err(error) if host::clock::monotonic() >= until => return Err(error),
                // A process is named by nothing while it becomes another program.
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                Ok(()) => break,
            }
        }
        match &mut self.cluster {
            Some(cluster) => cluster.start_again().await,
            None => Ok(()),
        }
    }

    async fn remove(self) -> Result<()> {
        if let Some(cluster) = self.cluster {
            cluster.stop().await?;
        }
        self.disk.remove().await
    }
}

async fn run(setting: Setting) -> Result<Outcome> {
    if let Some(why) = cluster::missing().filter(|_| setting.backend == Backend::Postgres) {
        return Ok(Outcome { cut: Some(why), ..Outcome::default() });
    }
    let dir = setting.dir.join("place");
    let (mut machine, place) = match setting.backend {
        Backend::Postgres => {
            let machine = Machine::with_cluster(&setting.dir, &dir.join("data")).await?;
            let url = machine.cluster.as_ref().map(|cluster| cluster.url.as_str());
            let place = Place::create(Backend::Postgres, dir, url).await?;
            (machine, place)
        }
        Backend::Sqlite | Backend::Neither => {
            let place = Place::create(Backend::Sqlite, dir, None).await?;
            (Machine::with_file(&setting.dir, &place.data()).await?, place)
        }
    };
    let outcome = under_load(&setting, &place, &mut machine).await;
    let removed = machine.remove().await;
    // What went wrong first says more than what cannot be tidied up after it.
    let outcome = outcome?;
    removed?;
    Ok(outcome)
}

async fn under_load(setting: &Setting, place: &Place, machine: &mut Machine) -> Result<Outcome> {
    let program = Program::Product(setting.programs.product.clone());
    let mut customers = Customers::start(CUSTOMERS, &setting.random, &setting.name, false);
    let (mut random, mut ledger) = (setting.random.fork(9), Ledger::default());
    let mut outcome = Outcome::default();
    let started = host::clock::monotonic();
    while outcome.done < setting.wanted && !setting.is_spent(started) && outcome.violations.is_empty() {
        let begun = launch::cut_when_begun(&setting.programs.product, &setting.dir, machine).await;
        outcome.violations.extend(begun.context("an attempt's beginning cannot be cut off")?);
        let mut node = Node::start(&program, &Seat::of(Role::Up), place)?;
        let target = node.ready().await?;
        customers.load.aim(outcome.done + 1, Some(target));
        tokio::time::sleep(random.millis(30, 400)).await;
        customers.load.aim(outcome.done + 1, None);
        if machine.cluster.is_some() {
            machine.cut()?;
            // Without its disk it may have ended before.
            node.put_down().await?;
        } else {
            // First, so that nobody is told of a filesystem that fails: what it wrote and did not flush is still to be
            // lost.
            node.kill().await?;
            machine.cut()?;
        }
        let ran = (place.dir.as_path(), setting.programs.product.as_path());
        machine.come_back(Some(ran)).await.context("the machine does not come back")?;
        outcome.done += 1;
        let looked = rest::look(place, &customers, &mut ledger, false).await;
        let found = looked.context("what the power cut has left cannot be read")?;
        outcome.violations.extend(found.into_iter().filter(counts));
        setting.tell(&format!("{} cuts", outcome.done));
    }
    outcome.figures = format!("{} acknowledged", customers.load.journal().acknowledged.len());
    if outcome.violations.is_empty() {
        let mut node = Node::start(&program, &Seat::of(Role::Up), place)?;
        let target = node.ready().await?;
        customers.load.aim(0, Some(target.clone()));
        let closing = Closing {
            name: &setting.name,
            program: &program,
            place,
            target: &target,
            customers: &mut customers,
            nodes: vec![node],
            ledger: &mut ledger,
        };
        let found = rest::come_to_rest(closing).await?;
        outcome.violations.extend(found.into_iter().filter(counts));
    }
    Ok(outcome)
}

/// Marks lie on another filesystem; what an attempt wrote itself may be gone with its end.
fn counts(violation: &Violation) -> bool {
    violation.kind != Kind::Unrecorded
}

/// The power is gone for everybody: for what the node has started, too, and for the sandboxes it was about to make, which
/// would keep the filesystem mounted.
async fn kill_all(dir: &Path, program: &Path) -> Result<()> {
    let until = host::clock::monotonic() + Duration::from_secs(10);
    loop {
        let mut left: Vec<u32> = processes::find(dir).into_iter().map(|process| process.pid).collect();
        if left.is_empty() {
            left = processes::unfinished(program);
        }
        if left.is_empty() {
            return Ok(());
        }
        for pid in left.iter().filter_map(|pid| rustix::process::Pid::from_raw(pid.cast_signed())) {
            // One that ended meanwhile needs no signal.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        ensure!(host::clock::monotonic() < until, "{} processes survive the power cut", left.len());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The control: rows that are acknowledged by a database that waits for its disk only now and then.
fn not_durable(setting: Setting) -> BoxFuture<'static, Result<Outcome>> {
    async move {
        let mut machine = Machine::of(&setting).await?;
        let rows = Rows::create(&machine).await?;
        call("sync", &["-f", &machine.at.display().to_string()]).await?;
        let mut random = setting.random.clone();
        let mut outcome = Outcome::default();
        while outcome.done < CONTROL && outcome.violations.is_empty() {
            let acknowledged = rows.insert_and_cut(200 + random.below(400), &machine).await?;
            machine.come_back(None).await?;
            outcome.done += 1;
            let stored = rows.count().await?;
            if stored < acknowledged {
                let what = format!("{stored} rows are stored, {acknowledged} were acknowledged");
                outcome.violations.push(Violation::of(Kind::Lost, what));
            }
        }
        drop(rows);
        machine.remove().await?;
        Ok(outcome)
    }
    .boxed()
}

/// A table of a database that is told not to wait: SQLite with `synchronous = NORMAL`, PostgreSQL with
/// `synchronous_commit = off`.
enum Rows {
    File(PathBuf),
    Server(Database),
}

const TABLE: &str = "CREATE TABLE rows (id INTEGER)";
const INSERT: &str = "INSERT INTO rows VALUES (1)";
const COUNT: &str = "SELECT count(*) FROM rows";

impl Rows {
    async fn create(machine: &Machine) -> Result<Self> {
        if let Some(cluster) = &machine.cluster {
            let database = Database::create(&cluster.url).await?;
            database::connect(&database.url()).await?.batch_execute(TABLE).await?;
            return Ok(Self::Server(database));
        }
        let path = machine.at.join("rows.db");
        open(&path)?.execute_batch(TABLE)?;
        Ok(Self::File(path))
    }

    /// How many rows there were, as far as one was told, when the power went.
    async fn insert_and_cut(&self, n: u64, machine: &Machine) -> Result<i64> {
        match self {
            Self::File(path) => {
                let conn = open(path)?;
                for _ in 0..n {
                    conn.execute(INSERT, ())?;
                }
                let acknowledged = conn.query_row(COUNT, (), |row| row.get(0))?;
                machine.cut()?;
                Ok(acknowledged)
            }
            Self::Server(database) => {
                let client = database::connect(&database.url()).await?;
                client.batch_execute("SET synchronous_commit = off").await?;
                for _ in 0..n {
                    client.execute(INSERT, &[]).await?;
                }
                let acknowledged = client.query_one(COUNT, &[]).await?.get(0);
                machine.cut()?;
                Ok(acknowledged)
            }
        }
    }

    async fn count(&self) -> Result<i64> {
        match self {
            Self::File(path) => Ok(open(path)?.query_row(COUNT, (), |row| row.get(0))?),
            Self::Server(database) => {
                let client = database::connect(&database.url()).await?;
                Ok(client.query_one(COUNT, &[]).await?.get(0))
            }
        }
    }
}

fn open(path: &Path) -> Result<Connection> {
    let conn = Connection::open(path)?;
    conn.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL")?;
    Ok(conn)
}
