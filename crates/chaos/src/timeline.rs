//! What must hold for one run: its events replayed against its rows, the transition table and the marks of its executions.

use std::collections::BTreeMap;

use domain::{
    aggregate::Aggregate,
    attempt::{Attempt, AttemptState, Ending},
    ids::{AttemptId, RunId},
    run::{BlockedOn, Run, RunEvent, RunState, TRANSITIONS},
};
use store::{StoredEvent, Versioned};

use crate::{marks::Marks, violation::Kind};

/// A run as the ledger tells it.
#[derive(Debug)]
pub struct Told<'a> {
    pub events: &'a [StoredEvent],
    pub rows: &'a Versioned<Run>,
    pub attempts: &'a [Attempt],
    /// Marks read before the ledger, and after it.
    pub marks: (&'a Marks, &'a Marks),
}

/// What replaying a run's events shows.
#[derive(Debug)]
pub struct Replayed {
    pub run: Run,
    /// Every fence under which something was written for the run, in order.
    pub fences: Vec<i64>,
    pub findings: Vec<(Kind, String)>,
}

/// Replays the events; `None` when they do not begin a run.
pub fn replay(told: &Told<'_>) -> Option<Replayed> {
    let mut replay = Replay { findings: Vec::new(), fences: Vec::new(), attempts: BTreeMap::new(), interrupted: None };
    let mut run: Option<Run> = None;
    let (mut version, mut place) = (0, -1);
    for stored in told.events {
        let follows = (stored.version, stored.place) == (version, place + 1)
            || (stored.version, stored.place) == (version + 1, 0);
        replay.expect(follows, Kind::Fold, || {
            format!("event {} is version {}.{} behind {version}.{place}", stored.kind, stored.version, stored.place)
        });
        (version, place) = (stored.version, stored.place);
        let event: RunEvent = match serde_json::from_str(&stored.data) {
            Ok(event) => event,
            Err(error) => {
                replay.findings.push((Kind::Fold, format!("event {} cannot be read: {error}", stored.kind)));
                continue;
            }
        };
        replay.expect(Run::event_name(&event) == stored.kind, Kind::Fold, || {
            format!("an event named {} holds {}", stored.kind, Run::event_name(&event))
        });
        run = match run {
            None => Some(Run::created(&event)?),
            Some(before) => {
                if is_retried(&before, &event, &stored.actor) {
                    replay.interrupted = None;
                }
                Some(replay.step(&before, &event, told))
            }
        };
    }
    let run = run?;
    replay.rows(&run, version, told);
    Some(Replayed { run, fences: replay.fences, findings: replay.findings })
}

/// Whether somebody asks again for a run that was given up and waits for its operator: a person's word, like an approval.
fn is_retried(before: &Run, event: &RunEvent, actor: &str) -> bool {
    matches!(before.state, RunState::Blocked { on: BlockedOn::Operator, .. })
        && matches!(event, RunEvent::ExecutionDispatched { .. })
        && !actor.starts_with("worker:")
}

struct Replay {
    findings: Vec<(Kind, String)>,
    fences: Vec<i64>,
    attempts: BTreeMap<u32, Attempt>,
    /// The attempt that was cut off and about which nobody has said anything yet.
    interrupted: Option<AttemptId>,
}

impl Replay {
    fn expect(&mut self, holds: bool, kind: Kind, finding: impl FnOnce() -> String) {
        if !holds {
            self.findings.push((kind, finding()));
        }
    }

    fn step(&mut self, before: &Run, event: &RunEvent, told: &Told<'_>) -> Run {
        let mut after = before.clone();
        after.apply(event);
        let (from, to, name) = (before.state.name(), after.state.name(), Run::event_name(event));
        let legal = match TRANSITIONS.iter().any(|(_, known, _)| *known == name) {
            true => TRANSITIONS.contains(&(from, name, to)),
            // Something about a gate, short of deciding the run.
            false => from == to,
        };
        self.expect(legal, Kind::Transition, || format!("{name} led from {from} to {to}"));
        match event {
            RunEvent::ExecutionDispatched { attempt } => self.dispatched(before, *attempt, told),
            RunEvent::ExecutionStarted { attempt } => {
                let wanted =
                    matches!(before.state, RunState::Dispatching { attempt: number } if number == attempt.number);
                self.expect(wanted, Kind::Attempts, || {
                    format!("attempt {} started while the run was {:?}", attempt.number, before.state)
                });
                let n = u32::try_from(self.attempts.len()).unwrap_or(u32::MAX);
                self.expect(attempt.number == n + 1, Kind::Attempts, || {
                    format!("attempt {} started behind {n} attempts", attempt.number)
                });
                self.fence(attempt.fence.0);
            }
            RunEvent::ExecutionAdopted { fence, .. } => self.fence(fence.0),
            RunEvent::ExecutionSucceeded { worker, .. }
            | RunEvent::ExecutionFailed { worker, .. }
            | RunEvent::ExecutionTimedOut { worker, .. } => {
                let holder = before.attempt.as_ref().map(|attempt| attempt.worker.clone()).unwrap_or_default();
                self.expect(*worker == holder, Kind::StaleWriter, || {
                    format!("{name} was written by {worker} although {holder} held the attempt")
                });
            }
            RunEvent::ExecutionInterrupted { .. } => {
                self.interrupted = before.attempt.as_ref().map(|attempt| attempt.id.clone());
            }
            _ => {}
        }
        // A person's word settles what was cut off.
        if matches!(event, RunEvent::GateChanged { .. } | RunEvent::RunApproved { .. }) {
            self.interrupted = None;
        }
        if let Some(attempt) = &after.attempt {
            self.attempts.insert(attempt.number, attempt.clone());
        }
        after
    }

