//! One ledger through the lives of a node that is armed with failpoints, under a load that reaches them.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Result;
use serde_json::json;
use testkit::random::Random;

use crate::{
    authors::Authors,
    fault::Setting,
    http::{Connection, Request},
    ledger::Ledger,
    load::{Customers, exchange},
    node::{Node, Program, Role, Seat, Target},
    place::{BRIEF, Place},
    rest::{self, Closing},
    violation::{Kind, Violation},
};

const CUSTOMERS: u64 = 4;
const AUTHORS: u32 = 3;
/// Short, so that what the dead held is soon there again; long enough for a machine with much to do.
const LEASE: Duration = Duration::from_secs(1);
const END: Duration = Duration::from_secs(60);
const BRIEF_EVERY: Duration = Duration::from_millis(300);
const LONG_EVERY: Duration = Duration::from_millis(20);
/// What is reached when the ledger's log is full, which short commands take long for.
const LONG_FOR: &str = "sqlite.checkpoint.";

/// A point at which whoever gets there dies.
#[derive(Clone, Copy, Debug)]
pub(super) struct Armed {
    pub(super) point: &'static str,
    /// Passes that go well before.
    pub(super) skip: u64,
}

/// One ledger through many lives.
pub(super) struct Run<'a> {
    name: String,
    program: &'a Program,
    place: Place,
    customers: Customers,
    /// The little node knows no protocols.
    authors: Option<Authors>,
    ledger: Ledger,
    random: Random,
    cycle: u64,
    errand: Errand,
    keep: bool,
    /// Whether a node has served: before, there may be no ledger.
    was_ready: bool,
    pub(super) found: Vec<Violation>,
}

/// What came of a run.
pub(super) struct Ended {
    pub(super) acknowledged: usize,
    /// Protocols.
    pub(super) completed: usize,
    pub(super) given_up: u64,
    pub(super) found: Vec<Violation>,
}

/// A note that a point left.
#[derive(Debug, PartialEq, Eq)]
struct Death {
    point: String,
    pid: u32,
}

impl<'a> Run<'a> {
    pub(super) async fn start(setting: &Setting, name: &str, program: &'a Program) -> Result<Self> {
        let place = Place::create(setting.backend, setting.dir.join(name), setting.postgres.as_deref()).await?;
        let customers = Customers::start(CUSTOMERS, &setting.random, &setting.name, !program.drains());
        let authors = match program.drains() {
            true => {
                place.add_brief_job()?;
                Some(Authors::start(AUTHORS, &place, customers.load.targets()).await?)
            }
            false => None,
        };
        let name = format!("{}-{name}", setting.name);
        Ok(Self {
            errand: Errand::of(&name),
            keep: setting.keep,
            name,
            program,
            place,
            customers,
            authors,
            ledger: Ledger::default(),
            random: setting.random.fork(5),
            cycle: 0,
            was_ready: false,
            found: Vec::new(),
        })
    }

    fn seat(&self, environment: Vec<(String, String)>) -> Seat {
        Seat { lease: LEASE, environment, ..Seat::of(Role::Up) }
    }

    /// Starts the node, waits until something dies at one of the points, puts down what is left of the node, and checks;
    /// where something died.
    pub(super) async fn inject(&mut self, armed: &[Armed], patience: Duration) -> Result<Vec<String>> {
        self.cycle += 1;
        let seen = self.place.seen();
        if seen.exists() {
            std::fs::remove_file(&seen)?;
        }
        let environment = vec![
            ("FAILPOINTS".to_owned(), armed.iter().map(Armed::text).collect::<Vec<_>>().join(";")),
            ("FAILPOINTS_SEEN".to_owned(), seen.display().to_string()),
        ];
        let mut node = Node::start(self.program, &self.seat(environment), &self.place)?;
        let wants_long = armed.iter().any(|one| one.point.starts_with(LONG_FOR));
        self.wait_for_death(&mut node, &seen, wants_long, patience).await?;
        if deaths(&seen).iter().any(|death| death.pid != node.pid) {
            // A supervisor: sometimes the node is still there to see what has become of it.
            tokio::time::sleep(self.random.millis(0, 300)).await;
        }
        self.customers.load.aim(self.cycle, None);
        let has_ended = node.has_ended()?;
        let died = deaths(&seen);
        // Its last note is there before it is gone.
        if has_ended && died.iter().all(|death| death.pid != node.pid) {
            self.found.push(Violation::of(Kind::Process, node.obituary()));
        }
        node.put_down().await?;
        if self.was_ready {
            self.found.extend(rest::look(&self.place, &self.customers, &mut self.ledger, false).await?);
            self.check_authors().await?;
        }
        Ok(died.into_iter().map(|death| death.point).collect())
    }

