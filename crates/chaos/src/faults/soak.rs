//! Half load for long, with a `kill -9` now and then: what the node takes of the machine must not grow.
//!
//! In each life the node's memory, its open files, its threads, the size of its log and how fast it answers are noted; the
//! last third of its lives is compared with the first. In the end everything acknowledged is there, and nothing runs. The
//! quick gate, on machines that do other work, does not compare how fast it answers. The control is a client that opens
//! more connections in each life and closes none.

use std::{net::Ipv4Addr, time::Duration};

use anyhow::{Result, bail, ensure};
use futures_util::FutureExt;
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
    injects: "half load for long with a SIGKILL every minute, every two seconds in the quick gate (seconds of it)",
    on: &[
        On { backend: Backend::Sqlite, quick: 300, long: 86_400, budget: 10 },
        On { backend: Backend::Postgres, quick: 300, long: 86_400, budget: 10 },
    ],
    weight: Weight::Light,
    needs: &[],
    run: |setting| run(setting, false).boxed(),
    controls: &[fault::Control {
        name: "held-open",
        expects: Expects::A(Kind::Process),
        run: |setting| run(setting, true).boxed(),
    }],
};

const CUSTOMERS: u64 = 3;
const LIFE: Duration = Duration::from_secs(60);
const QUICK_LIFE: Duration = Duration::from_secs(2);
const CONTROL_LIFE: Duration = Duration::from_millis(200);
/// There are so many, however long they take to begin: fewer have no first and last to compare.
const LEAST_LIVES: usize = 3;
/// Lives of the control.
const LIVES: usize = 6;
/// Connections that the control opens in each life more than in the one before.
const HELD: u32 = 30;
/// How many answers tell how fast a life is.
const ASKED: u32 = 40;
/// Files that may be open more in one life than in another: eight jobs at once have two each, and connections to the ledger
/// come when they are needed.
const SPARE_FILES: u64 = 32;
/// Threads that come up for a busy moment.
const SPARE_THREADS: u64 = 16;
/// The most that the log of an SQLite ledger may grow to.
const LOG: u64 = 64 << 20;
/// The most that each connection of an SQLite node keeps of its ledger (docs/performance.md): that which writes, those
/// that read, and that which moves the log.
const PAGES: [u64; 5] = [16 << 20, 2 << 20, 2 << 20, 2 << 20, 1 << 20];

