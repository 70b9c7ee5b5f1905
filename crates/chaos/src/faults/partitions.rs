//! Partitions between a node and the database: nothing passes, or one direction only, or now and then; the end is late
//! delivery on the same connections, or their loss.
//!
//! They are made by a wire on the loopback, one before each node, which needs no powers and can do what packet filters
//! cannot: deliver late what a connection had sent before.

use std::time::Duration;

use anyhow::Result;
use futures_util::future::BoxFuture;
use testkit::random::Random;

use crate::{
    drill::Flaw,
    fault::{Backend, Control, Expects, Fault, On, Outcome, Setting, Weight},
    fleet::{Fleet, LEASE, LONG_LEASE},
    node::Program,
    violation::{Kind, Violation},
    wire::{EVERYTHING, NOTHING, Passes, Wire},
};

pub const FAULT: Fault = Fault {
    name: "partitions",
    injects: "full, one-way and flapping partitions between a node and PostgreSQL, healed late or lost (loopback wire)",
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
            run: |setting| Box::pin(run(setting, 4, LONG_LEASE)),
        },
    ],
};

/// Partitions on one ledger.
const CAMPAIGN: u64 = 20;
const DRILL_PARTITIONS: u64 = 8;
const FLAP: Duration = Duration::from_millis(40);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Full,
    ToServer,
    ToClient,
    Flapping,
}

const SHAPES: [Shape; 4] = [Shape::Full, Shape::ToServer, Shape::ToClient, Shape::Flapping];

async fn product(setting: Setting) -> Result<Outcome> {
    let wanted = setting.wanted;
    run(setting, wanted, LEASE).await
}

async fn run(setting: Setting, wanted: u64, lease: Duration) -> Result<Outcome> {
    let started = host::clock::monotonic();
    let mut random = setting.random.clone();
    let (mut acknowledged, mut taken_over) = (0, 0);
    let mut outcome = Outcome::default();
    while outcome.done < wanted && outcome.violations.is_empty() && !setting.is_spent(started) {
        let program = Program::Product(setting.programs.product.clone());
        let mut fleet = Fleet::start(&setting, &outcome.done.to_string(), program, lease).await?;
        let until = wanted.min(outcome.done + CAMPAIGN);
        while outcome.done < until && !setting.is_spent(started) {
            tokio::time::sleep(random.millis(50, 200)).await;
            let who = usize::try_from(random.below(3)).unwrap_or(0);
            // Each shape gets its share.
            let shape = SHAPES[usize::try_from(outcome.done).unwrap_or(0) % SHAPES.len()];
            setting.tell(&format!("node {who}: {shape:?}"));
            part(&fleet.wires[who], shape, &mut random).await;
            outcome.done += 1;
            if let Some(dead) = fleet.find_dead()? {
                outcome.violations.push(dead);
                return Ok(outcome);
            }
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
    outcome.figures = format!("{acknowledged} commands acknowledged, {taken_over} tasks taken over, lease {lease:?}");
    Ok(outcome)
}

/// One partition, as long as a lease and more, and its end.
async fn part(wire: &Wire, shape: Shape, random: &mut Random) {
    let pause = LEASE + random.millis(100, 600);
    match shape {
        Shape::Full => wire.set(NOTHING),
        Shape::ToServer => wire.set(Passes { to_server: false, to_client: true }),
        Shape::ToClient => wire.set(Passes { to_server: true, to_client: false }),
        Shape::Flapping => {
            let mut left = pause;
            while !left.is_zero() {
                wire.set(if random.chance(60) { NOTHING } else { EVERYTHING });
                tokio::time::sleep(FLAP).await;
                left = left.saturating_sub(FLAP);
            }
        }
    }
    if shape != Shape::Flapping {
        tokio::time::sleep(pause).await;
    }
    // Lost as often as late.
    if random.chance(50) {
        wire.cut();
    }
    wire.set(EVERYTHING);
}

/// The little node behind the same partitions.
fn drill(setting: Setting, flaw: Option<Flaw>) -> BoxFuture<'static, Result<Outcome>> {
    Box::pin(async move {
        let mut random = setting.random.clone();
        let program = Program::Drill(setting.programs.chaos.clone(), flaw);
        let fleet = Fleet::start(&setting, "drill", program, LEASE).await?;
        let mut outcome = Outcome::default();
        while outcome.done < DRILL_PARTITIONS {
            tokio::time::sleep(random.millis(100, 300)).await;
            let shape = SHAPES[usize::try_from(outcome.done).unwrap_or(0) % SHAPES.len()];
            part(&fleet.wires[0], shape, &mut random).await;
            outcome.done += 1;
        }
        outcome.violations = fleet.end(setting.keep).await?.1;
        Ok(outcome)
    })
}
