//! A full disk under load: the ledger, its log and what attempts write lie on a small filesystem of which all but a few
//! pages are taken, at another moment each time.
//!
//! While it is full, commands are answered `disk_full` and reads go on; once there is room, commands are accepted again
//! within seconds and without a restart; and everything that was acknowledged is there in the end. The control is the
//! little node that answers before it has stored anything.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures_util::{FutureExt, future::BoxFuture};
use serde_json::{Value, json};
use testkit::random::Random;

use crate::{
    drill::Flaw,
    fault::{self, Backend, Expects, Fault, On, Outcome, Setting, Weight},
    http::{Connection, Request},
    ledger::Ledger,
    load::{Customers, exchange},
    mount::Memory,
    need::{Need, What},
    node::{Node, Program, Role, Seat, Target},
    place::Place,
    rest::{self, Closing},
    violation::{Kind, Violation},
};

pub const FAULT: Fault = Fault {
    name: "disk-full",
    injects: "a disk that is full at another write each time, under the ledger and what attempts write, and then is not",
    // Only when asked for: beside other faults the work that a full disk held up is not done in time at the end.
    on: &[On { backend: Backend::Sqlite, quick: 0, long: 1_000, budget: 25 }],
    weight: Weight::Light,
    needs: &[Need { what: What::Mounts, is_demanded: false }],
    run: |setting| fill(setting, None),
    controls: &[fault::Control {
        name: "early-answer",
        expects: Expects::A(Flaw::EarlyAnswer.shows_as()),
        run: |setting| fill(setting, Some(Flaw::EarlyAnswer)),
    }],
};

const SIZE: u64 = 192 << 20;
/// Up to so many bytes are left when the disk is filled.
const LEFT: u64 = 384 << 10;
const CUSTOMERS: u64 = 6;
/// Clients whose long messages fill what is left.
const PRESSERS: u64 = 6;
/// How long it may take until a disk that is nearly full is full.
const FULL_WITHIN: Duration = Duration::from_secs(20);
/// The promise: commands are accepted again.
const AGAIN_WITHIN: Duration = Duration::from_secs(5);
const CONTROL: u64 = 2;

fn fill(mut setting: Setting, flaw: Option<Flaw>) -> BoxFuture<'static, Result<Outcome>> {
    if flaw.is_some() {
        setting.wanted = setting.wanted.min(CONTROL);
    }
    run(setting, flaw).boxed()
}

async fn run(setting: Setting, flaw: Option<Flaw>) -> Result<Outcome> {
    let place = Place::create(Backend::Sqlite, setting.dir.join("place"), None).await?;
    let disk = Memory::mount(&place.data(), SIZE).await?;
    let program = match flaw {
        None => Program::Product(setting.programs.product.clone()),
        Some(flaw) => Program::Drill(setting.programs.chaos.clone(), Some(flaw)),
    };
    let mut node = Node::start(&program, &Seat::of(Role::Up), &place)?;
    let target = node.ready().await?;
    let mut customers = Customers::start(CUSTOMERS, &setting.random, &setting.name, flaw.is_some());
    customers.load.aim(1, Some(target.clone()));
    let mut probe = Probe { target, connection: None, name: setting.name.clone(), n: 0, is_drill: flaw.is_some() };
    let mut random = setting.random.fork(3);
    let mut outcome = Outcome::default();
    let mut slowest = Duration::ZERO;
    let started = host::clock::monotonic();
    while outcome.done < setting.wanted && !setting.is_spent(started) && outcome.violations.is_empty() {
        disk.fill(random.below(LEFT))?;
        let found = match flaw {
            // It does not tell: the disk is full for as long as it takes to lose something.
            Some(_) => {
                probe.press(&customers, host::clock::monotonic() + Duration::from_secs(3)).await;
                None
            }
            None => probe.until_full(&customers, &mut random).await?,
        };
        outcome.violations.extend(found);
        tokio::time::sleep(random.millis(0, 80)).await;
        disk.relieve()?;
        if node.has_ended()? {
            outcome.violations.push(Violation::of(Kind::Process, node.obituary()));
            break;
        }
        if flaw.is_none() {
            match probe.until_accepted().await? {
                Some(took) => slowest = slowest.max(took),
                None => {
                    let what = format!("no command was accepted within {AGAIN_WITHIN:?} after there was space");
                    outcome.violations.push(Violation::of(Kind::Late, what));
                }
            }
        }
        outcome.done += 1;
        setting.tell(&format!("{} times full, {} acknowledged", outcome.done, probe.n));
    }
    let mut ledger = Ledger::default();
    let found = if outcome.violations.is_empty() && flaw.is_none() {
        let closing = Closing {
            name: &setting.name,
            program: &program,
            place: &place,
            target: &probe.target,
            customers: &mut customers,
            nodes: vec![node],
            ledger: &mut ledger,
        };
        rest::come_to_rest(closing).await?
    } else {
        node.kill().await?;
        rest::look(&place, &customers, &mut ledger, false).await?
    };
    // Three tries at a full disk are all that a task has: then its run says so and waits for people.
    outcome.violations.extend(found.into_iter().filter(|violation| !is_given_up(violation)));
    outcome.figures = format!(
        "{} acknowledged; accepted again after at most {} ms",
        customers.load.journal().acknowledged.len(),
        slowest.as_millis()
    );
    drop(disk);
    Ok(outcome)
}