    /// Waits until something died, for whatever reason, or for long enough.
    async fn wait_for_death(
        &mut self,
        node: &mut Node,
        seen: &Path,
        wants_long: bool,
        patience: Duration,
    ) -> Result<()> {
        let started = host::clock::monotonic();
        let mut aimed: Option<Target> = None;
        while started.elapsed() < patience && deaths(seen).is_empty() && !node.has_ended()? {
            if aimed.is_none() {
                aimed = node.find_target();
                if aimed.is_some() {
                    self.was_ready = true;
                    self.customers.load.aim(self.cycle, aimed.clone());
                }
            }
            if let Some(target) = aimed.as_ref().filter(|_| self.program.drains()) {
                self.errand.run(target, wants_long).await;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok(())
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

    /// A node that nothing is done to any more brings everything to rest.
    pub(super) async fn end(mut self) -> Result<Ended> {
        if self.found.is_empty() {
            self.come_to_rest().await?;
        }
        let acknowledged = self.customers.load.journal().acknowledged.len();
        let (completed, given_up) = self.authors.as_ref().map(Authors::counts).unwrap_or_default();
        if self.found.is_empty() && !self.keep {
            self.place.remove().await?;
        }
        Ok(Ended { acknowledged, completed, given_up, found: self.found })
    }

    async fn come_to_rest(&mut self) -> Result<()> {
        let mut node = Node::start(self.program, &self.seat(Vec::new()), &self.place)?;
        let target = match node.ready().await {
            Ok(target) => target,
            Err(error) => {
                self.found.push(Violation::of(Kind::Process, format!("{error:#}")));
                return Ok(());
            }
        };
        self.customers.load.aim(self.cycle + 1, Some(target.clone()));
        if let Some(authors) = &mut self.authors
            && !authors.finish(END).await
        {
            self.found.push(Violation::of(Kind::Stuck, "a protocol came to no end"));
            return Ok(());
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
        Ok(())
    }
}

impl Armed {
    fn text(&self) -> String {
        match self.skip {
            0 => format!("{}=return", self.point),
            skip => format!("{}={skip}*off->return", self.point),
        }
    }
}

/// What customers and authors do not do by themselves, and some points need.
struct Errand {
    name: String,
    number: u64,
    briefly_at: Option<Instant>,
    long_at: Option<Instant>,
    connection: Option<Connection>,
}

impl Errand {
    fn of(name: &str) -> Self {
        Self { name: name.to_owned(), number: 0, briefly_at: None, long_at: None, connection: None }
    }

    /// Whether it is answered is not what this is about.
    async fn run(&mut self, target: &Target, wants_long: bool) {
        let is_due = |at: Option<Instant>, every| at.is_none_or(|at| at.elapsed() >= every);
        let request = if is_due(self.briefly_at, BRIEF_EVERY) {
            self.briefly_at = Some(host::clock::monotonic());
            self.ask_briefly()
        } else if wants_long && is_due(self.long_at, LONG_EVERY) {
            self.long_at = Some(host::clock::monotonic());
            self.say_much()
        } else {
            return;
        };
        let _ = exchange(&request, target, &mut self.connection).await;
    }

    fn key(&mut self) -> String {
        self.number += 1;
        format!("{}-errand-{}", self.name, self.number)
    }

    /// A run that nobody approves, and a command that carries an Idempotency-Key.
    fn ask_briefly(&mut self) -> Request {
        let key = self.key();
        let params = json!({"tag": key, "pause": "0.001", "code": 0});
        let body = json!({"job": BRIEF, "params": params}).to_string();
        Request { method: "POST", path: "/runs".to_owned(), body, idempotency_key: Some(key) }
    }

    /// Words that nobody knows, which are kept and answered.
    fn say_much(&mut self) -> Request {
        let text = format!("hello {}", "x".repeat(12_000));
        let body = json!({"from": "errand", "conversation": "errand", "body": text, "providerMessageId": self.key()});
        Request { method: "POST", path: "/dev/inbound".to_owned(), body: body.to_string(), idempotency_key: None }
    }
}

/// The deaths at points that were noted, each before it happened.
fn deaths(seen: &Path) -> Vec<Death> {
    let text = std::fs::read_to_string(seen).unwrap_or_default();
    let mut deaths = Vec::new();
    for line in text.lines() {
        let mut words = line.split(' ');
        if let (Some("killed"), Some(point), Some(Ok(pid))) = (words.next(), words.next(), words.next().map(str::parse))
        {
            deaths.push(Death { point: point.to_owned(), pid });
        }
    }
    deaths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_death_is_read_from_the_note_that_the_point_left() {
        let dir = host::fs::create_temporary_dir(&host::fs::temporary_root(), "seen-").unwrap();
        let seen = dir.join("seen");
        std::fs::write(&seen, "reached a.b 7\nkilled a.bc 8\nkilled a.d").unwrap();

        let died = deaths(&seen);

        std::fs::remove_dir_all(dir).unwrap();
        assert_eq!(died, [Death { point: "a.bc".to_owned(), pid: 8 }]);
        assert_eq!(deaths(&seen), []);
    }

    #[test]
    fn a_point_is_armed_with_the_passes_before() {
        let text = |skip| Armed { point: "a.b", skip }.text();

        assert_eq!((text(0), text(5)), ("a.b=return".to_owned(), "a.b=5*off->return".to_owned()));
    }
}
