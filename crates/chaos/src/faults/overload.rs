//! Ten times the clients, clients that send or read slowly, and a job that prints for the whole time.
//!
//! First a load that the node carries well is measured, then everything comes at once, then the first load again. What
//! is done well must not fall below nine tenths, every answer comes in time or is a refusal, slow clients are let go,
//! memory stays below twice, and the threads are as many as before. The quick gate, on machines that do other work, does
//! not compare speeds. The control is the same with the limits on slow clients and on bodies taken away.

mod slow;

use std::{
    net::Ipv4Addr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use futures_util::{FutureExt, future::BoxFuture};
use serde_json::json;

use self::slow::Slow;
use crate::{
    fault::{self, Backend, Expects, Fault, On, Outcome, Setting, Weight},
    http::{Connection, Request},
    load::exchange,
    node::{Node, Program, Role, Seat, Target},
    place::Place,
    violation::{Kind, Violation},
    vitals::Vitals,
};

/// Counts are seconds of overload.
pub const FAULT: Fault = Fault {
    name: "overload",
    injects: "ten times the clients, clients that send and read slowly, and a job that prints without end (seconds of it)",
    on: &[
        On { backend: Backend::Sqlite, quick: 60, long: 3_600, budget: 16 },
        // Only when asked for: what is bounded there is bounded by the same code, and the gate has minutes.
        On { backend: Backend::Postgres, quick: 0, long: 3_600, budget: 20 },
    ],
    weight: Weight::Heavy,
    needs: &[],
    run: |setting| run(setting, true).boxed(),
    controls: &[fault::Control {
        name: "no-limits",
        expects: Expects::Each(&[Kind::Stuck, Kind::Process]),
        run: |setting| without_limits(setting),
    }],
};

/// Clients that the node carries well, and those of the overload, spread over several addresses.
const CLIENTS: u8 = 16;
const MORE_CLIENTS: u8 = 160;
const PER_ADDRESS: u8 = 40;
const MEASURED: Duration = Duration::from_secs(2);
const RUN_UP: Duration = Duration::from_millis(500);
/// Until what a load keeps in memory (pages of the ledger, what each thread's allocator holds) has grown to its size.
const WARM_UP: Duration = Duration::from_secs(5);
/// For what is not measured: until all clients are there.
const GLANCE: Duration = Duration::from_millis(500);
/// Threads that may come and go by chance.
const SPARE_THREADS: u64 = 16;
/// Seconds of the control: until what slow clients send has arrived.
const CONTROL: u64 = 2;
/// What the node takes of a body, and what each slow client of the control sends of it.
const NO_LIMIT: usize = 64 << 20;
const HELD: usize = 4 << 20;
/// No answer may take longer.
const ANSWERED_WITHIN: Duration = Duration::from_secs(10);
/// What slow clients are granted, here as in the environment of the node.
const HEADERS: Duration = Duration::from_secs(2);
const BODY: Duration = Duration::from_secs(2);
const READER: Duration = Duration::from_secs(2);
/// What the node may take besides, on a busy machine.
const GRACE: Duration = Duration::from_secs(4);

const FLOOD: &str = r#"
[job.flood]
title = "Print for ever"
owner = "harness"
exec = { argv = ["/usr/bin/yes", "and again"], timeout = "2h" }
policy = { approve = "none" }
"#;

fn without_limits(mut setting: Setting) -> BoxFuture<'static, Result<Outcome>> {
    setting.wanted = CONTROL;
    run(setting, false).boxed()
}

