//! Clocks that jump by up to ten years in either direction, and processes that stand still for longer than their lease,
//! under load.
//!
//! The node runs under libfaketime, whose file says how far its wall clock is off; monotonic clocks go on, as they do on
//! a real machine. After each jump the node's own log has to show that it saw it. Standing still is SIGSTOP of the node
//! and of everything it started, as when a laptop sleeps, or of the node alone. In the end everything must have come to
//! rest, with each effect once.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, ensure};
use futures_util::{FutureExt, future::BoxFuture};
use rustix::process::{Pid, Signal, kill_process};
use testkit::random::Random;

use crate::{
    fault::{self, Backend, Expects, Fault, On, Outcome, Setting, Weight},
    http::Request,
    ledger::Ledger,
    load::{Customers, exchange},
    need::{Need, What},
    node::{Node, Program, Role, Seat, Target},
    place::Place,
    processes,
    rest::{self, Closing},
    violation::{Kind, Violation},
};

pub const FAULT: Fault = Fault {
    name: "clock",
    injects: "jumps of the wall clock of up to ten years back and forth, and processes that stand still past their lease",
    on: &[
        On { backend: Backend::Sqlite, quick: 100, long: 5_000, budget: 25 },
        On { backend: Backend::Postgres, quick: 100, long: 5_000, budget: 25 },
    ],
    weight: Weight::Light,
    needs: &[
        Need { what: What::Linux, is_demanded: true },
        Need { what: What::Program("faketime"), is_demanded: false },
    ],
    run: |setting| run(setting, true).boxed(),
    controls: &[fault::Control { name: "unmoved", expects: Expects::A(Kind::Missed), run: |setting| unmoved(setting) }],
};

const CUSTOMERS: u64 = 4;
/// Shorter than every freeze.
const LEASE: Duration = Duration::from_millis(500);
/// Of a hundred injections, those that stop the processes instead.
const FREEZES: u64 = 8;
const YEAR: i64 = 365 * 24 * 3600;
/// Seconds that the node's log may differ from what its clock should show.
const TOLERANCE: i64 = 5;
/// How long the node may take to log something after it was asked.
const SEEN_WITHIN: Duration = Duration::from_secs(5);

/// The node as it is, of whom nobody moves the clock.
fn unmoved(mut setting: Setting) -> BoxFuture<'static, Result<Outcome>> {
    setting.wanted = 1;
    run(setting, false).boxed()
}

async fn run(setting: Setting, is_moved: bool) -> Result<Outcome> {
    let place = Place::create(setting.backend, setting.dir.join("place"), setting.postgres.as_deref()).await?;
    let faked = Faked::at(&place)?;
    faked.jump(0)?;
    let environment = if is_moved { faked.environment() } else { Vec::new() };
    let seat = Seat { lease: LEASE, environment, ..Seat::of(Role::Up) };
    let program = Program::Product(setting.programs.product.clone());
    let mut node = Node::start(&program, &seat, &place)?;
    let target = node.ready().await?;
    let n_customers = if is_moved { CUSTOMERS } else { 0 };
    let mut customers = Customers::start(n_customers, &setting.random, &setting.name, false);
    customers.load.aim(1, Some(target.clone()));
    let mut random = setting.random.fork(5);
    let mut outcome = Outcome::default();
    let mut freezes = 0;
    let started = host::clock::monotonic();
    while outcome.done < setting.wanted && !setting.is_spent(started) && outcome.violations.is_empty() {
        if is_moved && random.chance(FREEZES) {
            freeze(&node, &place, &mut random).await?;
            freezes += 1;
        } else {
            let offset = if is_moved { draw(&mut random) } else { YEAR };
            faked.jump(offset)?;
            // A little one cannot be told from a slow machine.
            if offset.abs() > 2 * TOLERANCE && !faked.is_seen(offset, &target, &place).await? {
                let what = format!("the process did not see its clock jump by {offset} s");
                outcome.violations.push(Violation::of(Kind::Missed, what));
            }
        }
        tokio::time::sleep(random.millis(10, 120)).await;
        if node.has_ended()? {
            outcome.violations.push(Violation::of(Kind::Process, node.obituary()));
        }
        outcome.done += 1;
    }
    if !is_moved {
        node.kill().await?;
        place.remove().await?;
        return Ok(outcome);
    }
    faked.jump(0)?;
    let closing = Closing {
        name: &setting.name,
        program: &program,
        place: &place,
        target: &target,
        customers: &mut customers,
        nodes: vec![node],
        ledger: &mut Ledger::default(),
    };
    outcome.violations.extend(rest::come_to_rest(closing).await?);
    let acknowledged = customers.load.journal().acknowledged.len();
    outcome.figures = format!("{} jumps, {freezes} freezes, {acknowledged} acknowledged", outcome.done - freezes);
    if outcome.violations.is_empty() && !setting.keep {
        place.remove().await?;
    }
    Ok(outcome)
}

