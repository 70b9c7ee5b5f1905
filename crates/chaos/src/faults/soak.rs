//! Half load for long, with a `kill -9` now and then: what the node takes of the machine must not grow.
//!
//! Before each kill the node's memory, its open files, the size of its log and how fast it answers are noted; the last
//! third of its lives is compared with the first. In the end everything acknowledged is there. The control is a client
//! that opens more connections in each life and closes none.

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use anyhow::{Result, bail, ensure};
use futures_util::{FutureExt, future::BoxFuture};
use tokio::net::TcpStream;

use crate::{
    fault::{self, Backend, Expects, Fault, On, Outcome, Setting, Weight},
    http::{Request, connect_from},
    ledger::Ledger,
    load::{Customers, exchange},
    node::{Node, Program, Role, Seat, Target},
    place::Place,
    rest::{self, Closing},
    violation::{Kind, Violation},
    vitals::{Vitals, size},
};

/// Counts are seconds.
pub const FAULT: Fault = Fault {
    name: "soak",
    injects: "half load for long with a SIGKILL every minute, every five seconds in the quick gate (seconds of it)",
    // Only when asked for: what drifts shows in minutes. In seconds a node that starts on a larger ledger, and reads it
    // through for its check, holds more of its pages each time, up to their bound.
    on: &[
        On { backend: Backend::Sqlite, quick: 0, long: 86_400, budget: 30 },
        On { backend: Backend::Postgres, quick: 0, long: 86_400, budget: 30 },
    ],
    weight: Weight::Light,
    needs: &[],
    run: |setting| run(setting, false).boxed(),
    controls: &[fault::Control { name: "held-open", expects: Expects::A(Kind::Process), run: |setting| held(setting) }],
};

const CUSTOMERS: u64 = 3;
const LIFE: Duration = Duration::from_secs(60);
const QUICK_LIFE: Duration = Duration::from_secs(5);
const CONTROL_LIFE: Duration = Duration::from_secs(1);
/// Lives of the control.
const LIVES: u64 = 6;
/// Connections that the control opens in each life more than in the one before.
const HELD: u32 = 30;
/// How many answers tell how fast a life is.
const ASKED: usize = 40;
/// The most that the log of an SQLite ledger may grow to.
const LOG: u64 = 64 << 20;

/// What a life was like just before its end.
#[derive(Clone, Copy, Debug)]
struct Life {
    vitals: Vitals,
    log: u64,
    /// The middle of its answers' times.
    answered_in: Duration,
}

fn held(mut setting: Setting) -> BoxFuture<'static, Result<Outcome>> {
    setting.wanted = LIVES;
    run(setting, true).boxed()
}

async fn run(setting: Setting, is_held: bool) -> Result<Outcome> {
    let place = Place::create(setting.backend, setting.dir.join("place"), setting.postgres.as_deref()).await?;
    let program = Program::Product(setting.programs.product.clone());
    let n_customers = if is_held { 0 } else { CUSTOMERS };
    let mut customers = Customers::start(n_customers, &setting.random, &setting.name, false);
    let span = match (is_held, setting.budget) {
        (true, _) => CONTROL_LIFE,
        (false, Some(_)) => QUICK_LIFE,
        (false, None) => LIFE,
    };
    let mut lives: Vec<Life> = Vec::new();
    let mut outcome = Outcome::default();
    let started = host::clock::monotonic();
    let wanted = Duration::from_secs(setting.wanted);
    // The control has so many lives, however long they take to begin: few of them show no growth.
    let goes_on = |lives: usize| match is_held {
        true => (lives as u64) < LIVES,
        false => started.elapsed() < wanted && !setting.is_spent(started),
    };
    while goes_on(lives.len()) {
        let mut node = Node::start(&program, &Seat::of(Role::Up), &place)?;
        let target = node.ready().await?;
        customers.load.aim(lives.len() as u64 + 1, Some(target.clone()));
        let connections = if is_held { hold(&target, lives.len()).await } else { Vec::new() };
        let rest = if is_held { span } else { wanted.saturating_sub(started.elapsed()) };
        let until = host::clock::monotonic() + span.min(rest);
        lives.push(live(&mut node, &target, &place, until).await?);
        customers.load.aim(lives.len() as u64, None);
        node.kill().await?;
        drop(connections);
        setting.tell(&format!("{:?}", lives.last()));
    }
    outcome.done = if is_held { LIVES } else { started.elapsed().as_secs().min(setting.wanted) };
    outcome.violations.extend(compare(&lives));
    outcome.figures = figures(&lives);
    if is_held {
        // What nobody asked for runs nothing, so that nothing is left.
        place.remove().await?;
        return Ok(outcome);
    }
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
        ledger: &mut Ledger::default(),
    };
    outcome.violations.extend(rest::come_to_rest(closing).await?);
    if outcome.violations.is_empty() && !setting.keep {
        place.remove().await?;
    }
    Ok(outcome)
}

