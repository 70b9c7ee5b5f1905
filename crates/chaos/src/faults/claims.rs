//! Many claimers at one queue: no task is held by two, and each fence is larger than the last of its task.
//!
//! Fifty claimers take tasks, finish most, give some back, and let some go on purpose: those are taken over by others,
//! and whoever let them go comes back later and tries to finish them all the same. What each was told is held together
//! in [`register::Register`], outside the database. The controls claim without a lock and finish without a fence.

mod claimer;
mod flawed;
mod register;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result};
use domain::commit::Committed;
use futures_util::{FutureExt, future::BoxFuture};
use store::Store;
use testkit::bench::operation;

use self::{
    claimer::Claimer,
    flawed::{Flaw, Flawed},
    register::Register,
};
use crate::{
    fault::{self, Backend, Expects, Fault, On, Outcome, Setting, Weight},
    ledgers::Ledgers,
    violation::{Kind, Violation},
};

pub const FAULT: Fault = Fault {
    name: "claims",
    injects: "50 claimers at one queue at once, some of whom lose what they hold and come back",
    on: &[
        On { backend: Backend::Sqlite, quick: 100_000, long: 10_000_000, budget: 20 },
        On { backend: Backend::Postgres, quick: 100_000, long: 10_000_000, budget: 25 },
    ],
    weight: Weight::Heavy,
    needs: &[],
    run: sound,
    controls: &[
        fault::Control { name: "no-lock", expects: Expects::A(Kind::Repeated), run: without_lock },
        fault::Control { name: "no-fence", expects: Expects::A(Kind::StaleWriter), run: without_fence },
    ],
};

const CLAIMERS: u64 = 50;
/// Stores with connections of their own over one PostgreSQL.
const NODES: usize = 5;
/// Tasks of one commit, and how many are ready at a time.
const SHARE: u64 = 500;
const READY: u64 = 10_000;
/// Tasks within which a control has to be caught.
const CONTROL: u64 = 2_000;
/// How long nothing may be finished before the queue counts as stuck.
const STUCK: Duration = Duration::from_secs(20);

/// How claims are made.
#[derive(Clone, Debug)]
enum Queue {
    Product(Store),
    Flawed(Arc<Flawed>),
}

fn sound(setting: Setting) -> BoxFuture<'static, Result<Outcome>> {
    drain(setting, None).boxed()
}

fn without_lock(setting: Setting) -> BoxFuture<'static, Result<Outcome>> {
    drain(setting, Some(Flaw::NoLock)).boxed()
}

fn without_fence(setting: Setting) -> BoxFuture<'static, Result<Outcome>> {
    drain(setting, Some(Flaw::NoFence)).boxed()
}

async fn drain(setting: Setting, flaw: Option<Flaw>) -> Result<Outcome> {
    let wanted = if flaw.is_some() { setting.wanted.min(CONTROL) } else { setting.wanted };
    let ledgers = Ledgers::open(&setting, NODES).await?;
    let register = Arc::new(Register::new(setting.backend));
    let closing = Arc::new(AtomicBool::new(false));
    let flawed = match flaw {
        Some(flaw) => Some(Arc::new(Flawed::open(flaw, &ledgers, &setting).await?)),
        None => None,
    };
    let started = host::clock::monotonic();
    let mut filled = 0;
    let mut claimers = Vec::new();
    for n in 0..CLAIMERS {
        let place = usize::try_from(n).unwrap_or(0) % ledgers.all().len();
        let store = ledgers.all()[place].clone();
        let queue = match &flawed {
            Some(flawed) => Queue::Flawed(Arc::clone(flawed)),
            None => Queue::Product(store.clone()),
        };
        let claimer = Claimer::new(n, queue, store, Arc::clone(&register), setting.random.fork(n));
        let closing = Arc::clone(&closing);
        claimers.push(host::task::spawn("claimer", async move { claimer.work(&closing).await }));
    }
    // Fills up as the claimers drain, so that they find little at times and much at others.
    let (mut last, mut moved_at) = (0, host::clock::monotonic());
    let stuck = loop {
        let done = register.done();
        if done != last {
            (last, moved_at) = (done, host::clock::monotonic());
        }
        let over = setting.is_spent(started) || register.has_found();
        if over || done >= wanted {
            break false;
        }
        if moved_at.elapsed() > STUCK {
            break true;
        }
        if filled < wanted && filled.saturating_sub(done) < READY {
            fill(ledgers.first()).await?;
            filled += SHARE;
        } else {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    closing.store(true, Ordering::Release);
    for claimer in claimers {
        claimer.await??;
    }
    let took = started.elapsed();
    let mut violations = register.violations();
    if stuck {
        let what = format!("nothing was finished for {STUCK:?}; {last} of {filled} tasks were");
        violations.push(Violation::of(Kind::Stuck, what));
    }
    if flaw.is_none() {
        violations.extend(register.compare(ledgers.first(), filled).await?);
    }
    let done = register.done();
    let rate = f64::from(u32::try_from(done).unwrap_or(u32::MAX)) / took.as_secs_f64();
    let figures = format!("{}; {rate:.0} tasks/s", register.figures());
    ledgers.remove().await?;
    Ok(Outcome { done, figures, cut: None, violations })
}

async fn fill(store: &Store) -> Result<()> {
    let share = usize::try_from(SHARE).context("a share")?;
    let committed = store.commit(operation::enqueue(share)).await?;
    anyhow::ensure!(matches!(committed, Committed::Applied { .. }), "tasks could not be stored: {committed:?}");
    Ok(())
}
