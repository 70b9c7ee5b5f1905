//! Partitions between a node and the database: nothing passes, or one direction only, or now and then, or it is held back;
//! the end is late delivery on the same connections, or their loss.
//!
//! Where namespaces may be made, PostgreSQL and each node have a network of their own, and packets are dropped between
//! them ([`crate::network`]): nobody is told, and what is delivered late is what the kernel sends again. Elsewhere they
//! are made by a wire on the loopback, one before each node, which needs no powers.

mod silence;

use std::time::Duration;

use anyhow::{Result, ensure};
use futures_util::future::BoxFuture;
use testkit::random::Random;

use crate::{
    drill::Flaw,
    fault::{Backend, Control, Expects, Fault, On, Outcome, Setting, Weight},
    fleet::{Fleet, LEASE, LONG_LEASE},
    ground::{Ground, Line},
    violation::{Kind, Violation},
    wire::{EVERYTHING, NOTHING, Passes},
};

pub const FAULT: Fault = Fault {
    name: "partitions",
    injects: "full, one-way and flapping partitions between a node and PostgreSQL, healed late or lost (network namespaces, or a wire on the loopback)",
    on: &[On { backend: Backend::Postgres, quick: 20, long: 2_000, budget: 45 }],
    weight: Weight::Light,
    needs: &[],
    run: |setting| Box::pin(product(setting)),
    controls: &[
        Control { name: "sound", expects: Expects::Nothing, run: |setting| drill(setting, None) },
        Control {
            name: "no-fence",
            expects: Expects::A(Flaw::NoFence.shows_as()),
            run: |setting| drill(setting, Some(Flaw::NoFence)),
        },
        Control {
            name: "within-the-lease",
            expects: Expects::A(Kind::Missed),
            run: |setting| Box::pin(run(setting, 4, LONG_LEASE, true)),
        },
        Control {
            name: "nothing-dropped",
            expects: Expects::A(Kind::Missed),
            run: |setting| Box::pin(run(setting, 4, LEASE, false)),
        },
    ],
};

/// Partitions on one ledger.
const CAMPAIGN: u64 = 20;
const DRILL_PARTITIONS: u64 = 8;
const FLAP: Duration = Duration::from_millis(40);
/// Within which a new connection is made where nothing is in its way.
const PROBE: Duration = Duration::from_millis(150);
/// Until something passes again: what was dropped is sent again by a timer that has doubled a few times.
const PASSES_AGAIN: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Full,
    ToServer,
    ToClient,
    Flapping,
    /// What the node sends waits in a queue.
    Held,
}

const SHAPES: [Shape; 5] = [Shape::Full, Shape::ToServer, Shape::ToClient, Shape::Flapping, Shape::Held];

async fn product(setting: Setting) -> Result<Outcome> {
    let wanted = setting.wanted;
    run(setting, wanted, LEASE, true).await
}

/// Partitions between the nodes and the database; with `drops` unset everything passes all the time.
async fn run(setting: Setting, wanted: u64, lease: Duration, drops: bool) -> Result<Outcome> {
    Ground::lend(&setting, async |ground| on(&setting, ground, wanted, lease, drops).await).await
}

