//! What must hold for a ledger after a death, and for everything that was acknowledged before it.
//!
//! Events are read on from where the last check ended: what was read once must stay. Only runs with new events and runs
//! that are not finished are looked at again, so that a check costs what a cycle did; the last check of a campaign reads
//! everything anew and compares.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use anyhow::Result;
use domain::{
    attempt::AttemptState,
    catalog::Approval,
    commit::{Subject, SubjectKind, Table},
    run::{API_CHANNEL, BlockedOn, Run, RunState},
    task::{Task, TaskKind},
    text,
};
use store::{EventQuery, Order, RowQuery, Store, StoredEvent, TaskQuery};

use crate::{
    journal::{Acknowledged, Channel, Claim, Journal},
    marks::Marks,
    processes,
    timeline::{Told, replay, run_of},
    violation::{Kind, Violation},
};

const PAGE: u32 = 500;

/// What the checks of a campaign know so far.
#[derive(Debug, Default)]
pub struct Ledger {
    cursor: Option<String>,
    events: BTreeMap<String, Vec<StoredEvent>>,
    /// Runs that are not finished, as far as is known.
    open: BTreeSet<String>,
    runs: BTreeMap<String, Run>,
    /// The runs that each key made.
    by_tag: BTreeMap<String, BTreeSet<String>>,
    /// The attempt that each fence was given for.
    fences: BTreeMap<i64, String>,
    /// Runs that are new, each with the key of the message that it begins with.
    unannounced: Vec<(String, String)>,
    /// How many acknowledgements were checked.
    checked: usize,
}

/// Where to look besides the ledger.
#[derive(Debug)]
pub struct Witness<'a> {
    pub store: &'a Store,
    pub journal: &'a Journal,
    pub marks: &'a Path,
    pub dir: &'a Path,
}

impl Ledger {
    /// How many events of this kind there are.
    pub fn count(&self, kind: &str) -> u64 {
        self.events.values().flatten().filter(|event| event.kind == kind).count() as u64
    }

    pub fn runs(&self) -> &BTreeMap<String, Run> {
        &self.runs
    }

    /// Checks what happened since the last time.
    pub async fn check(&mut self, witness: &Witness<'_>) -> Result<Vec<Violation>> {
        let mut found = Findings::default();
        let before = Marks::read(witness.marks)?;
        for finding in witness.store.check().await? {
            found.push(Kind::Integrity, None, finding);
        }
        let touched = self.read_events(witness.store).await?;
        let live = live_tasks(witness.store).await?;
        let after = Marks::read(witness.marks)?;
        let looked_at: BTreeSet<String> = touched.union(&self.open).cloned().collect();
        for id in &looked_at {
            self.check_run(id, witness.store, (&before, &after), &live, &mut found).await?;
        }
        for attempt in before.attempts() {
            let known = run_of(attempt).is_some_and(|run| self.events.contains_key(run.as_str()));
            found.expect(known, Kind::Unrecorded, None, || {
                format!("{attempt} was executed and its run is not in the ledger")
            });
        }
        self.check_announced(witness.store, &mut found).await?;
        check_deliveries(witness.store, &live, &mut found).await?;
        for acknowledged in &witness.journal.acknowledged[self.checked..] {
            self.check_acknowledged(acknowledged, witness.store, &mut found).await?;
        }
        self.checked = witness.journal.acknowledged.len();
        for wrong in &witness.journal.wrong {
            found.push(Kind::Answer, None, wrong.clone());
        }
        self.check_processes(witness.dir, &mut found).await;
        Ok(found.0)
    }

    /// Reads everything anew once all has drained, compares it with what was read on the way, and checks it whole.
    pub async fn check_whole(&mut self, witness: &Witness<'_>) -> Result<Vec<Violation>> {
        let mut violations = self.check(witness).await?;
        let mut anew = Self::default();
        violations.extend(anew.check(witness).await?);
        let mut found = Findings::default();
        for (id, events) in &self.events {
            found.expect(anew.events.get(id) == Some(events), Kind::Fold, Some(id), || {
                "events that were there are there no more, or differ".to_owned()
            });
        }
        for (id, run) in &anew.runs {
            let at_rest = run.state.is_finished();
            found.expect(at_rest, Kind::Stuck, Some(id), || format!("it is still {}", run.state.name()));
        }
        for task in list_tasks(witness.store, &["scheduled", "ready", "leased"]).await? {
            found.push(
                Kind::Stuck,
                None,
                format!(
                    "task {} ({}) for {} is still {}",
                    task.id,
                    task.kind.as_str(),
                    task.subject,
                    task.state.name()
                ),
            );
        }
        for task in list_tasks(witness.store, &["dead"]).await? {
            let error = task.error.clone().unwrap_or_default();
            // Quarantine is what a task gets that several workers died with, and here they die all the time.
            found.expect(error.contains("workers died"), Kind::Stuck, None, || {
                format!("task {} ({}) for {} died: {error}", task.id, task.kind.as_str(), task.subject)
            });
        }
        let mut keys = BTreeSet::new();
        for row in list_rows(witness.store, Table::Messages, &[]).await? {
            let ended = ["sent", "unknown", "failed"].contains(&row.status.as_str());
            found.expect(ended, Kind::Stuck, None, || format!("message {} is still {}", row.id, row.status));
            let key = row.name.unwrap_or_default();
            found.expect(keys.insert(key.clone()), Kind::Repeated, None, || format!("two messages have the key {key}"));
        }
        violations.extend(found.0);
        Ok(violations)
    }