/// What a life was like.
#[derive(Clone, Copy, Debug)]
struct Life {
    /// Bytes of memory at its end.
    memory: u64,
    /// The fewest, so that what is at work in a moment does not count.
    files: u64,
    threads: u64,
    /// Bytes of the ledger's file and of its log at its end; 0 on PostgreSQL.
    ledger: u64,
    log: u64,
    /// The middle of its answers' times.
    answered_in: Duration,
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
    let goes_on = |lives: usize| match is_held {
        true => lives < LIVES,
        false => lives < LEAST_LIVES || (started.elapsed() < wanted && !setting.is_spent(started)),
    };
    while goes_on(lives.len()) {
        let mut node = Node::start(&program, &seat(is_held), &place)?;
        let target = node.ready().await?;
        customers.load.aim(lives.len() as u64 + 1, Some(target.clone()));
        let connections = if is_held { hold(&target, lives.len()).await } else { Vec::new() };
        lives.push(live(&mut node, &target, &place, span).await?);
        customers.load.aim(lives.len() as u64, None);
        node.kill().await?;
        drop(connections);
        setting.tell(&format!("{:?}", lives.last()));
    }
    outcome.done = started.elapsed().as_secs().min(setting.wanted);
    outcome.violations.extend(compare(&lives));
    if setting.budget.is_none() {
        outcome.violations.extend(compare_speed(&lives));
    }
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

/// The connections of the control stay open however long its lives become.
fn seat(is_held: bool) -> Seat {
    let patience = ("PILOTHOUSE_SERVER__LIMITS__HEADER_READ".to_owned(), "1h".to_owned());
    Seat { environment: is_held.then_some(patience).into_iter().collect(), ..Seat::of(Role::Up) }
}

/// Lets a node live for so long, asking it something now and then.
async fn live(node: &mut Node, target: &Target, place: &Place, span: Duration) -> Result<Life> {
    let (mut times, mut seen, mut connection) = (Vec::new(), Vec::new(), None);
    let path = "/runs?limit=10".to_owned();
    let request = Request { method: "GET", path, body: String::new(), idempotency_key: None };
    let began = host::clock::monotonic();
    while seen.is_empty() || began.elapsed() < span {
        let asked_at = host::clock::monotonic();
        let (status, _) = exchange(&request, target, &mut connection).await?;
        ensure!(status == 200, "a read was answered {status}");
        times.push(asked_at.elapsed());
        seen.push(Vitals::read(node.pid)?);
        tokio::time::sleep(span / ASKED).await;
    }
    if node.has_ended()? {
        bail!("{}", node.obituary());
    }
    times.sort_unstable();
    Ok(Life {
        memory: Vitals::read(node.pid)?.rss,
        files: seen.iter().map(|vitals| vitals.files).min().unwrap_or_default(),
        threads: seen.iter().map(|vitals| vitals.threads).min().unwrap_or_default(),
        ledger: size(&place.data().join("pilothouse.db")),
        log: size(&place.data().join("pilothouse.db-wal")),
        answered_in: times.get(times.len() / 2).copied().unwrap_or_default(),
    })
}

/// The first third of the lives and the last.
fn thirds(lives: &[Life]) -> Option<[&[Life]; 2]> {
    let third = lives.len().div_ceil(3);
    Some([lives.get(..third)?, lives.get(lives.len().checked_sub(third)?..)?])
}

fn median<T: Ord + Copy + Default>(lives: &[Life], of: impl Fn(&Life) -> T) -> T {
    let mut values: Vec<T> = lives.iter().map(of).collect();
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or_default()
}

fn grew(what: &str, [before, after]: [u64; 2], most: u64) -> Option<Violation> {
    (after > most)
        .then(|| Violation::of(Kind::Process, format!("{what} grew from {before} to {after}, at most {most} would do")))
}

/// What holds on any machine.
fn compare(lives: &[Life]) -> Vec<Violation> {
    let Some(thirds) = thirds(lives) else { return Vec::new() };
    let both = |of: fn(&Life) -> u64| thirds.map(|lives| median(lives, of));
    let memory = both(|life| life.memory);
    let files = both(|life| life.files);
    let threads = both(|life| life.threads);
    // What the log holds may not be in the file yet.
    let [fewer, more] =
        [median(thirds[0], |life| pages(life.ledger)), median(thirds[1], |life| pages(life.ledger + life.log))];
    let log = lives.iter().map(|life| life.log).max().unwrap_or_default();
    [
        // Besides pages of the ledger, what threads that came up for a busy moment have asked for.
        grew("memory (bytes)", memory, memory[0] + more.saturating_sub(fewer) + memory[0] / 5 + (8 << 20)),
        grew("open files", files, files[0] + SPARE_FILES),
        grew("threads", threads, threads[0] + SPARE_THREADS),
        grew("the ledger's log (bytes)", [0, log], LOG),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// What needs a machine of its own.
fn compare_speed(lives: &[Life]) -> Option<Violation> {
    let micros = |life: &Life| u64::try_from(life.answered_in.as_micros()).unwrap_or(u64::MAX);
    let times = thirds(lives)?.map(|lives| median(lives, micros));
    grew("the middle answer's time (µs)", times, 2 * times[0] + 10_000)
}

/// Bytes of a ledger of this size that its node may keep.
fn pages(ledger: u64) -> u64 {
    PAGES.iter().map(|most| ledger.min(*most)).sum()
}

fn figures(lives: &[Life]) -> String {
    let shown = |life: Option<&Life>| {
        life.map(|life| {
            let Life { memory, files, threads, ledger, log, answered_in } = life;
            let (memory, ledger, log) = (memory >> 20, ledger >> 20, log >> 20);
            let micros = answered_in.as_micros();
            format!("{memory} MB, {files} files, {threads} threads, {ledger} MB of ledger, {log} of log, {micros} µs")
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

#[cfg(test)]
mod tests {
    use super::*;

    const MB: u64 = 1 << 20;

    fn life() -> Life {
        let answered_in = Duration::from_millis(1);
        Life { memory: 40 * MB, files: 30, threads: 10, ledger: MB, log: 8 * MB, answered_in }
    }

    fn found(last: Life) -> Vec<Violation> {
        let lives = [life(), life(), life(), last, last];
        compare(&lives).into_iter().chain(compare_speed(&lives)).collect()
    }

    #[test]
    fn memory_may_grow_with_the_ledger_as_far_as_its_pages_are_kept() {
        let grown = |memory, ledger| found(Life { memory: memory * MB, ledger: ledger * MB, ..life() }).len();

        // Nine megabytes in file and log: as many for the writer, six for three readers, one for whoever moves the log.
        assert_eq!((grown(67, 1), grown(68, 1)), (0, 1));
        assert_eq!((grown(74, 64), grown(75, 640)), (0, 1));
    }

    #[test]
    fn whatever_else_grows_is_found() {
        assert_eq!(found(life()), []);
        for last in [
            Life { files: 63, ..life() },
            Life { threads: 27, ..life() },
            Life { log: LOG + 1, ..life() },
            Life { answered_in: Duration::from_millis(13), ..life() },
        ] {
            assert_eq!(found(last).len(), 1, "{last:?}");
        }
    }

    #[test]
    fn one_life_is_the_first_and_the_last() {
        assert_eq!(compare(&[life()]), []);
        assert_eq!(compare(&[]), []);
    }
}
