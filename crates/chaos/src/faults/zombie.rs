//! A process that stands still for longer than its lease and then goes on as if nothing had happened: stopped by SIGSTOP,
//! or with what it sends to the database held back and delivered after others have taken its work over.

use std::time::Duration;

use anyhow::Result;
use futures_util::future::BoxFuture;

use crate::{
    drill::Flaw,
    fault::{Backend, Control, Expects, Fault, On, Outcome, Setting, Weight},
    fleet::{Fleet, LEASE, LONG_LEASE},
    ground::Ground,
    violation::{Kind, Violation},
};

pub const FAULT: Fault = Fault {
    name: "zombie",
    injects: "SIGSTOP of a worker or of the server for longer than the lease, or its COMMIT delivered after the takeover",
    on: &[On { backend: Backend::Postgres, quick: 50, long: 1_000, budget: 75 }],
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
            run: |setting| Box::pin(run(setting, 3, LONG_LEASE)),
        },
    ],
};

/// Stops on one ledger.
const CAMPAIGN: u64 = 25;
const DRILL_STOPS: u64 = 6;

async fn product(setting: Setting) -> Result<Outcome> {
    let wanted = setting.wanted;
    run(setting, wanted, LEASE).await
}

async fn run(setting: Setting, wanted: u64, lease: Duration) -> Result<Outcome> {
    Ground::lend(&setting, async |ground| on(&setting, ground, wanted, lease).await).await
}

async fn on(setting: &Setting, ground: &mut Ground, wanted: u64, lease: Duration) -> Result<Outcome> {
    let started = host::clock::monotonic();
    let mut random = setting.random.clone();
    let (mut acknowledged, mut taken_over) = (0, 0);
    let mut outcome = Outcome::default();
    while outcome.done < wanted && outcome.violations.is_empty() && !setting.is_spent(started) {
        let mut fleet = Fleet::of_product(setting, ground, &outcome.done.to_string(), lease).await?;
        let until = wanted.min(outcome.done + CAMPAIGN);
        while outcome.done < until && !setting.is_spent(started) {
            tokio::time::sleep(random.millis(50, 200)).await;
            // Mostly a worker, sometimes the server.
            let who = usize::try_from(1 + random.below(5)).unwrap_or(1);
            let who = if who > 4 { 0 } else { 1 + who % 2 };
            let pause = LEASE + random.millis(150, 500);
            let is_late = random.chance(50);
            setting.tell(&format!(
                "node {who} stands still for {pause:?}{}",
                if is_late { ", its line only" } else { "" }
            ));
            stand_still(&mut fleet, who, pause, is_late).await?;
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
        let what = "nothing was taken over from a process that stood still";
        outcome.violations.push(Violation::of(Kind::Missed, what));
    }
    outcome.figures = format!(
        "{}; {acknowledged} commands acknowledged, {taken_over} tasks taken over, lease {lease:?}",
        ground.text()
    );
    Ok(outcome)
}

/// Longer than its lease; then it goes on where it was.
async fn stand_still(fleet: &mut Fleet, who: usize, pause: Duration, is_late: bool) -> Result<()> {
    let (node, line) = (&fleet.nodes[who], &mut fleet.lines[who]);
    if is_late {
        line.hold(true).await?;
        tokio::time::sleep(pause).await;
        return line.hold(false).await;
    }
    node.freeze()?;
    tokio::time::sleep(pause).await;
    node.thaw()
}

/// The little node, whose two workers take over from each other, under the same stops and checks.
fn drill(setting: Setting, flaw: Option<Flaw>) -> BoxFuture<'static, Result<Outcome>> {
    Box::pin(async move { Ground::lend(&setting, async |ground| drill_on(&setting, ground, flaw).await).await })
}

async fn drill_on(setting: &Setting, ground: &mut Ground, flaw: Option<Flaw>) -> Result<Outcome> {
    let mut random = setting.random.clone();
    let mut fleet = Fleet::of_drill(setting, ground, flaw).await?;
    let mut outcome = Outcome::default();
    while outcome.done < DRILL_STOPS {
        tokio::time::sleep(random.millis(100, 300)).await;
        stand_still(&mut fleet, 0, LEASE + random.millis(150, 500), random.chance(50)).await?;
        outcome.done += 1;
    }
    outcome.violations = fleet.end(setting.keep).await?.1;
    Ok(outcome)
}