async fn run(setting: Setting, is_limited: bool) -> Result<Outcome> {
    let place = Place::create(setting.backend, setting.dir.join("place"), setting.postgres.as_deref()).await?;
    std::fs::write(place.jobs(), format!("{}{FLOOD}", place.catalog()))?;
    let program = Program::Product(setting.programs.product.clone());
    let mut node = Node::start(&program, &seat(is_limited), &place)?;
    let target = node.ready().await?;
    say(&target, "flood-1", "run flood").await?;
    let mut outcome = Outcome::default();
    let is_measured = is_limited && setting.budget.is_none();
    let span = if is_measured { MEASURED } else { GLANCE };
    let warm_up = if is_limited { WARM_UP } else { GLANCE };
    let before = load(&target, &node, CLIENTS, (warm_up, span)).await?;
    // What comes before and after takes as long whatever is wanted.
    let spare = setting.budget.map_or(u64::MAX, |budget| budget.as_secs().saturating_sub(WARM_UP.as_secs() + 3));
    let seconds = setting.wanted.min(spare).max(1);
    let mut slow = Slow::start(&target, if is_limited { 0 } else { HELD });
    let during = load(&target, &node, MORE_CLIENTS, (RUN_UP, Duration::from_secs(seconds))).await?;
    outcome.violations.extend(slow.judge().await);
    let after = load(&target, &node, CLIENTS, (RUN_UP, span)).await?;
    if node.has_ended()? {
        outcome.violations.push(Violation::of(Kind::Process, node.obituary()));
        return Ok(outcome);
    }
    outcome.done = seconds;
    outcome.violations.extend(judge(&before, &during));
    if is_measured {
        // Others may have been at work on the machine in one of the two.
        outcome.violations.extend(judge_speed(before.rate.min(after.rate), &during));
    }
    outcome.figures = format!(
        "{:.0}/s before, {:.0}/s during (slowest answer {} ms, {} refused), {:.0}/s after; {} then {} MB, {} then {} \
         threads; {slow}",
        before.rate,
        during.rate,
        during.slowest.as_millis(),
        during.refused,
        after.rate,
        before.vitals.rss >> 20,
        during.vitals.rss >> 20,
        before.vitals.threads,
        during.vitals.threads,
    );
    end(node, &target, is_limited).await?;
    place.remove().await?;
    Ok(outcome)
}

/// Stops the job that prints, then the node.
async fn end(node: Node, target: &Target, is_orderly: bool) -> Result<()> {
    if !is_orderly {
        return node.kill().await;
    }
    say(target, "flood-2", "cancel flood").await?;
    ensure!(node.stop().await?.success(), "the node did not stop in order");
    Ok(())
}

fn seat(is_limited: bool) -> Seat {
    let off = Duration::from_secs(3_600);
    let value = |on: Duration| format!("{}s", if is_limited { on } else { off }.as_secs());
    let mut environment = vec![
        ("PILOTHOUSE_SERVER__LIMITS__HEADER_READ", value(HEADERS)),
        ("PILOTHOUSE_SERVER__LIMITS__BODY_READ", value(BODY)),
        ("PILOTHOUSE_SERVER__LIMITS__STREAM_IDLE", value(READER)),
        ("PILOTHOUSE_SERVER__LIMITS__STREAM_HEARTBEAT", "1s".to_owned()),
        ("PILOTHOUSE_LOG__FILTER", "warn".to_owned()),
    ];
    if !is_limited {
        environment.push(("PILOTHOUSE_SERVER__LIMITS__MAX_BODY_BYTES", NO_LIMIT.to_string()));
    }
    let environment = environment.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    Seat { environment, ..Seat::of(Role::Up) }
}

/// What holds on any machine.
fn judge(before: &Load, during: &Load) -> Vec<Violation> {
    let mut found: Vec<Violation> =
        during.wrong.iter().map(|wrong| Violation::of(Kind::Answer, wrong.clone())).collect();
    if during.rate == 0.0 {
        found.push(Violation::of(Kind::Late, "no command was carried out".to_owned()));
    }
    if during.vitals.rss >= 2 * before.vitals.rss {
        let what = format!("memory grew from {} to {} MB", before.vitals.rss >> 20, during.vitals.rss >> 20);
        found.push(Violation::of(Kind::Process, what));
    }
    if during.vitals.threads > before.vitals.threads + SPARE_THREADS {
        let what = format!("from {} threads it came to {}", before.vitals.threads, during.vitals.threads);
        found.push(Violation::of(Kind::Process, what));
    }
    found
}

