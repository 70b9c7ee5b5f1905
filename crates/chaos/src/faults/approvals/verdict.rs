//! Whether every gate ended once, and whether everybody was told the truth about it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use anyhow::{Result, bail};
use control::CommandError;
use domain::{
    aggregate::fold,
    commit::SubjectKind,
    gate::GateEvent,
    run::{Run, RunEvent, RunState},
    task::TaskKind,
};
use store::{EventQuery, Order, Store, StoredEvent, TaskQuery, Versioned};

use super::{
    Race,
    contender::{Contender, Told},
};
use crate::violation::{Kind, Violation};

const PAGE: u32 = 500;
/// PostgreSQL shows an event once every older transaction of its server has ended.
const PATIENCE: Duration = Duration::from_secs(30);

/// What was found so far.
#[derive(Debug)]
pub(super) struct Verdict {
    store: Store,
    cursor: Option<String>,
    events: BTreeMap<String, Vec<StoredEvent>>,
    /// How many tasks each run has to have: one while its execution is asked for.
    dispatched: BTreeMap<String, usize>,
    /// Runs whose last gate is open.
    waiting: BTreeSet<String>,
    /// How gates ended.
    ends: BTreeMap<&'static str, u64>,
    refused: u64,
    pub(super) violations: Vec<Violation>,
}

impl Verdict {
    pub(super) fn new(store: Store) -> Self {
        Self {
            store,
            cursor: None,
            events: BTreeMap::new(),
            dispatched: BTreeMap::new(),
            waiting: BTreeSet::new(),
            ends: BTreeMap::new(),
            refused: 0,
            violations: Vec::new(),
        }
    }

    pub(super) fn figures(&self, took: Duration) -> String {
        let ends: Vec<String> = self.ends.iter().map(|(end, n)| format!("{n} {end}")).collect();
        let (waiting, refused) = (self.waiting.len(), self.refused);
        format!("gates: {}, {waiting} open; {refused} told that others were first; {took:.0?}", ends.join(", "))
    }

    /// Judges races that are over.
    pub(super) async fn judge(&mut self, races: &[Race]) -> Result<()> {
        for race in races {
            let id = race.run.id.as_str();
            let Some(stored) = self.store.find::<Run>(id).await? else {
                self.find(Kind::Lost, id, "it was acknowledged and is not there".to_owned());
                continue;
            };
            let events = self.events_of(id, stored.version).await?;
            self.judge_one(race, &stored, &events);
        }
        Ok(())
    }

    fn judge_one(&mut self, race: &Race, stored: &Versioned<Run>, events: &[StoredEvent]) {
        let id = race.run.id.as_str();
        let timeline: Vec<RunEvent> =
            events.iter().filter_map(|event| serde_json::from_str(&event.data).ok()).collect();
        if fold::<Run>(&timeline).as_ref() != Some(&stored.subject) {
            self.find(Kind::Fold, id, "its row is not what its events make".to_owned());
        }
        self.judge_gates(id, stored, &timeline);
        self.judge_told(race, &timeline);
        // A cancel after the approval takes the task back.
        if matches!(stored.subject.state, RunState::Dispatching { .. }) {
            self.dispatched.insert(id.to_owned(), 1);
        }
        if stored.subject.open_gate().is_some() {
            self.waiting.insert(id.to_owned());
        }
    }

    /// Each gate ends once, after its quorum of different people.
    fn judge_gates(&mut self, id: &str, stored: &Versioned<Run>, timeline: &[RunEvent]) {
        for gate in &stored.subject.gates {
            let changes: Vec<&GateEvent> =
                timeline.iter().filter_map(change).filter(|change| change.gate() == &gate.id).collect();
            let is_end = |change: &&&GateEvent| !matches!(change, GateEvent::ApprovalGiven { .. });
            let ends: Vec<&str> = changes.iter().filter(is_end).map(|change| change.name()).collect();
            if ends.len() > 1 {
                self.find(
                    Kind::Repeated,
                    id,
                    format!("gate {} ended {} times: {}", gate.id, ends.len(), ends.join(", ")),
                );
            }
            for end in ends {
                *self.ends.entry(end.trim_start_matches("gate_")).or_default() += 1;
            }
            let approvers: Vec<&str> = changes
                .iter()
                .filter_map(|change| match change {
                    GateEvent::ApprovalGiven { approval, .. } => Some(approval.by.as_str()),
                    _ => None,
                })
                .collect();
            let people: BTreeSet<&str> = approvers.iter().copied().collect();
            if people.len() != approvers.len() {
                self.find(Kind::Repeated, id, format!("gate {} counted somebody twice: {approvers:?}", gate.id));
            }
            let is_approved = changes.iter().any(|change| matches!(change, GateEvent::Approved { .. }));
            if is_approved != (people.len() >= gate.policy.quorum as usize) {
                let (n, quorum) = (people.len(), gate.policy.quorum);
                self.find(Kind::Transition, id, format!("{n} of {quorum} approved, and approved is {is_approved}"));
            }
        }
    }

