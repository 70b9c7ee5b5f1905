//! Power cuts: the ledger lies on a filesystem of its own that is shut down at once, in the middle of everything, so that
//! what was not made durable is gone; then it is mounted again, and the next start finds everything acknowledged.
//!
//! A shutdown of ext4 drops what the kernel holds. It does not stand for a disk that lies about its cache. It needs root
//! and a loop device, and runs only when asked for. The control is a writer that does not wait for the disk.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Result, ensure};
use futures_util::{FutureExt, future::BoxFuture};
use rusqlite::Connection;

use crate::{
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
    injects: "the filesystem of the ledger is shut down under load, mounted again, and the node started again",
    // Only when asked for: it needs root and a loop device.
    on: &[On { backend: Backend::Sqlite, quick: 0, long: 1_000, budget: 60 }],
    weight: Weight::Light,
    needs: &[
        Need { what: What::Mounts, is_demanded: false },
        Need { what: What::Program("mkfs.ext4"), is_demanded: false },
        Need { what: What::Program("losetup"), is_demanded: false },
    ],
    run: |setting| run(setting).boxed(),
    controls: &[fault::Control { name: "normal", expects: Expects::A(Kind::Lost), run: |setting| normal(setting) }],
};

const SIZE: u64 = 256 << 20;
const CUSTOMERS: u64 = 6;
/// Cuts within which the control has to lose something.
const CONTROL: u64 = 10;

async fn run(setting: Setting) -> Result<Outcome> {
    let place = Place::create(Backend::Sqlite, setting.dir.join("place"), None).await?;
    let mut disk = Disk::mount(&setting.dir.join("disk"), &place.data(), SIZE).await?;
    let program = Program::Product(setting.programs.product.clone());
    let mut customers = Customers::start(CUSTOMERS, &setting.random, &setting.name, false);
    let (mut random, mut ledger) = (setting.random.fork(9), Ledger::default());
    let mut outcome = Outcome::default();
    let started = host::clock::monotonic();
    while outcome.done < setting.wanted && !setting.is_spent(started) && outcome.violations.is_empty() {
        let mut node = Node::start(&program, &Seat::of(Role::Up), &place)?;
        let target = node.ready().await?;
        customers.load.aim(outcome.done + 1, Some(target));
        tokio::time::sleep(random.millis(30, 400)).await;
        customers.load.aim(outcome.done + 1, None);
        // First, so that nobody is told of a filesystem that fails: what it wrote and did not flush is still to be lost.
        node.kill().await?;
        host::failpoint::cut_power(&place.data())?;
        kill_all(&place).await?;
        disk.mount_again().await?;
        outcome.done += 1;
        let mut found = rest::look(&place, &customers, &mut ledger, false).await?;
        // Marks lie on another filesystem; what an attempt wrote itself may be gone with its end.
        found.retain(|violation| violation.kind != Kind::Unrecorded);
        outcome.violations.extend(found);
    }
    outcome.figures = format!("{} acknowledged", customers.load.journal().acknowledged.len());
    if outcome.violations.is_empty() {
        let mut node = Node::start(&program, &Seat::of(Role::Up), &place)?;
        let target = node.ready().await?;
        customers.load.aim(0, Some(target.clone()));
        let closing = Closing {
            name: &setting.name,
            program: &program,
            place: &place,
            target: &target,
            customers: &mut customers,
            nodes: vec![node],
            ledger: &mut ledger,
        };
        let mut found = rest::come_to_rest(closing).await?;
        found.retain(|violation| violation.kind != Kind::Unrecorded);
        outcome.violations.extend(found);
    }
    disk.remove().await?;
    Ok(outcome)
}

/// The power is gone for everybody: for what the node has started, too.
async fn kill_all(place: &Place) -> Result<()> {
    let until = host::clock::monotonic() + Duration::from_secs(10);
    loop {
        let left = processes::find(&place.dir);
        if left.is_empty() {
            return Ok(());
        }
        for pid in left.iter().filter_map(|process| rustix::process::Pid::from_raw(process.pid.cast_signed())) {
            // One that ended meanwhile needs no signal.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        ensure!(host::clock::monotonic() < until, "{} processes survive the power cut", left.len());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The control: rows that are acknowledged once SQLite has them, which waits for the disk only now and then.
fn normal(setting: Setting) -> BoxFuture<'static, Result<Outcome>> {
    async move {
        let at = setting.dir.join("at");
        let mut disk = Disk::mount(&setting.dir.join("disk"), &at, SIZE).await?;
        let mut random = setting.random.clone();
        let mut outcome = Outcome::default();
        let path = at.join("rows.db");
        let conn = open(&path)?;
        conn.execute_batch("CREATE TABLE rows (id INTEGER PRIMARY KEY) STRICT")?;
        call("sync", &["-f", &path.display().to_string()]).await?;
        drop(conn);
        while outcome.done < CONTROL && outcome.violations.is_empty() {
            let conn = open(&path)?;
            let rows: u64 = 200 + random.below(400);
            for _ in 0..rows {
                conn.execute("INSERT INTO rows DEFAULT VALUES", ())?;
            }
            let acknowledged: i64 = conn.query_row("SELECT count(*) FROM rows", (), |row| row.get(0))?;
            host::failpoint::cut_power(&at)?;
            drop(conn);
            disk.mount_again().await?;
            outcome.done += 1;
            let stored: i64 = open(&path)?.query_row("SELECT count(*) FROM rows", (), |row| row.get(0))?;
            if stored < acknowledged {
                let what = format!("{stored} rows are stored, {acknowledged} were acknowledged");
                outcome.violations.push(Violation::of(Kind::Lost, what));
            }
        }
        disk.remove().await?;
        Ok(outcome)
    }
    .boxed()
}

fn open(path: &Path) -> Result<Connection> {
    let conn = Connection::open(PathBuf::from(path))?;
    conn.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL")?;
    Ok(conn)
}
