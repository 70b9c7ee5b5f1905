//! One campaign: cycles of start, load, kill and check, and an orderly end.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::{
    ledger::Ledger,
    load::Customers,
    marks::Marks,
    node::{Node, Program, Role, Seat, Target},
    place::Place,
    rest::{self, Closing},
    violation::{Kind, Violation},
};
use testkit::random::Random;

#[derive(Clone, Debug)]
pub struct Plan {
    /// Unique among the campaigns of one run; part of every key.
    pub name: String,
    pub program: Program,
    /// `serve` and `work` instead of `up`.
    pub split: bool,
    pub cycles: u64,
    pub customers: u64,
    /// When no further cycle begins, however many are left.
    pub until: Option<Instant>,
}

#[derive(Clone, Debug, Default)]
pub struct Report {
    pub kills: u64,
    pub kills_while_starting: u64,
    pub acknowledged: u64,
    pub repeated: u64,
    pub runs: u64,
    pub executions: u64,
    pub adopted: u64,
    pub interrupted: u64,
    pub checks: u64,
    pub longest_start: Duration,
    /// The last cycle: that in which the first violation was found, and all that were found then.
    pub cycle: u64,
    pub violations: Vec<Violation>,
}

/// Runs a campaign to its end or to its first violation.
pub async fn run(plan: &Plan, place: &Place, random: &Random, tell: &(dyn Fn(&str) + Sync)) -> Result<Report> {
    let customers = Customers::start(plan.customers, random, &plan.name, !plan.program.drains());
    let mut campaign = Campaign {
        plan,
        place,
        random: random.fork(1),
        customers,
        alive: Vec::new(),
        ledger: Ledger::default(),
        report: Report::default(),
        was_ready: false,
    };
    campaign.whole(tell).await?;
    let Campaign { customers, ledger, mut report, .. } = campaign;
    report.acknowledged = customers.load.journal().acknowledged.len() as u64;
    report.repeated = customers.load.journal().repeated;
    report.runs = ledger.runs().len() as u64;
    report.adopted = ledger.count("ExecutionAdopted");
    report.interrupted = ledger.count("ExecutionInterrupted");
    report.executions = Marks::read(&place.marks())?.executions();
    Ok(report)
}

struct Campaign<'a> {
    plan: &'a Plan,
    place: &'a Place,
    random: Random,
    customers: Customers,
    alive: Vec<Node>,
    ledger: Ledger,
    report: Report,
    /// Whether a node has served: before, the ledger may not exist.
    was_ready: bool,
}

impl Campaign<'_> {
    async fn whole(&mut self, tell: &(dyn Fn(&str) + Sync)) -> Result<()> {
        for cycle in 1..=self.plan.cycles {
            if self.plan.until.is_some_and(|until| host::clock::monotonic() >= until) {
                break;
            }
            self.report.cycle = cycle;
            if let Err(violation) = Box::pin(self.cycle(cycle, tell)).await? {
                self.report.violations.push(violation);
            }
            if !self.report.violations.is_empty() {
                return Ok(());
            }
        }
        if let Err(violation) = Box::pin(self.end()).await? {
            self.report.violations.push(violation);
        }
        Ok(())
    }

    /// A violation by the process itself comes back as the inner error; what the ledger shows goes into the report.
    async fn cycle(&mut self, cycle: u64, tell: &(dyn Fn(&str) + Sync)) -> Result<Result<(), Violation>> {
        let while_starting = self.random.chance(15);
        let pause = match while_starting {
            true => self.random.millis(0, 60),
            // Long enough for leases to be taken over.
            false if !self.plan.program.drains() => self.random.millis(100, 500),
            false if self.random.chance(50) => self.random.millis(20, 120),
            false => self.random.millis(120, 400),
        };
        // Which of two processes dies; with one there is no choice.
        let victims: &[Role] = match self.random.below(4) {
            _ if !self.plan.split => &[Role::Up],
            0 => &[Role::Serve],
            1 => &[Role::Work],
            _ => &[Role::Serve, Role::Work],
        };
        self.start_missing()?;
        if while_starting {
            self.report.kills_while_starting += 1;
        } else if let Err(violation) = self.wait_until_ready(cycle).await? {
            return Ok(Err(violation));
        }
        tokio::time::sleep(pause).await;
        for node in std::mem::take(&mut self.alive) {
            if !victims.contains(&node.role()) {
                self.alive.push(node);
                continue;
            }
            if node.role() != Role::Work {
                self.customers.load.aim(cycle, None);
            }
            self.report.kills += 1;
            if let Err(error) = node.kill().await {
                return Ok(Err(Violation { kind: Kind::Process, run: None, what: format!("{error:#}") }));
            }
        }
        if self.alive.is_empty() {
            self.check().await?;
        }
        tell(&format!(
            "{} cycle {cycle}: killed {victims:?} {pause:?} after {}; {} acknowledged, {} runs",
            self.plan.name,
            if while_starting { "its start" } else { "it was ready" },
            self.customers.load.journal().acknowledged.len(),
            self.ledger.runs().len(),
        ));
        Ok(Ok(()))
    }

    fn start_missing(&mut self) -> Result<()> {
        let roles: &[Role] = if self.plan.split { &[Role::Serve, Role::Work] } else { &[Role::Up] };
        for role in roles {
            if self.alive.iter().all(|node| node.role() != *role) {
                self.alive.push(Node::start(&self.plan.program, &Seat::of(*role), self.place)?);
            }
        }
        Ok(())
    }

    async fn wait_until_ready(&mut self, cycle: u64) -> Result<Result<Target, Violation>> {
        let mut aimed = None;
        for node in self.alive.iter_mut().filter(|node| node.role() != Role::Work) {
            match node.ready().await {
                Ok(target) => {
                    self.report.longest_start = self.report.longest_start.max(node.ready_after());
                    aimed = Some(target);
                }
                Err(error) => {
                    return Ok(Err(Violation { kind: Kind::Process, run: None, what: format!("{error:#}") }));
                }
            }
        }
        self.was_ready = true;
        self.customers.load.aim(cycle, aimed.clone());
        Ok(aimed.ok_or_else(|| Violation { kind: Kind::Process, run: None, what: "nothing serves".to_owned() }))
    }

    async fn check(&mut self) -> Result<()> {
        if self.was_ready {
            self.report.checks += 1;
            let found = rest::look(self.place, &self.customers, &mut self.ledger, false).await?;
            self.report.violations.extend(found);
        }
        Ok(())
    }

    async fn end(&mut self) -> Result<Result<(), Violation>> {
        self.start_missing()?;
        let target = match self.wait_until_ready(self.plan.cycles).await? {
            Ok(target) => target,
            Err(violation) => return Ok(Err(violation)),
        };
        self.report.checks += 1;
        let found = rest::come_to_rest(Closing {
            name: &self.plan.name,
            program: &self.plan.program,
            place: self.place,
            target: &target,
            customers: &mut self.customers,
            nodes: std::mem::take(&mut self.alive),
            ledger: &mut self.ledger,
        });
        self.report.violations.extend(Box::pin(found).await?);
        Ok(Ok(()))
    }
}
