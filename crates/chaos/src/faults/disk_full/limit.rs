//! A limit on the size of files (`RLIMIT_FSIZE`), which needs no powers: at another byte each time, the node may not write
//! on, and the system ends it over that. Nothing acknowledged is lost, and without the limit the next start goes on.

use std::time::Duration;

use anyhow::Result;
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use tokio::sync::watch;

use super::{CUSTOMERS, is_given_up, probe::Probe, program};
use crate::{
    drill::Flaw,
    fault::{Outcome, Setting},
    ledger::Ledger,
    load::Customers,
    node::{Node, Role, Seat},
    place::Place,
    rest::{self, Closing},
    violation::{Kind, Violation},
    vitals::size,
};

/// What jobs may write in any case: their marks are not what this is about.
const LEAST: u64 = 1 << 20;
/// Bytes beyond the largest file, up to which the limit may lie.
const MORE: u64 = 384 << 10;
const ENDED_WITHIN: Duration = Duration::from_secs(20);

pub(super) async fn run(setting: Setting, flaw: Option<Flaw>) -> Result<Outcome> {
    let place = Place::create(setting.backend, setting.dir.join("place"), None).await?;
    let program = program(&setting, flaw);
    let mut customers = Customers::start(CUSTOMERS, &setting.random, &setting.name, flaw.is_some());
    let (mut random, mut ledger) = (setting.random.fork(4), Ledger::default());
    let mut outcome = Outcome::default();
    let started = host::clock::monotonic();
    while outcome.done < setting.wanted && !setting.is_spent(started) && outcome.violations.is_empty() {
        let mut node = Node::start(&program, &Seat::of(Role::Up), &place)?;
        let target = node.ready().await?;
        customers.load.aim(outcome.done + 1, Some(target.clone()));
        tokio::time::sleep(random.millis(20, 200)).await;
        let largest = ["", "-wal"].map(|part| size(&place.data().join(format!("pilothouse.db{part}"))));
        let largest = largest.into_iter().max().unwrap_or_default();
        limit(&node, LEAST + random.below((largest + MORE).saturating_sub(LEAST)))?;
        let name = format!("{}-{}", setting.name, outcome.done);
        let is_over = press_until_over(&mut node, &Probe::of(&name, target, flaw.is_some(), false)).await?;
        customers.load.aim(outcome.done + 1, None);
        node.put_down().await?;
        outcome.done += 1;
        if !is_over {
            let what = format!("no write met the limit within {ENDED_WITHIN:?}");
            outcome.violations.push(Violation::of(Kind::Missed, what));
        }
        outcome.violations.extend(rest::look(&place, &customers, &mut ledger, false).await?);
    }
    outcome.figures = format!("{} times over the limit of a file's size", outcome.done);
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
        let found = rest::come_to_rest(closing).await?;
        outcome.violations.extend(found.into_iter().filter(|violation| !is_given_up(violation)));
    }
    Ok(outcome)
}

fn limit(node: &Node, bytes: u64) -> Result<()> {
    let pid = i32::try_from(node.pid).ok().and_then(Pid::from_raw);
    prlimit(pid, Resource::Fsize, Rlimit { current: Some(bytes), maximum: Some(bytes) })?;
    Ok(())
}

/// Whether a write of the node went over its limit.
async fn press_until_over(node: &mut Node, probe: &Probe) -> Result<bool> {
    let stop = watch::Sender::new(false);
    let pressing = probe.start_pressing(&stop);
    let started = host::clock::monotonic();
    let mut is_over = false;
    while !is_over && started.elapsed() < ENDED_WITHIN {
        tokio::time::sleep(Duration::from_millis(5)).await;
        is_over = node.has_ended()?;
    }
    stop.send_replace(true);
    for presser in pressing {
        presser.await?;
    }
    Ok(is_over)
}