/// What needs a machine of its own.
fn judge_speed(peak: f64, during: &Load) -> Vec<Violation> {
    let mut found = Vec::new();
    if during.rate < 0.9 * peak {
        let what = format!("{:.0} commands/s were carried out, of {peak:.0} without the overload", during.rate);
        found.push(Violation::of(Kind::Late, what));
    }
    if during.slowest > ANSWERED_WITHIN {
        let what = format!("an answer took {:?}, more than {ANSWERED_WITHIN:?}", during.slowest);
        found.push(Violation::of(Kind::Late, what));
    }
    found
}

/// What came of a load.
#[derive(Debug, Default)]
struct Load {
    /// Commands that were carried out, a second.
    rate: f64,
    refused: u64,
    slowest: Duration,
    wrong: Vec<String>,
    vitals: Vitals,
}

/// One client's share of it.
#[derive(Debug, Default)]
struct Share {
    done: u64,
    refused: u64,
    slowest: Duration,
    wrong: Option<String>,
}

/// So many clients, each waiting for its answer before it asks again.
async fn load(target: &Target, node: &Node, clients: u8, (run_up, span): (Duration, Duration)) -> Result<Load> {
    let stop = Arc::new(AtomicBool::new(false));
    let shares: Arc<Mutex<Vec<Share>>> = Arc::default();
    let from = host::clock::monotonic() + run_up;
    let tasks: Vec<_> = (0..clients)
        .map(|n| {
            let (target, stop, shares) = (target.clone(), Arc::clone(&stop), Arc::clone(&shares));
            host::task::spawn("client", async move {
                let share = be_client(&target, n, &stop, from).await;
                shares.lock().unwrap_or_else(PoisonError::into_inner).push(share);
            })
        })
        .collect();
    let mut load = Load::default();
    while from.elapsed() < span {
        load.vitals = load.vitals.max(Vitals::read(node.pid)?);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let took = from.elapsed();
    stop.store(true, Ordering::Release);
    for task in tasks {
        task.await?;
    }
    let mut done = 0;
    for share in shares.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
        done += share.done;
        load.refused += share.refused;
        load.slowest = load.slowest.max(share.slowest);
        load.wrong.extend(share.wrong);
    }
    load.rate = f64::from(u32::try_from(done)?) / took.as_secs_f64();
    load.wrong.truncate(5);
    Ok(load)
}

async fn be_client(target: &Target, n: u8, stop: &AtomicBool, from: Instant) -> Share {
    let source = Ipv4Addr::new(127, 0, 1, 1 + n / PER_ADDRESS);
    let mut share = Share::default();
    let mut connection = None;
    let salt = host::random::base62(6);
    let mut asked = 0_u64;
    while !stop.load(Ordering::Acquire) {
        let open = match connection.take() {
            Some(open) => Ok(open),
            None => Connection::open_from(source, target.address).await,
        };
        let Ok(open) = open else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        asked += 1;
        let request = message(&format!("{salt}-{n}-{asked}"), "hello");
        let sent_at = host::clock::monotonic();
        let answer = connection.insert(open).send(&request, &target.token).await;
        share.slowest = share.slowest.max(sent_at.elapsed());
        match answer {
            Ok((200, _)) if sent_at >= from => share.done += 1,
            Ok((200, _)) => {}
            Ok((429 | 503, _)) => {
                share.refused += 1;
                connection = None;
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            Ok((status, body)) => {
                let body = String::from_utf8_lossy(&body).chars().take(200).collect::<String>();
                share.wrong = Some(format!("a command was answered {status}: {body}"));
            }
            // A connection that idled or that has no place is closed.
            Err(_) => connection = None,
        }
    }
    share
}

fn message(key: &str, text: &str) -> Request {
    let body = json!({"from": "crowd", "conversation": "crowd", "body": text, "providerMessageId": key});
    Request { method: "POST", path: "/dev/inbound".to_owned(), body: body.to_string(), idempotency_key: None }
}

async fn say(target: &Target, key: &str, text: &str) -> Result<()> {
    let (status, _) = exchange(&message(key, text), target, &mut None).await.context("the node does not answer")?;
    ensure!(status == 200, "`{text}` was answered {status}");
    Ok(())
}