fn is_given_up(violation: &Violation) -> bool {
    violation.kind == Kind::Stuck && violation.what.contains(" died: ")
}

/// A client that looks whether commands are accepted.
struct Probe {
    target: Target,
    connection: Option<Connection>,
    name: String,
    n: u64,
    is_drill: bool,
}

impl Probe {
    fn next(&mut self) -> Request {
        self.n += 1;
        let key = format!("{}-probe-{}", self.name, self.n);
        let body = match self.is_drill {
            true => format!("run again tag={key} pause=0.0 code=0"),
            // A word that the grammar does not know is answered, and both are kept.
            false => format!("hello {}", "x".repeat(12_000)),
        };
        let body = json!({"from": "probe", "conversation": "probe", "body": body, "providerMessageId": key});
        let path = "/dev/inbound".to_owned();
        Request { method: "POST", path, body: body.to_string(), idempotency_key: None }
    }

    /// One command; its status and the problem's code.
    async fn ask(&mut self) -> Result<(u16, String)> {
        let request = self.next();
        let (status, body) = exchange(&request, &self.target, &mut self.connection).await?;
        let answer: Value = serde_json::from_slice(&body).unwrap_or_default();
        Ok((status, answer["code"].as_str().unwrap_or_default().to_owned()))
    }

    /// Sends commands until one is told that the disk is full, and looks whether reads go on; what is wrong, if anything.
    async fn until_full(&mut self, customers: &Customers, random: &mut Random) -> Result<Option<Violation>> {
        let until = host::clock::monotonic() + FULL_WITHIN;
        let stop = tokio::sync::watch::Sender::new(false);
        let pressing = self.start_pressing(&stop);
        let found = loop {
            match self.ask().await? {
                (200, _) => {}
                (503, code) if code == "disk_full" => break None,
                (status, code) => {
                    break Some(Violation::of(Kind::Answer, format!("a full disk was answered {status} {code}")));
                }
            }
            if host::clock::monotonic() > until {
                let n = customers.load.journal().acknowledged.len();
                break Some(Violation::of(Kind::Stuck, format!("the disk never became full, after {n} commands")));
            }
            tokio::time::sleep(random.millis(0, 3)).await;
        };
        stop.send_replace(true);
        for presser in pressing {
            presser.await?;
        }
        if found.is_some() {
            return Ok(found);
        }
        let path = "/runs?limit=5".to_owned();
        let read = Request { method: "GET", path, body: String::new(), idempotency_key: None };
        let (status, _) = exchange(&read, &self.target, &mut self.connection).await?;
        Ok((status != 200).then(|| Violation::of(Kind::Answer, format!("a read was answered {status} on a full disk"))))
    }

    /// The same for a node that tells nothing.
    async fn press(&mut self, customers: &Customers, until: Instant) {
        while host::clock::monotonic() < until {
            let _ = self.ask().await;
            let _ = customers.load.journal().acknowledged.len();
        }
    }

    fn start_pressing(&self, stop: &tokio::sync::watch::Sender<bool>) -> Vec<tokio::task::JoinHandle<()>> {
        (0..PRESSERS)
            .map(|n| {
                let name = format!("{}-{}-{n}", self.name, self.n);
                let mut probe =
                    Self { target: self.target.clone(), connection: None, name, n: 0, is_drill: self.is_drill };
                let stop = stop.subscribe();
                host::task::spawn("presser", async move {
                    while !*stop.borrow() {
                        // What it is told is the other's to judge.
                        if !matches!(probe.ask().await, Ok((200, _))) {
                            tokio::time::sleep(Duration::from_millis(2)).await;
                        }
                    }
                })
            })
            .collect()
    }

    /// How long it took until a command was accepted; `None` when it took too long.
    async fn until_accepted(&mut self) -> Result<Option<Duration>> {
        let started = host::clock::monotonic();
        loop {
            let (status, code) = self.ask().await?;
            match status {
                200 => return Ok(Some(started.elapsed())),
                503 => {}
                other => ensure!(false, "a command was answered {other} {code} after the disk had space"),
            }
            if started.elapsed() > AGAIN_WITHIN {
                return Ok(None);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