/// Lets a node live, asking it something now and then.
async fn live(node: &mut Node, target: &Target, place: &Place, until: Instant) -> Result<Life> {
    let (mut times, mut connection) = (Vec::new(), None);
    let pause = until.saturating_duration_since(host::clock::monotonic()) / u32::try_from(ASKED)?;
    let path = "/runs?limit=10".to_owned();
    let request = Request { method: "GET", path, body: String::new(), idempotency_key: None };
    while host::clock::monotonic() < until {
        let asked_at = host::clock::monotonic();
        let (status, _) = exchange(&request, target, &mut connection).await?;
        ensure!(status == 200, "a read was answered {status}");
        times.push(asked_at.elapsed());
        tokio::time::sleep(pause).await;
    }
    if node.has_ended()? {
        bail!("{}", node.obituary());
    }
    times.sort_unstable();
    let answered_in = times.get(times.len() / 2).copied().unwrap_or_default();
    let log = size(&place.data().join("pilothouse.db-wal"));
    Ok(Life { vitals: Vitals::read(node.pid)?, log, answered_in })
}

/// The last third of the lives against the first.
fn compare(lives: &[Life]) -> Vec<Violation> {
    let third = lives.len().div_ceil(3);
    let (Some(first), Some(last)) = (lives.get(..third), lives.len().checked_sub(third).map(|from| &lives[from..]))
    else {
        return Vec::new();
    };
    let mut found = Vec::new();
    let mut grew = |what: &str, before: u64, after: u64, most: u64| {
        if after > most {
            let what = format!("{what} grew from {before} to {after}, at most {most} would do");
            found.push(Violation::of(Kind::Process, what));
        }
    };
    let median = |lives: &[Life], of: fn(&Life) -> u64| {
        let mut values: Vec<u64> = lives.iter().map(of).collect();
        values.sort_unstable();
        values.get(values.len() / 2).copied().unwrap_or_default()
    };
    // Few lives tell little: an allowance for what a start and a busy machine bring.
    let rss = |life: &Life| life.vitals.rss >> 10;
    let (before, after) = (median(first, rss), median(last, rss));
    grew("memory (KiB)", before, after, before + before / 5 + (8 << 10));
    let files = |life: &Life| life.vitals.files;
    let (before, after) = (median(first, files), median(last, files));
    grew("open files", before, after, before + 16);
    let threads = |life: &Life| life.vitals.threads;
    let (before, after) = (median(first, threads), median(last, threads));
    grew("threads", before, after, before + 16);
    let micros = |life: &Life| u64::try_from(life.answered_in.as_micros()).unwrap_or(u64::MAX);
    let (before, after) = (median(first, micros), median(last, micros));
    grew("the middle answer's time (µs)", before, after, 2 * before + 10_000);
    let log = lives.iter().map(|life| life.log).max().unwrap_or_default();
    grew("the ledger's log (bytes)", 0, log, LOG);
    found
}

fn figures(lives: &[Life]) -> String {
    let shown = |life: Option<&Life>| {
        life.map(|life| {
            let Life { vitals, log, answered_in } = life;
            let (rss, files, threads, log) = (vitals.rss >> 20, vitals.files, vitals.threads, log >> 20);
            format!("{rss} MB, {files} files, {threads} threads, {log} MB of log, {} µs", answered_in.as_micros())
        })
        .unwrap_or_default()
    };
    format!("{} lives; first {}; last {}", lives.len(), shown(lives.first()), shown(lives.last()))
}

/// The control: connections that nobody closes, more of them in each life.
async fn hold(target: &Target, life: usize) -> Vec<TcpStream> {
    let mut held = Vec::new();
    for n in 0..HELD * u32::try_from(life).unwrap_or(0) {
        let source = Ipv4Addr::new(127, 0, 3, 1 + u8::try_from(n / 50).unwrap_or(0));
        held.extend(connect_from(source, target.address).await);
    }
    held
}