    async fn read_events(&mut self, store: &Store) -> Result<BTreeSet<String>> {
        let mut touched = BTreeSet::new();
        loop {
            let page = store
                .list_events(&EventQuery {
                    subject: None,
                    project: None,
                    step: None,
                    kinds: vec![SubjectKind::Run],
                    order: Order::Ascending,
                    after: self.cursor.clone(),
                    limit: PAGE,
                })
                .await?;
            for event in page.events {
                touched.insert(event.subject.id.clone());
                self.events.entry(event.subject.id.clone()).or_default().push(event);
            }
            self.cursor = Some(page.next);
            if !page.more {
                return Ok(touched);
            }
        }
    }

    async fn check_run(
        &mut self,
        id: &str,
        store: &Store,
        marks: (&Marks, &Marks),
        live: &BTreeMap<Subject, Vec<TaskKind>>,
        found: &mut Findings,
    ) -> Result<()> {
        let events = self.events.get(id).map_or(&[][..], Vec::as_slice);
        let Some(rows) = store.find::<Run>(id).await? else {
            found.push(Kind::Fold, Some(id), "it has events and no row".to_owned());
            return Ok(());
        };
        let attempts = store.list_attempts(&format!("run:{id}"), PAGE).await?;
        let told = Told { events, rows: &rows, attempts: &attempts, marks };
        let Some(replayed) = replay(&told) else {
            found.push(Kind::Fold, Some(id), "its first event does not create it".to_owned());
            return Ok(());
        };
        for (kind, finding) in replayed.findings {
            found.push(kind, Some(id), finding);
        }
        let run = replayed.run;
        for fence in replayed.fences {
            let owner = self.fences.entry(fence).or_insert_with(|| id.to_owned());
            found.expect(owner == id, Kind::StaleWriter, Some(id), || {
                format!("fence {fence} was given to {owner}, too")
            });
        }
        check_effects(&run, live, found);
        let is_new = !self.runs.contains_key(id);
        if is_new {
            let tag = run.job.params.get("tag").cloned().unwrap_or_default();
            let runs = self.by_tag.entry(tag.clone()).or_default();
            runs.insert(id.to_owned());
            found.expect(runs.len() == 1, Kind::Repeated, Some(id), || format!("command {tag} made the runs {runs:?}"));
            if run.channel != API_CHANNEL {
                self.unannounced.push((id.to_owned(), announcement_key(&run)));
            }
        }
        match run.state.is_finished() {
            true => self.open.remove(id),
            false => self.open.insert(id.to_owned()),
        };
        self.runs.insert(id.to_owned(), run);
        Ok(())
    }

    /// The message that a new run begins with is stored with it.
    async fn check_announced(&mut self, store: &Store, found: &mut Findings) -> Result<()> {
        if self.unannounced.is_empty() {
            return Ok(());
        }
        let messages = list_rows(store, Table::Messages, &[]).await?;
        let keys: BTreeSet<&str> = messages.iter().filter_map(|message| message.name.as_deref()).collect();
        for (run, key) in self.unannounced.drain(..) {
            let is_stored = keys.contains(key.as_str());
            found.expect(is_stored, Kind::Effect, Some(&run), || format!("its message {key} was never stored"));
        }
        Ok(())
    }

    async fn check_acknowledged(&self, known: &Acknowledged, store: &Store, found: &mut Findings) -> Result<()> {
        let Acknowledged { key, cycle, channel, claim } = known;
        if *channel == Channel::Dev {
            let stored = store.find_answer("inbox:dev", key).await?.is_some();
            found.expect(stored, Kind::Lost, None, || {
                format!("message {key} was acknowledged in cycle {cycle} and is not in the ledger ({claim:?})")
            });
        }
        let events = |run: &str| self.events.get(run).map_or(&[][..], Vec::as_slice);
        let has = |run: &str, kind: &str| events(run).iter().any(|event| event.kind == kind);
        let state = |run: &str| self.runs.get(run).map_or("absent", |run| run.state.name());
        let (holds, run) = match claim {
            Claim::Run { run, .. } => {
                let made = self.by_tag.get(key);
                let told = run.as_ref().is_none_or(|run| made.is_some_and(|made| made.contains(run)));
                (made.is_some_and(|made| made.len() == 1) && told, run.as_deref())
            }
            Claim::Dispatched { run } => (has(run, "ExecutionDispatched"), Some(run.as_str())),
            Claim::Denied { run } => (state(run) == "Denied", Some(run.as_str())),
            Claim::Canceled { run } => (state(run) == "Canceled", Some(run.as_str())),
            Claim::Stopping { run } => (has(run, "CancelRequested"), Some(run.as_str())),
            Claim::Seen => (true, None),
        };
        found.expect(holds, Kind::Lost, run, || {
            let run = run.map_or("unknown", state);
            format!("command {key} was acknowledged in cycle {cycle} as {claim:?}, and the run is {run}")
        });
        Ok(())
    }

