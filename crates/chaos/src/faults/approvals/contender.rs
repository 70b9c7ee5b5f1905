//! Who takes part in a race, what they do, and what they are told.

use control::{Cause, CommandError, Control, ledger::Rendered};
use domain::{
    actor::Actor,
    gate::{Answer, Verdict},
    ids::GateId,
    run::{Run, RunCommand, RunEvent},
};
use store::Versioned;
use testkit::random::Random;

use super::Court;
use crate::drill;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Contender {
    /// By their place in the court.
    Approve(usize),
    Deny(usize),
    Cancel,
    Expire,
    /// The job changed: the gate is superseded by another.
    Rebind,
}

/// What somebody was told.
#[derive(Debug)]
pub(super) enum Told {
    /// That this is what they did; nothing when it had been done.
    Did(Vec<RunEvent>),
    /// That others were first, or that they may not.
    Refused(CommandError),
}

impl Contender {
    /// Two to five; often the same person twice.
    pub(super) fn draw(random: &mut Random, people: usize) -> Vec<Self> {
        let n = 2 + random.below(4);
        let mut drawn = Vec::new();
        for _ in 0..n {
            let person = usize::try_from(random.below(people as u64)).unwrap_or(0);
            drawn.push(match random.below(100) {
                0..52 => Self::Approve(person),
                52..77 => Self::Deny(person),
                77..86 => Self::Cancel,
                86..94 => Self::Expire,
                _ => Self::Rebind,
            });
            if random.chance(20)
                && let Some(last) = drawn.last().copied()
            {
                drawn.push(last);
            }
        }
        drawn
    }

    pub(super) fn salt(self) -> u64 {
        match self {
            Self::Approve(person) => 10 + person as u64,
            Self::Deny(person) => 20 + person as u64,
            Self::Cancel => 30,
            Self::Expire => 31,
            Self::Rebind => 32,
        }
    }
}

impl Court {
    /// Gives one command and notes what came of it.
    pub(super) async fn contend(&self, contender: &Contender, run: &Run, random: &mut Random) -> Told {
        let answer = |person: usize, verdict| Answer {
            by: self.people[person].clone(),
            account: self.people[person].name.clone(),
            verdict,
        };
        let gate = run.gates.first().map(|gate| gate.id.clone());
        let node = match contender {
            Contender::Expire => &self.late,
            _ => self.node(random),
        };
        let command = match contender {
            Contender::Approve(person) => {
                RunCommand::Answer { gate, answer: answer(*person, Verdict::Approve { note: None }) }
            }
            Contender::Deny(person) => {
                RunCommand::Answer { gate, answer: answer(*person, Verdict::Deny { reason: None }) }
            }
            Contender::Cancel => RunCommand::Cancel { account: "requester".to_owned() },
            Contender::Expire => RunCommand::ExpireGate { gate: gate.unwrap_or(GateId(String::new())) },
            Contender::Rebind => {
                RunCommand::Rebind { job: self.rebound(run).map(Box::new), gate: GateId(drill::new_ref()) }
            }
        };
        let told = match self.is_reckless {
            true => recklessly(node, run, &command).await,
            false => {
                let cause = Cause::of(Actor::System);
                node.command_run(&run.id, command, &cause, |_| Rendered::default()).await.map(|changed| changed.events)
            }
        };
        match told {
            Ok(events) => Told::Did(events),
            Err(error) => Told::Refused(error),
        }
    }
}

/// The control: decides on what it read, and commits at whatever version the run has by then.
async fn recklessly(node: &Control, run: &Run, command: &RunCommand) -> Result<Vec<RunEvent>, CommandError> {
    let read: Versioned<Run> = node.get(run.id.as_str()).await?;
    let context = node.clock().context();
    let decision = read.subject.decide(command, &context)?;
    if decision.events.is_empty() {
        return Ok(Vec::new());
    }
    let after = drill::apply(&read.subject, &decision);
    for _ in 0..100 {
        let now: Versioned<Run> = node.get(run.id.as_str()).await?;
        let believed = Versioned { version: now.version, subject: read.subject.clone() };
        let commit = drill::commit(&after, Some(&believed), &decision, &context, None);
        if let domain::commit::Committed::Applied { .. } = node.store().commit(commit).await? {
            return Ok(decision.events);
        }
    }
    Err(CommandError::Contended)
}
