//! `kill -9` at every named failpoint of the product: of the node, or of a supervisor.
//!
//! Each start of the node is armed with every point at which nothing has died yet, so that the first of them that the
//! load reaches is where it dies, and what lies behind is reached by the next start. What comes last needs the most:
//! another worker that died in the middle of a job, an hour that came, a log that is full. The load makes all of it
//! happen ([`armed`]), and a point that nobody reaches however often it is tried fails the row.

mod armed;

use std::time::{Duration, Instant};

use anyhow::Result;
use futures_util::future::BoxFuture;
use host::failpoint::{On as PointOn, POINTS, Point, Reach};
use testkit::random::Random;

use self::armed::{Armed, Run};
use crate::{
    drill::Flaw,
    fault::{Backend, Control, Expects, Fault, On, Outcome, Setting, Weight},
    node::Program,
    violation::{Kind, Violation},
};

pub const FAULT: Fault = Fault {
    name: "failpoints",
    injects: "SIGKILL of the node or of a supervisor at every named failpoint, once each",
    on: &[
        On { backend: Backend::Sqlite, quick: of(PointOn::Sqlite), long: 50 * of(PointOn::Sqlite), budget: 240 },
        On { backend: Backend::Postgres, quick: of(PointOn::Postgres), long: 50 * of(PointOn::Postgres), budget: 240 },
    ],
    weight: Weight::Light,
    needs: &[],
    run: |setting| Box::pin(product(setting)),
    controls: &[
        Control {
            name: "sound",
            expects: Expects::Nothing,
            run: |setting| drill(setting, None, "store.commit.before"),
        },
        Control {
            name: "early-answer",
            expects: Expects::A(Flaw::EarlyAnswer.shows_as()),
            run: |setting| drill(setting, Some(Flaw::EarlyAnswer), "store.commit.before"),
        },
        Control {
            name: "second-commit",
            expects: Expects::A(Flaw::SecondCommit.shows_as()),
            run: |setting| drill(setting, Some(Flaw::SecondCommit), "store.commit.after"),
        },
        Control {
            name: "no-such-point",
            expects: Expects::A(Kind::Missed),
            run: |setting| drill(setting, None, "no.such.point"),
        },
    ],
};

/// How long a start may live without reaching a point, and how many may in a row before the rest is given up: what
/// needs another start gets one, and each more time than the one before, for a machine with much else to do.
const PATIENCE: Duration = Duration::from_secs(6);
const BARREN: u32 = 5;
/// The same for a control's, whose only point comes at once or never.
const CONTROL_PATIENCE: Duration = Duration::from_secs(1);
const CONTROL_BARREN: u32 = 3;
/// A control's flaw shows at once as a rule.
const CONTROL_CYCLES: u64 = 20;
const SOUND_CYCLES: u64 = 6;

/// How many points exist on a database.
const fn of(on: PointOn) -> u64 {
    let (mut n, mut place) = (0, 0);
    while place < POINTS.len() {
        n += match (POINTS[place].on, on) {
            (PointOn::Both, _) | (PointOn::Sqlite, PointOn::Sqlite) | (PointOn::Postgres, PointOn::Postgres) => 1,
            _ => 0,
        };
        place += 1;
    }
    n
}

async fn product(setting: Setting) -> Result<Outcome> {
    let until = setting.budget.map(|budget| host::clock::monotonic() + budget);
    let on = if setting.backend == Backend::Postgres { PointOn::Postgres } else { PointOn::Sqlite };
    let points: Vec<Point> = POINTS.iter().filter(|point| point.is_on(on)).copied().collect();
    let program = Program::Product(setting.programs.product.clone());
    let mut outcome = Outcome::default();
    let (mut starts, mut acknowledged, mut completed, mut given_up) = (0, 0, 0, 0);
    for round in 0.. {
        let mut random = setting.random.fork(round);
        let mut wanted = shuffled(&points, &mut random);
        wanted.truncate(usize::try_from(setting.wanted - outcome.done).unwrap_or(usize::MAX));
        let armed = wanted.iter().map(|point| arm(point, &mut random)).collect();
        let mut run = Run::start(&setting, &format!("all-{round}"), &program).await?;
        let gone = go_through(&mut run, armed, (PATIENCE, BARREN, until), &setting).await?;
        outcome.done += gone.died;
        starts += gone.starts;
        let ended = run.end().await?;
        acknowledged += ended.acknowledged;
        (completed, given_up) = (completed + ended.completed, given_up + ended.given_up);
        outcome.violations.extend(ended.found);
        let is_over = until.is_some_and(|until| host::clock::monotonic() >= until);
        if outcome.done >= setting.wanted || is_over || !outcome.violations.is_empty() {
            break;
        }
    }
    outcome.figures = format!(
        "{starts} starts, {acknowledged} commands acknowledged, {completed} protocols completed ({given_up} given up)"
    );
    Ok(outcome)
}