/// Seconds: often a little, often years.
fn draw(random: &mut Random) -> i64 {
    let most = match random.below(4) {
        0 => 2,
        1 => 3_600,
        2 => 40 * 24 * 3600,
        _ => 10 * YEAR,
    };
    let size = i64::try_from(1 + random.below(most.unsigned_abs())).unwrap_or(1);
    if random.chance(50) { size } else { -size }
}

/// Stops the node, or it and everything it started, for longer than a lease.
async fn freeze(node: &Node, place: &Place, random: &mut Random) -> Result<()> {
    let mut pids = vec![node.pid];
    if random.chance(50) {
        pids = processes::find(&place.dir).into_iter().map(|process| process.pid).collect();
    }
    let signal = |signal: Signal| {
        for pid in pids.iter().filter_map(|pid| Pid::from_raw(i32::try_from(*pid).unwrap_or(0))) {
            // One that ended meanwhile needs no signal.
            let _ = kill_process(pid, signal);
        }
    };
    signal(Signal::STOP);
    tokio::time::sleep(Duration::from_millis(700) + random.millis(0, 300)).await;
    signal(Signal::CONT);
    Ok(())
}

/// A wall clock that a file moves.
struct Faked {
    file: PathBuf,
    library: PathBuf,
}

impl Faked {
    fn at(place: &Place) -> Result<Self> {
        let libraries = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib"];
        let library = libraries
            .iter()
            .map(|dir| PathBuf::from(dir).join("faketime/libfaketime.so.1"))
            .find(|library| library.is_file())
            .context("faketime is installed without its library")?;
        Ok(Self { file: place.dir.join("clock"), library })
    }

    fn environment(&self) -> Vec<(String, String)> {
        let env = [
            ("LD_PRELOAD", self.library.display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", self.file.display().to_string()),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
            ("DONT_FAKE_MONOTONIC", "1".to_owned()),
        ];
        env.map(|(name, value)| (name.to_owned(), value)).to_vec()
    }

    /// Whole or not at all: it is read at any moment.
    fn jump(&self, offset: i64) -> Result<()> {
        Ok(host::fs::write_atomic(&self.file, format!("{offset:+}\n").as_bytes())?)
    }

    /// Whether the node's log shows the moved time, once it was asked something.
    async fn is_seen(&self, offset: i64, target: &Target, place: &Place) -> Result<bool> {
        let started = host::clock::monotonic();
        let mut n = 0;
        let mut read = std::fs::metadata(place.log())?.len();
        while started.elapsed() < SEEN_WITHIN {
            n += 1;
            let path = "/runs?limit=1".to_owned();
            let request = Request { method: "GET", path, body: String::new(), idempotency_key: None };
            let (status, _) = exchange(&request, target, &mut None).await?;
            ensure!(status == 200, "a read was answered {status} after its clock had jumped by {offset} s");
            let expected = host::clock::now_micros() / 1_000_000 + offset;
            let log = std::fs::read(place.log())?;
            let new = String::from_utf8_lossy(&log[usize::try_from(read)?.min(log.len())..]).into_owned();
            let is_near = |line: &str| instant(line).is_some_and(|at| (at - expected).abs() <= TOLERANCE);
            if new.lines().any(is_near) {
                return Ok(true);
            }
            read = log.len() as u64 - new.rsplit('\n').next().map_or(0, str::len) as u64;
            tokio::time::sleep(Duration::from_millis(5 * n)).await;
        }
        Ok(false)
    }
}

/// The instant that a line of the log begins with, in seconds since 1970.
fn instant(line: &str) -> Option<i64> {
    let word = line.split_whitespace().next()?;
    Some(word.parse::<jiff::Timestamp>().ok()?.as_second())
}
