//! SIGKILL at every named failpoint: the node, or the supervisor that reaches it, dies exactly there, and the ledger is
//! checked as it was left.
//!
//! One start of the node serves one point. Customers ask for jobs, authors have protocols carried out on a repository,
//! and both go on across all deaths, so that what one point leaves is the next one's beginning.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::Result;
use futures_util::future::BoxFuture;
use host::failpoint::{On as PointOn, POINTS, Point, Reach};
use serde_json::json;
use testkit::random::Random;

use crate::{
    authors::Authors,
    drill::Flaw,
    fault::{Backend, Control, Expects, Fault, On, Outcome, Setting, Weight},
    http::Request,
    ledger::Ledger,
    load::{Customers, exchange},
    node::{Node, Program, Role, Seat, Target},
    place::{BRIEF, Place},
    rest::{self, Closing},
    violation::{Kind, Violation},
};

pub const FAULT: Fault = Fault {
    name: "failpoints",
    injects: "SIGKILL of the node or of a supervisor at every named failpoint, once each",
    on: &[
        // Only when asked for, until the load reaches every point in the time that the gate has.
        On { backend: Backend::Sqlite, quick: 0, long: 50 * of(PointOn::Sqlite), budget: 170 },
        On { backend: Backend::Postgres, quick: 0, long: 50 * of(PointOn::Postgres), budget: 170 },
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

const CUSTOMERS: u64 = 4;
const AUTHORS: u32 = 3;
/// How long a point may take to be reached, and how often the node is killed and started again when it was not: some
/// points are only reached where another worker died in the middle of a job.
const PATIENCE: Duration = Duration::from_secs(5);
const STARTS: u32 = 5;
/// The same for a control's, whose only point comes at once or never.
const CONTROL_PATIENCE: Duration = Duration::from_secs(1);
/// A control's flaw shows at once as a rule.
const CONTROL_CYCLES: u64 = 20;
const SOUND_CYCLES: u64 = 6;
/// Short, so that what the dead held is soon there again; long enough for a machine with much to do.
const LEASE: Duration = Duration::from_secs(1);
const END: Duration = Duration::from_secs(60);

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
    let started = host::clock::monotonic();
    let on = if setting.backend == Backend::Postgres { PointOn::Postgres } else { PointOn::Sqlite };
    let (fresh, others): (Vec<Point>, Vec<Point>) =
        POINTS.iter().filter(|point| point.is_on(on)).partition(|point| point.reach == Reach::FirstStart);
    let program = Program::Product(setting.programs.product.clone());
    let mut outcome = Outcome::default();
    let mut slowest = (Duration::ZERO, "");
    let mut figures = Vec::new();
    for round in 0.. {
        for point in &fresh {
            if outcome.done >= setting.wanted {
                break;
            }
            // A ledger of its own: this point is reached once in its life.
            let mut run = Run::start(&setting, &format!("{}-{round}", point.name), &program, false).await?;
            let mut cycle = Cycle { point: point.name, skip: 0, patience: PATIENCE };
            run.inject(&mut cycle).await?;
            outcome.done += 1;
            outcome.violations.extend(run.end().await?);
        }
        let mut run = Run::start(&setting, &format!("all-{round}"), &program, true).await?;
        let mut random = setting.random.fork(round);
        for point in shuffled(&others, &mut random) {
            let is_over = outcome.done >= setting.wanted || setting.is_spent(started);
            if is_over || !run.found.is_empty() || !outcome.violations.is_empty() {
                break;
            }
            let skip = if point.reach == Reach::Often { random.below(12) } else { 0 };
            let took = run.inject(&mut Cycle { point: point.name, skip, patience: PATIENCE }).await?;
            slowest = slowest.max((took, point.name));
            setting.tell(&format!("{} after {took:?}", point.name));
            outcome.done += 1;
        }
        let (completed, given_up) = run.authors.as_ref().map(Authors::counts).unwrap_or_default();
        let acknowledged = run.customers.load.journal().acknowledged.len();
        figures.push(format!(
            "{acknowledged} commands acknowledged, {completed} protocols completed ({given_up} given up)"
        ));
        outcome.violations.extend(run.end().await?);
        if outcome.done >= setting.wanted || setting.is_spent(started) || !outcome.violations.is_empty() {
            break;
        }
    }
    outcome.figures = format!("{}; latest point {} after {} ms", figures.join("; "), slowest.1, slowest.0.as_millis());
    Ok(outcome)
}

/// In another order each time, so that other points lie behind each other.
fn shuffled(points: &[Point], random: &mut Random) -> Vec<Point> {
    let mut keyed: Vec<(u64, Point)> = points.iter().map(|point| (random.draw(), *point)).collect();
    keyed.sort_by_key(|(key, _)| *key);
    keyed.into_iter().map(|(_, point)| point).collect()
}

/// The little node, killed at one point again and again.
fn drill(setting: Setting, flaw: Option<Flaw>, point: &'static str) -> BoxFuture<'static, Result<Outcome>> {
    Box::pin(async move {
        let program = Program::Drill(setting.programs.chaos.clone(), flaw);
        let mut run = Run::start(&setting, &setting.name, &program, false).await?;
        let mut random = setting.random.clone();
        let cycles = if flaw.is_some() { CONTROL_CYCLES } else { SOUND_CYCLES };
        let mut outcome = Outcome::default();
        while outcome.done < cycles && run.found.is_empty() {
            // Behind what the node does at its start.
            let skip = 4 + random.below(30);
            run.inject(&mut Cycle { point, skip, patience: CONTROL_PATIENCE }).await?;
            outcome.done += 1;
        }
        outcome.violations = match run.found.is_empty() {
            true => run.end().await?,
            false => run.found,
        };
        Ok(outcome)
    })
}

/// One start of a node, armed with one point.
struct Cycle {
    point: &'static str,
    /// Passes that go well before.
    skip: u64,
    patience: Duration,
}

/// One ledger through many cycles.
struct Run<'a> {
    name: String,
    program: &'a Program,
    place: Place,
    customers: Customers,
    authors: Option<Authors>,
    ledger: Ledger,
    cycle: u64,
    brief: u64,
    /// Whether a node has served: before, there may be no ledger.
    was_ready: bool,
    found: Vec<Violation>,
}

impl<'a> Run<'a> {
    async fn start(setting: &Setting, name: &str, program: &'a Program, with_authors: bool) -> Result<Self> {
        let dir: PathBuf = setting.dir.join(name);
        let place = Place::create(setting.backend, dir, setting.postgres.as_deref()).await?;
        if program.drains() {
            place.add_brief_job()?;
        }
        let customers = Customers::start(CUSTOMERS, &setting.random, &setting.name, !program.drains());
        let authors = match with_authors {
            true => Some(Authors::start(AUTHORS, &place, customers.load.targets()).await?),
            false => None,
        };
        let (name, ledger) = (format!("{}-{name}", setting.name), Ledger::default());
        Ok(Self {
            name,
            program,
            place,
            customers,
            authors,
            ledger,
            cycle: 0,
            brief: 0,
            was_ready: false,
            found: Vec::new(),
        })
    }

    fn seat(&self, environment: Vec<(String, String)>) -> Seat {
        Seat { lease: LEASE, environment, ..Seat::of(Role::Up) }
    }

    /// Starts the node, waits until something dies at the point, kills what is left of the node, and checks; how long the
    /// point took.
    async fn inject(&mut self, cycle: &mut Cycle) -> Result<Duration> {
        self.cycle += 1;
        let seen = self.place.seen();
        if seen.exists() {
            std::fs::remove_file(&seen)?;
        }
        let when = if cycle.skip == 0 { "return".to_owned() } else { format!("{}*off->return", cycle.skip) };
        let armed = vec![
            ("FAILPOINTS".to_owned(), format!("{}={when}", cycle.point)),
            ("FAILPOINTS_SEEN".to_owned(), seen.display().to_string()),
        ];
        let mut starts = 1;
        let took = loop {
            let started = host::clock::monotonic();
            let mut node = Node::start(self.program, &self.seat(armed.clone()), &self.place)?;
            let was_unasked = self.wait_for_death(&mut node, cycle, &seen, started).await?;
            self.customers.load.aim(self.cycle, None);
            let took = started.elapsed();
            if was_unasked {
                let what = format!("armed with {}, {}", cycle.point, node.obituary());
                self.found.push(Violation::of(Kind::Process, what));
                break took;
            }
            // Dead already, or its supervisor is, or nobody.
            node.put_down().await?;
            if died_at(&seen, cycle.point) {
                break took;
            }
            if starts == STARTS {
                let what = format!("nobody died at {} in {starts} starts of {:?}", cycle.point, cycle.patience);
                self.found.push(Violation::of(Kind::Missed, what));
                break took;
            }
            starts += 1;
            // A machine with much else to do gets there later.
            cycle.patience = cycle.patience * 3 / 2;
        };
        if self.was_ready {
            self.found.extend(rest::look(&self.place, &self.customers, &mut self.ledger, false).await?);
            self.check_authors().await?;
        }
        Ok(took)
    }

    /// Waits until something died at the point, or for long enough; whether the node ended for another reason.
    async fn wait_for_death(&mut self, node: &mut Node, cycle: &Cycle, seen: &Path, started: Instant) -> Result<bool> {
        let mut aimed: Option<Target> = None;
        let (mut asked_at, mut connection) = (started, None);
        while started.elapsed() < cycle.patience {
            if died_at(seen, cycle.point) {
                return Ok(false);
            }
            if node.has_ended()? {
                // Its last note may have come between the two looks.
                return Ok(!died_at(seen, cycle.point));
            }
            if aimed.is_none() {
                aimed = node.find_target();
                if aimed.is_some() {
                    self.was_ready = true;
                    self.customers.load.aim(self.cycle, aimed.clone());
                }
            }
            if let Some(target) = aimed.as_ref().filter(|_| self.program.drains())
                && asked_at.elapsed() > Duration::from_millis(300)
            {
                asked_at = host::clock::monotonic();
                self.brief += 1;
                // Whether it is answered is not what this is about.
                let _ = exchange(&ask_briefly(&self.name, self.brief), target, &mut connection).await;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok(false)
    }

    async fn check_authors(&mut self) -> Result<()> {
        if let Some(authors) = &self.authors
            && let Some(store) = Box::pin(self.place.ledger()).await?
        {
            self.found.extend(authors.check(&store).await?);
            store.close().await;
        }
        Ok(())
    }

    /// A node that nothing is done to any more brings everything to rest; all that was found.
    async fn end(mut self) -> Result<Vec<Violation>> {
        if !self.found.is_empty() {
            return Ok(self.found);
        }
        let mut node = Node::start(self.program, &self.seat(Vec::new()), &self.place)?;
        let target = match node.ready().await {
            Ok(target) => target,
            Err(error) => return Ok(vec![Violation::of(Kind::Process, format!("{error:#}"))]),
        };
        self.customers.load.aim(self.cycle + 1, Some(target.clone()));
        if let Some(authors) = &mut self.authors
            && !authors.finish(END).await
        {
            return Ok(vec![Violation::of(Kind::Stuck, "a protocol came to no end")]);
        }
        let closing = Closing {
            name: &self.name,
            program: self.program,
            place: &self.place,
            target: &target,
            customers: &mut self.customers,
            nodes: vec![node],
            ledger: &mut self.ledger,
        };
        self.found.extend(Box::pin(rest::come_to_rest(closing)).await?);
        self.check_authors().await?;
        if let Some(authors) = &self.authors {
            self.found.extend(authors.check_branches().await?);
        }
        if self.found.is_empty() {
            self.place.remove().await?;
        }
        Ok(self.found)
    }
}

/// Whether a process died at this point, which it noted before.
fn died_at(seen: &Path, point: &str) -> bool {
    let text = std::fs::read_to_string(seen).unwrap_or_default();
    let note = format!("killed {point} ");
    text.lines().any(|line| line.starts_with(&note))
}

/// A run that nobody approves, and a command that carries an Idempotency-Key.
fn ask_briefly(name: &str, number: u64) -> Request {
    let key = format!("{name}-brief-{number}");
    let params = json!({"tag": key, "pause": "0.001", "code": 0});
    Request {
        method: "POST",
        path: "/runs".to_owned(),
        body: json!({"job": BRIEF, "params": params}).to_string(),
        idempotency_key: Some(key),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gate_wants_every_point_of_a_database() {
        let n = |on| POINTS.iter().filter(|point| point.is_on(on)).count() as u64;

        assert_eq!((of(PointOn::Sqlite), of(PointOn::Postgres)), (n(PointOn::Sqlite), n(PointOn::Postgres)));
    }

    #[test]
    fn a_seed_repeats_the_order_of_the_points() {
        let order = |seed| shuffled(POINTS, &mut Random::new(seed));

        assert_eq!(order(7), order(7));
        assert_ne!(order(7), order(8));
    }

    #[test]
    fn a_death_is_read_from_the_note_that_the_point_left() {
        let dir = host::fs::create_temporary_dir(&host::fs::temporary_root(), "seen-").unwrap();
        let seen = dir.join("seen");
        std::fs::write(&seen, "reached a.b 7\nkilled a.bc 8\n").unwrap();

        let died = ["a.b", "a.bc"].map(|point| died_at(&seen, point));

        std::fs::remove_dir_all(dir).unwrap();
        assert_eq!(died, [false, true]);
        assert!(!died_at(&seen, "a.bc"));
    }
}