    fn dispatched(&mut self, before: &Run, number: u32, told: &Told<'_>) {
        let n = u32::try_from(self.attempts.len()).unwrap_or(u32::MAX);
        self.expect(number == n + 1, Kind::Attempts, || format!("attempt {number} was dispatched behind {n} attempts"));
        if let Some(cut_off) = self.interrupted.take().filter(|_| !before.job.idempotent) {
            let mark = told.marks.1.of(cut_off.as_str());
            self.expect(mark.begun == 0, Kind::Repeated, || {
                format!("{cut_off} had begun and was repeated unasked, although the job is not safe to repeat")
            });
        }
    }

    fn fence(&mut self, fence: i64) {
        let last = self.fences.last().copied().unwrap_or(0);
        self.expect(fence > last, Kind::StaleWriter, || format!("fence {fence} was written behind fence {last}"));
        self.fences.push(fence);
    }

    fn rows(&mut self, run: &Run, version: i64, told: &Told<'_>) {
        let rows = &told.rows.subject;
        self.expect(told.rows.version == version, Kind::Fold, || {
            format!("its row is at version {}, its events at {version}", told.rows.version)
        });
        let sorted = |run: &Run| {
            let mut run = run.clone();
            run.gates.sort_by(|a, b| a.id.cmp(&b.id));
            run
        };
        self.expect(sorted(run) == sorted(rows), Kind::Fold, || {
            format!(
                "its events make {:?} with {} gates, its rows say {:?} with {}",
                run.state,
                run.gates.len(),
                rows.state,
                rows.gates.len()
            )
        });
        let kept: BTreeMap<u32, Attempt> =
            told.attempts.iter().map(|attempt| (attempt.number, attempt.clone())).collect();
        let made = self.attempts.clone();
        let shown = |attempts: &BTreeMap<u32, Attempt>| {
            attempts.values().map(|attempt| format!("{} {}", attempt.number, attempt.status())).collect::<Vec<_>>()
        };
        self.expect(kept == made, Kind::Fold, || {
            format!("its events make the attempts {:?}, its rows say {:?}", shown(&made), shown(&kept))
        });
        self.expect(told.attempts.len() == kept.len(), Kind::Attempts, || "two attempts have one number".to_owned());
        for attempt in made.values() {
            self.marks(attempt, told);
        }
        let unknown = AttemptId::of_run(&run.id, u32::try_from(self.attempts.len()).unwrap_or(u32::MAX) + 1);
        self.expect(told.marks.0.of(unknown.as_str()).begun == 0, Kind::Unrecorded, || {
            format!("{unknown} was executed and is not in the ledger")
        });
    }

    /// Executions are counted outside the ledger.
    fn marks(&mut self, attempt: &Attempt, told: &Told<'_>) {
        let mark = told.marks.1.of(attempt.id.as_str());
        self.expect(mark.begun <= 1 && mark.ended <= mark.begun, Kind::Repeated, || {
            format!("{} began {} times and ended {} times", attempt.id, mark.begun, mark.ended)
        });
        let AttemptState::Ended { ending: ending @ (Ending::Succeeded | Ending::Failed), exit_code: Some(_), .. } =
            &attempt.state
        else {
            return;
        };
        self.expect((mark.begun, mark.ended) == (1, 1), Kind::Unrecorded, || {
            format!(
                "{} is {}, but it began {} times and ended {} times",
                attempt.id,
                ending.name(),
                mark.begun,
                mark.ended
            )
        });
    }
}

/// The run that an attempt belongs to: `run-<run>-<n>`.
pub fn run_of(attempt: &str) -> Option<RunId> {
    let (run, _) = attempt.strip_prefix("run-")?.rsplit_once('-')?;
    Some(RunId(run.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use domain::{
        aggregate::fold,
        decision::Context,
        ids::{GateId, PersonId},
        run::RunRequest,
        time::Timestamp,
    };

    use super::*;
    use crate::place::JOBS;

    const NOON: Timestamp = Timestamp::from_micros(1_766_836_800_000_000);

    fn blocked_on(on: BlockedOn) -> Run {
        let text = JOBS[0].entry(std::path::Path::new("/d/marks"));
        let catalog = domain::catalog::Catalog::parse(&text, "jobs.toml").unwrap();
        let given = [("tag", "t"), ("pause", "0.1")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        let request = RunRequest {
            id: RunId::from("7Q4K2MA"),
            gate: GateId::from("GATE234"),
            job: catalog.find(JOBS[0].key).unwrap().bind(&BTreeMap::from(given)).unwrap(),
            requested_by: PersonId("id-alice".to_owned()),
            requester: "dev:alice".to_owned(),
            reason: None,
            channel: "dev".to_owned(),
            conversation: "dev:alice".to_owned(),
        };
        let mut run: Run = fold(&request.decide(&Context { now: NOON }).events).unwrap();
        run.state = RunState::Blocked { on, why: "3 workers died while they carried it out".to_owned() };
        run
    }

    #[test]
    fn what_was_given_up_is_asked_for_again_by_people_alone() {
        let again = RunEvent::ExecutionDispatched { attempt: 2 };
        let given_up = blocked_on(BlockedOn::Operator);
        let cut_off = blocked_on(BlockedOn::Gate { gate: GateId::from("GATE234") });

        assert!(is_retried(&given_up, &again, "user:dev:alice"));
        assert!(!is_retried(&given_up, &again, "worker:w-1"));
        assert!(!is_retried(&cut_off, &again, "user:dev:alice"));
        assert!(!is_retried(&Run { state: RunState::Running, ..given_up }, &again, "user:dev:alice"));
    }
}