async fn on(setting: &Setting, ground: &mut Ground, wanted: u64, lease: Duration, drops: bool) -> Result<Outcome> {
    let started = host::clock::monotonic();
    let mut random = setting.random.clone();
    let (mut acknowledged, mut taken_over, mut silences) = (0, 0, Vec::new());
    let mut outcome = Outcome::default();
    while outcome.done < wanted && outcome.violations.is_empty() && !setting.is_spent(started) {
        let mut fleet = Fleet::of_product(setting, ground, &outcome.done.to_string(), lease).await?;
        let until = wanted.min(outcome.done + CAMPAIGN);
        while outcome.done < until && !setting.is_spent(started) {
            tokio::time::sleep(random.millis(50, 200)).await;
            let who = usize::try_from(random.below(3)).unwrap_or(0);
            let shape = shape(outcome.done, ground);
            setting.tell(&format!("node {who}: {shape:?}"));
            let url = fleet.url()?;
            let found = part(&mut fleet.lines[who], &url, shape, drops, &mut random).await?;
            outcome.violations.extend(found);
            outcome.done += 1;
            if let Some(dead) = fleet.find_dead()? {
                outcome.violations.push(dead);
                return Ok(outcome);
            }
        }
        if lease == LEASE && drops {
            let silent = silence::bear(&mut fleet, &setting.name).await?;
            setting.tell(&format!("{silent:?}"));
            silences.push(silent.clone());
            outcome.violations.extend(silent.violation());
        }
        taken_over += fleet.count_taken_over().await?;
        let (n, found) = fleet.end(setting.keep).await?;
        acknowledged += n;
        outcome.violations.extend(found);
    }
    if taken_over == 0 {
        let what = "nothing was taken over from a node behind a partition";
        outcome.violations.push(Violation::of(Kind::Missed, what));
    }
    outcome.figures = format!(
        "{}; {acknowledged} commands acknowledged, {taken_over} tasks taken over, lease {lease:?}{}",
        ground.text(),
        silence::text(&silences),
    );
    Ok(outcome)
}

/// Each shape gets its share, as far as the ground has it.
fn shape(done: u64, ground: &Ground) -> Shape {
    let n_shapes = if ground.holds_packets() { SHAPES.len() } else { SHAPES.len() - 1 };
    SHAPES[usize::try_from(done).unwrap_or(0) % n_shapes]
}

/// One partition, as long as a lease and more, and its end; `url` is the database's. Where it `drops` nothing, or too
/// little, that is found.
async fn part(line: &mut Line, url: &str, shape: Shape, drops: bool, random: &mut Random) -> Result<Option<Violation>> {
    let (started, pause) = (host::clock::monotonic(), LEASE + random.millis(100, 600));
    match shape {
        Shape::Held => line.hold(drops).await?,
        Shape::Flapping => {
            while started.elapsed() < pause {
                line.set(if drops && random.chance(60) { NOTHING } else { EVERYTHING }).await?;
                tokio::time::sleep(FLAP).await;
            }
        }
        _ if !drops => {}
        Shape::Full => line.set(NOTHING).await?,
        Shape::ToServer => line.set(Passes { to_server: false, to_client: true }).await?,
        Shape::ToClient => line.set(Passes { to_server: true, to_client: false }).await?,
    }
    let is_whole = matches!(shape, Shape::Flapping | Shape::Held);
    let leaks = !is_whole && line.reaches(PROBE).await;
    tokio::time::sleep(pause.saturating_sub(started.elapsed())).await;
    // Lost as often as late.
    if random.chance(50) {
        line.lose(url).await?;
    }
    line.hold(false).await?;
    line.set(EVERYTHING).await?;
    ensure!(line.reaches(PASSES_AGAIN).await, "a partition that was ended goes on");
    Ok(leaks.then(|| Violation::of(Kind::Missed, format!("a new connection was made through a partition: {shape:?}"))))
}

/// The little node behind the same partitions.
fn drill(setting: Setting, flaw: Option<Flaw>) -> BoxFuture<'static, Result<Outcome>> {
    Box::pin(async move { Ground::lend(&setting, async |ground| drill_on(&setting, ground, flaw).await).await })
}

async fn drill_on(setting: &Setting, ground: &mut Ground, flaw: Option<Flaw>) -> Result<Outcome> {
    let mut random = setting.random.clone();
    let mut fleet = Fleet::of_drill(setting, ground, flaw).await?;
    let mut outcome = Outcome::default();
    let url = fleet.url()?;
    while outcome.done < DRILL_PARTITIONS {
        tokio::time::sleep(random.millis(100, 300)).await;
        let shape = shape(outcome.done, ground);
        outcome.violations.extend(part(&mut fleet.lines[0], &url, shape, true, &mut random).await?);
        outcome.done += 1;
    }
    outcome.violations.extend(fleet.end(setting.keep).await?.1);
    Ok(outcome)
}