/// The little node, killed at one point again and again.
fn drill(setting: Setting, flaw: Option<Flaw>, point: &'static str) -> BoxFuture<'static, Result<Outcome>> {
    Box::pin(async move {
        let program = Program::Drill(setting.programs.chaos.clone(), flaw);
        let mut run = Run::start(&setting, &setting.name, &program).await?;
        let mut random = setting.random.clone();
        let cycles = if flaw.is_some() { CONTROL_CYCLES } else { SOUND_CYCLES };
        let mut outcome = Outcome::default();
        while outcome.done < cycles && run.found.is_empty() {
            // Behind what the node does at its start.
            let armed = vec![Armed { point, skip: 4 + random.below(30) }];
            go_through(&mut run, armed, (CONTROL_PATIENCE, CONTROL_BARREN, None), &setting).await?;
            outcome.done += 1;
        }
        outcome.violations = run.end().await?.found;
        Ok(outcome)
    })
}

/// How far a run got.
struct Gone {
    died: u64,
    starts: u64,
}

/// Starts a node again and again until something has died at each point, nobody reaches what is left, or time is up.
/// `limits` are how long the first start that reaches nothing lives, how many of those may follow each other, and until
/// when there is time.
async fn go_through(
    run: &mut Run<'_>,
    mut armed: Vec<Armed>,
    limits: (Duration, u32, Option<Instant>),
    setting: &Setting,
) -> Result<Gone> {
    let (shortest, most_barren, until) = limits;
    let (mut gone, mut barren, mut patience) = (Gone { died: 0, starts: 0 }, 0, shortest);
    while !armed.is_empty() && run.found.is_empty() {
        let died = run.inject(&armed, patience).await?;
        gone.starts += 1;
        let before = armed.len();
        armed.retain(|one| !died.iter().any(|point| point == one.point));
        gone.died += (before - armed.len()) as u64;
        setting.tell(&format!("died at {}; {} points are left", died.join(" and "), armed.len()));
        (barren, patience) = if armed.len() < before { (0, shortest) } else { (barren + 1, patience * 3 / 2) };
        if run.found.is_empty() && barren == most_barren {
            let missed = |one: &Armed| {
                Violation::of(Kind::Missed, format!("nobody died at {} in {barren} starts on end", one.point))
            };
            run.found.extend(armed.iter().map(missed));
        }
        // A machine that is too busy for all of them cuts the row, which says so; it does not fail it.
        if until.is_some_and(|until| host::clock::monotonic() >= until) {
            break;
        }
    }
    Ok(gone)
}

/// With a number of passes that go well before, where there are many.
fn arm(point: &Point, random: &mut Random) -> Armed {
    Armed { point: point.name, skip: if point.reach == Reach::Often { random.below(12) } else { 0 } }
}

/// In another order each time, so that a smaller number than all takes others.
fn shuffled(points: &[Point], random: &mut Random) -> Vec<Point> {
    let mut keyed: Vec<(u64, Point)> = points.iter().map(|point| (random.draw(), *point)).collect();
    keyed.sort_by_key(|(key, _)| *key);
    keyed.into_iter().map(|(_, point)| point).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gate_wants_every_point_of_a_database() {
        let n = |on| POINTS.iter().filter(|point| point.is_on(on)).count() as u64;

        assert_eq!((of(PointOn::Sqlite), of(PointOn::Postgres)), (n(PointOn::Sqlite), n(PointOn::Postgres)));
        let quick: Vec<u64> = FAULT.on.iter().map(|on| on.quick).collect();
        assert_eq!(quick, [n(PointOn::Sqlite), n(PointOn::Postgres)]);
    }

    #[test]
    fn a_seed_repeats_the_order_of_the_points() {
        let order = |seed| shuffled(POINTS, &mut Random::new(seed));

        assert_eq!(order(7), order(7));
        assert_ne!(order(7), order(8));
    }
}