    /// What people were told that they did is what happened, once.
    fn judge_told(&mut self, race: &Race, timeline: &[RunEvent]) {
        let id = race.run.id.as_str();
        let told = race.told.iter().flat_map(|(_, told)| match told {
            Told::Did(events) => events.as_slice(),
            Told::Refused(_) => &[],
        });
        let sorted = |events: &mut dyn Iterator<Item = &RunEvent>| {
            let mut texts: Vec<String> = events.map(|event| serde_json::to_string(event).unwrap_or_default()).collect();
            texts.sort();
            texts
        };
        // The request itself made the first two: the run and its question.
        if sorted(&mut told.into_iter()) != sorted(&mut timeline.iter().skip(2)) {
            self.find(Kind::Answer, id, format!("what people were told is not its timeline: {:?}", race.told));
        }
        for (contender, told) in &race.told {
            let Told::Refused(error) = told else { continue };
            self.refused += 1;
            let is_loss = matches!(error, CommandError::Run(_));
            if !is_loss || matches!(contender, Contender::Expire | Contender::Rebind) {
                self.find(Kind::Answer, id, format!("{contender:?} was refused: {error}"));
            }
        }
    }

    /// Every execution that was asked for has its one task, and no question that is over waits for its deadline.
    pub(super) async fn judge_queue(&mut self) -> Result<()> {
        let mut tasks: BTreeMap<String, usize> = BTreeMap::new();
        let mut expiries = BTreeSet::new();
        let mut query = TaskQuery {
            states: ["scheduled", "ready"].map(str::to_owned).to_vec(),
            kinds: vec![TaskKind::RunJob, TaskKind::ExpireGate],
            after: None,
            limit: PAGE,
        };
        loop {
            let page = self.store.list_tasks(&query).await?;
            let Some(last) = page.last() else { break };
            query.after = Some(last.id.clone());
            for task in &page {
                match task.kind {
                    TaskKind::RunJob => *tasks.entry(task.subject.id.clone()).or_default() += 1,
                    _ => drop(expiries.insert(task.subject.id.clone())),
                }
            }
        }
        let differ: Vec<&String> = self
            .dispatched
            .keys()
            .chain(tasks.keys())
            .filter(|run| self.dispatched.get(*run) != tasks.get(*run))
            .take(5)
            .collect();
        if !differ.is_empty() {
            let what = format!("executions that were asked for and tasks differ, such as for {differ:?}");
            self.violations.push(Violation::of(Kind::Effect, what));
        }
        let differ: Vec<&String> = self.waiting.symmetric_difference(&expiries).take(5).collect();
        if !differ.is_empty() {
            let what = format!("open questions and deadlines that are waited for differ, such as for {differ:?}");
            self.violations.push(Violation::of(Kind::Effect, what));
        }
        Ok(())
    }

    /// All events of a run up to this version; waits for those that others' transactions still hold back.
    async fn events_of(&mut self, id: &str, version: i64) -> Result<Vec<StoredEvent>> {
        let started = host::clock::monotonic();
        loop {
            let newest = self.events.get(id).and_then(|events| events.last()).map_or(0, |event| event.version);
            if newest >= version {
                return Ok(self.events.remove(id).unwrap_or_default());
            }
            if started.elapsed() > PATIENCE {
                bail!("the events of run {id} end at {newest}, its row is at {version}, and no more can be read");
            }
            if !self.read_on().await? {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }

    /// Reads all events that there are by now: a page may end in the middle of a commit. Whether there were any.
    async fn read_on(&mut self) -> Result<bool> {
        let mut has_read = false;
        loop {
            let query = EventQuery {
                subject: None,
                project: None,
                step: None,
                kinds: vec![SubjectKind::Run],
                order: Order::Ascending,
                after: self.cursor.clone(),
                limit: PAGE,
            };
            let page = self.store.list_events(&query).await?;
            self.cursor = Some(page.next);
            has_read |= !page.events.is_empty();
            for event in page.events {
                self.events.entry(event.subject.id.clone()).or_default().push(event);
            }
            if !page.more {
                return Ok(has_read);
            }
        }
    }

    fn find(&mut self, kind: Kind, run: &str, what: String) {
        self.violations.push(Violation { kind, run: Some(run.to_owned()), what });
    }
}

/// What happened to a gate, whichever event of the run says so.
fn change(event: &RunEvent) -> Option<&GateEvent> {
    match event {
        RunEvent::GateChanged { change }
        | RunEvent::RunApproved { change }
        | RunEvent::RunDenied { change }
        | RunEvent::RunExpired { change } => Some(change),
        _ => None,
    }
}