    /// Nothing may run for an attempt that has ended; a second is granted for the end itself.
    async fn check_processes(&self, dir: &Path, found: &mut Findings) {
        let over = |attempt: &String| {
            let run = run_of(attempt).and_then(|run| self.runs.get(run.as_str()));
            run.and_then(|run| run.attempt.as_ref()).is_some_and(|latest| {
                latest.id.as_str() != attempt || matches!(latest.state, AttemptState::Ended { .. })
            })
        };
        let mut left = BTreeSet::new();
        for _ in 0..20 {
            left = processes::attempts(dir).into_iter().filter(over).collect();
            if left.is_empty() {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        for process in processes::find(dir) {
            if let Some(attempt) = process.attempt.as_ref().filter(|attempt| left.contains(*attempt)) {
                let run = run_of(attempt).map(|run| run.to_string());
                let what = format!("{attempt} has ended, but process {} lives: {}", process.pid, process.command);
                found.push(Kind::Orphan, run.as_deref(), what);
            }
        }
    }
}

#[derive(Default)]
struct Findings(Vec<Violation>);

impl Findings {
    fn push(&mut self, kind: Kind, run: Option<&str>, what: String) {
        self.0.push(Violation { kind, run: run.map(str::to_owned), what });
    }

    fn expect(&mut self, holds: bool, kind: Kind, run: Option<&str>, what: impl FnOnce() -> String) {
        if !holds {
            self.push(kind, run, what());
        }
    }
}

/// What a run waits for must be on its way: an effect is stored with the event that asks for it.
fn check_effects(run: &Run, live: &BTreeMap<Subject, Vec<TaskKind>>, found: &mut Findings) {
    let wanted = match &run.state {
        RunState::Dispatching { .. } | RunState::Running => TaskKind::RunJob,
        RunState::AwaitingApproval { .. } | RunState::Blocked { on: BlockedOn::Gate { .. }, .. } => {
            TaskKind::ExpireGate
        }
        _ => return,
    };
    let n = live.get(&run.subject()).map_or(0, |kinds| kinds.iter().filter(|kind| **kind == wanted).count());
    found.expect(n == 1, Kind::Effect, Some(run.id.as_str()), || {
        format!("it is {} and has {n} waiting tasks of kind {}", run.state.name(), wanted.as_str())
    });
}

/// The key of the message that a new run begins with.
fn announcement_key(run: &Run) -> String {
    match run.job.policy.approve {
        Approval::None => format!("starting:{}", run.id),
        Approval::Approvers { .. } => text::approval_request_key(run.id.as_str()),
    }
}

async fn check_deliveries(store: &Store, live: &BTreeMap<Subject, Vec<TaskKind>>, found: &mut Findings) -> Result<()> {
    for row in list_rows(store, Table::Messages, &["queued", "sending"]).await? {
        let subject = Subject::new(SubjectKind::Message, &row.id);
        let n = live.get(&subject).map_or(0, Vec::len);
        found.expect(n == 1, Kind::Effect, None, || {
            format!("message {} is {} and has {n} waiting tasks", row.id, row.status)
        });
    }
    Ok(())
}

async fn live_tasks(store: &Store) -> Result<BTreeMap<Subject, Vec<TaskKind>>> {
    let mut live: BTreeMap<Subject, Vec<TaskKind>> = BTreeMap::new();
    for task in list_tasks(store, &["scheduled", "ready", "leased"]).await? {
        live.entry(task.subject).or_default().push(task.kind);
    }
    Ok(live)
}

async fn list_tasks(store: &Store, states: &[&str]) -> Result<Vec<Task>> {
    let mut query = TaskQuery {
        states: states.iter().map(|state| (*state).to_owned()).collect(),
        limit: PAGE,
        ..TaskQuery::default()
    };
    let mut tasks = Vec::new();
    loop {
        let page = store.list_tasks(&query).await?;
        let Some(last) = page.last() else { return Ok(tasks) };
        query.after = Some(last.id.clone());
        tasks.extend(page);
    }
}

async fn list_rows(store: &Store, table: Table, statuses: &[&str]) -> Result<Vec<store::StoredRow>> {
    let mut query = RowQuery {
        table,
        parent: None,
        statuses: statuses.iter().map(|status| (*status).to_owned()).collect(),
        order: Order::Ascending,
        after: None,
        limit: PAGE,
    };
    let mut rows = Vec::new();
    loop {
        let page = store.list_rows(&query).await?;
        let Some(last) = page.last() else { return Ok(rows) };
        query.after = Some((last.ordinal, last.id.clone()));
        rows.extend(page);
    }
}
