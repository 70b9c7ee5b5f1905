//! The ledger as plain maps, by the rules of `domain::task` and the words of `domain::commit`: what both databases are
//! compared with. Fences are counted from 1 here; whoever compares keeps which real fence each stands for.

use std::collections::{BTreeMap, BTreeSet};

use domain::{
    commit::{Ack, At, Commit, Committed, Entry, Guard, Row, StoredAnswer, Subject, Table, Then},
    ids::{Fence, TaskId},
    task::{Lane, Task, TaskState},
    time::Timestamp,
};
use store::{Beat, Claim};

/// Later than every instant in the sequences that lies in the past, earlier than every one in the future; what the
/// databases' own clocks say lies between, too.
pub(crate) const OWN_CLOCK: i64 = 1_000_000_000_000;

/// What a commit must come to.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Expected {
    Exactly(Committed),
    Rejected,
    /// A guard refuses and something is taken, too: which is found first is not promised.
    RefusedOrRejected(Committed),
}

#[derive(Clone, Debug)]
pub(crate) struct ModelRow {
    pub(crate) version: i64,
    pub(crate) row: Row,
    pub(crate) commit: String,
    pub(crate) created: Timestamp,
    pub(crate) updated: Timestamp,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    pub(crate) rows: BTreeMap<(Table, String), ModelRow>,
    pub(crate) tasks: BTreeMap<String, Task>,
    pub(crate) fences: i64,
    events: BTreeMap<(&'static str, String, i64, i64), String>,
    dedup: BTreeMap<(String, String), (StoredAnswer, String)>,
    unique: BTreeMap<String, String>,
    holds: BTreeSet<(String, String)>,
    budgets: BTreeMap<String, (Option<i64>, i64, i64)>,
    reservations: BTreeMap<(String, String), i64>,
    charges: BTreeMap<(String, i64, String), (i64, Timestamp)>,
    turns: BTreeMap<i64, i64>,
    reaped: i64,
}

impl Model {
    pub(crate) fn version(&self, table: Table, id: &str) -> Option<i64> {
        self.rows.get(&(table, id.to_owned())).map(|row| row.version)
    }

    pub(crate) fn commit(&mut self, commit: &Commit) -> Expected {
        let mut after = self.clone();
        let expected = match after.apply(commit) {
            Ok(version) => Expected::Exactly(Committed::Applied { version }),
            Err(expected) => expected,
        };
        if matches!(expected, Expected::Exactly(Committed::Applied { .. })) {
            *self = after;
        }
        expected
    }

    fn apply(&mut self, commit: &Commit) -> Result<i64, Expected> {
        let now = commit.cause.now;
        let refuse = |committed| Err(Expected::Exactly(committed));
        if let Some(dedup) = &commit.cause.dedup {
            let key = (dedup.scope.clone(), dedup.key.clone());
            if let Some((stored, _)) = self.dedup.get(&key) {
                return refuse(Committed::Duplicate(stored.clone()));
            }
            let answer = dedup.answer.clone();
            let stored = StoredAnswer { request_hash: dedup.request_hash.clone(), answer, at: now };
            self.dedup.insert(key, (stored, commit.id.to_string()));
        }
        if let Some(ack) = &commit.ack
            && !self.holds_task(ack)
        {
            return refuse(Committed::Fenced);
        }
        for expect in &commit.expects {
            if self.version(expect.table, &expect.id) != Some(expect.version) {
                return refuse(Committed::Stale);
            }
        }
        let version = match &commit.subject {
            None => 0,
            Some((subject, at)) => match (at, self.version(subject.kind.head(), &subject.id)) {
                (At::New, None) => 1,
                (At::Version(believed), Some(version)) if *believed == version => version + 1,
                _ => return refuse(Committed::Stale),
            },
        };
        let refused = commit
            .guards
            .iter()
            .find_map(|guard| self.take(guard).map(|current| Committed::Refused { guard: guard.clone(), current }));
        let fits = self.write(commit, version);
        match (refused, fits) {
            (Some(refused), true) => return refuse(refused),
            (Some(refused), false) => return Err(Expected::RefusedOrRejected(refused)),
            (None, false) => return Err(Expected::Rejected),
            (None, true) => {}
        }
        for entry in &commit.entries {
            self.enter(entry, now);
        }
        Ok(version)
    }

    /// Rows, events and tasks; whether nothing that must be new was taken.
    fn write(&mut self, commit: &Commit, version: i64) -> bool {
        let now = commit.cause.now;
        let own_rows = usize::from(commit.subject.is_some());
        for (place, row) in commit.rows.iter().enumerate() {
            let key = (row.table, row.id.clone());
            let before = self.rows.get(&key);
            let is_child = place >= own_rows;
            let is_taken = match before {
                Some(_) if is_child && row.table == Table::Messages => true,
                Some(before) => is_child && before.row.parent != row.parent,
                None => false,
            };
            if is_taken {
                return false;
            }
            let created = before.map_or(now, |before| before.created);
            let stored = ModelRow {
                version: version.max(1),
                row: row.clone(),
                commit: commit.id.to_string(),
                created,
                updated: now,
            };
            self.rows.insert(key, stored);
        }
        if let Some((subject, _)) = &commit.subject {
            for (place, event) in (0..).zip(&commit.events) {
                let shown = |value: Option<i64>| value.map_or("-".to_owned(), |value| value.to_string());
                let cause = match place {
                    0 => format!(
                        "{{\"commit\":\"{}\",\"command\":{},\"ids\":{}}}",
                        commit.id, commit.cause.command, commit.cause.ids
                    ),
                    _ => "-".to_owned(),
                };
                let line = format!(
                    "event|{}|{}|{version}|{place}|{}|{}|{}|{}|{}|{}|{}|{cause}",
                    subject.kind.as_str(),
                    subject.id,
                    event.kind,
                    event.schema,
                    now.as_micros(),
                    commit.cause.actor,
                    shown(event.project),
                    shown(event.step),
                    event.data
                );
                self.events.insert((subject.kind.as_str(), subject.id.clone(), version, place), line);
            }
        }
        for withdraw in &commit.withdraw {
            for task in self.tasks.values_mut() {
                let own = commit.ack.as_ref().is_some_and(|ack| ack.task == task.id);
                let begun = commit.withdraw.iter().any(|withdraw| withdraw.begun.contains(&task.id));
                let meant = withdraw.kinds.is_empty() || withdraw.kinds.contains(&task.kind);
                if task.subject == withdraw.subject && meant && !own {
                    task.withdraw(begun, now);
                }
            }
        }
        if let Some(ack) = &commit.ack
            && let Some(task) = self.tasks.get_mut(ack.task.as_str())
        {
            task.acknowledge(&ack.then, now);
        }
        for new in &commit.tasks {
            let task = Task::from_new(new.clone(), now);
            if self.tasks.insert(new.id.0.clone(), task).is_some() {
                return false;
            }
        }
        true
    }

    fn holds_task(&self, ack: &Ack) -> bool {
        self.tasks.get(ack.task.as_str()).is_some_and(|task| task.is_held(ack.fence))
    }

    fn take(&mut self, guard: &Guard) -> Option<String> {
        match guard {
            Guard::Unique { key, holder } => match self.unique.get(key) {
                Some(held) => Some(held.clone()),
                None => {
                    self.unique.insert(key.clone(), holder.clone());
                    None
                }
            },
            Guard::Hold { lock, holder, slots } => {
                let holders: Vec<_> =
                    self.holds.iter().filter(|(name, _)| name == lock).map(|(_, holder)| holder.clone()).collect();
                if holders.contains(holder) {
                    return None;
                }
                if holders.len() >= usize::try_from(*slots).unwrap() {
                    return Some(holders.join(", "));
                }
                self.holds.insert((lock.clone(), holder.clone()));
                None
            }
            Guard::Reserve { budget, holder, amount } => {
                let (limit, spent, reserved) = self.budgets.entry(budget.clone()).or_default();
                if let Some(limit) = limit
                    && *spent + *reserved + amount > *limit
                {
                    return Some(format!("spent {spent}, reserved {reserved}, limit {limit}"));
                }
                *reserved += amount;
                *self.reservations.entry((budget.clone(), holder.clone())).or_default() += amount;
                None
            }
        }
    }

    fn enter(&mut self, entry: &Entry, now: Timestamp) {
        match entry {
            Entry::Release { lock, holder } => {
                self.holds.remove(&(lock.clone(), holder.clone()));
            }
            Entry::Limit { budget, limit } => self.budgets.entry(budget.clone()).or_default().0 = *limit,
            Entry::Charge { budget, session, ordinal, amount } => {
                let key = (session.clone(), *ordinal, budget.clone());
                if let std::collections::btree_map::Entry::Vacant(place) = self.charges.entry(key) {
                    place.insert((*amount, now));
                    self.budgets.entry(budget.clone()).or_default().1 += amount;
                }
            }
            Entry::Settle { budget, holder } => {
                if let Some(amount) = self.reservations.remove(&(budget.clone(), holder.clone())) {
                    self.budgets.entry(budget.clone()).or_default().2 -= amount;
                }
            }
        }
    }

    /// The acknowledgements that did not count, and the tasks claimed in the order of their fences.
    pub(crate) fn work(&mut self, done: &[Ack], claim: &Claim) -> (Vec<Ack>, Vec<Task>) {
        match claim.lane {
            // What the same call puts back is not taken again.
            Lane::Fast => {
                let claimed = self.claim(claim);
                (self.acknowledge_all(done, claim.now), claimed)
            }
            Lane::Engine => (self.acknowledge_all(done, claim.now), self.claim(claim)),
        }
    }

    fn acknowledge_all(&mut self, done: &[Ack], now: Timestamp) -> Vec<Ack> {
        let mut fenced = Vec::new();
        for ack in done {
            if !self.holds_task(ack) {
                fenced.push(ack.clone());
            } else if let Some(task) = self.tasks.get_mut(ack.task.as_str()) {
                task.acknowledge(&ack.then, now);
            }
        }
        fenced
    }

    fn claim(&mut self, claim: &Claim) -> Vec<Task> {
        let mut claimed = Vec::new();
        while claimed.len() < usize::try_from(claim.limit).unwrap() {
            let Some(id) = self.next(claim) else { break };
            self.fences += 1;
            let task = self.tasks.get_mut(&id).unwrap();
            assert!(task.claim(Fence(self.fences), &claim.incarnation, Timestamp::from_micros(OWN_CLOCK)));
            claimed.push(task.clone());
        }
        if claim.lane == Lane::Engine {
            // Turns of this claim count from the next one on.
            for task in &claimed {
                self.turns.insert(task.project.unwrap_or(0), crate::support::fence(task).0);
            }
        }
        claimed
    }

    /// What this lane's claim takes next, from the tasks as they are.
    fn next(&self, claim: &Claim) -> Option<String> {
        let leased: Vec<&Task> = self
            .tasks
            .values()
            .filter(|task| matches!(task.state, TaskState::Leased { .. }) && task.kind.lane() == Lane::Engine)
            .collect();
        let of_project = |project| leased.iter().filter(|task| task.project == project).count();
        let of_engine = |engine: &Option<String>| leased.iter().filter(|task| task.engine == *engine).count();
        let below = |cap: Option<u32>, count: usize| cap.is_none_or(|cap| count < usize::try_from(cap).unwrap());
        let ready = self.tasks.values().filter(|task| task.state == TaskState::Ready && task.kind.lane() == claim.lane);
        let next = match claim.lane {
            Lane::Fast => ready.min_by_key(|task| (task.priority, task.due_at, task.id.clone())),
            Lane::Engine => ready
                .filter(|task| {
                    let cap = task.engine.as_ref().and_then(|engine| claim.caps.per_engine.get(engine).copied());
                    below(claim.caps.total, leased.len())
                        && below(cap, of_engine(&task.engine))
                        && (task.project.is_none() || below(claim.caps.per_project, of_project(task.project)))
                })
                .min_by_key(|task| {
                    let turn = self.turns.get(&task.project.unwrap_or(0)).copied().unwrap_or(0);
                    (task.priority, of_project(task.project), turn, task.due_at, task.id.clone())
                }),
        };
        next.map(|task| task.id.0.clone())
    }

    /// Fenced, and to be stopped.
    pub(crate) fn heartbeat(&mut self, beats: &[Beat]) -> (Vec<TaskId>, Vec<TaskId>) {
        let (mut fenced, mut stop) = (Vec::new(), Vec::new());
        for beat in beats {
            let until = Timestamp::from_micros(OWN_CLOCK);
            match self.tasks.get_mut(beat.task.as_str()).and_then(|task| task.heartbeat(beat.fence, until)) {
                None => fenced.push(beat.task.clone()),
                Some(true) => stop.push(beat.task.clone()),
                Some(false) => {}
            }
        }
        (fenced, stop)
    }

    /// Takes the first lease of another process.
    pub(crate) fn reap_one(&mut self, incarnation: &str) -> Vec<TaskId> {
        let lost = self
            .tasks
            .values_mut()
            .find(|task| matches!(&task.state, TaskState::Leased { incarnation: owner, .. } if owner != incarnation));
        let Some(task) = lost else { return Vec::new() };
        // Later reaped is later due, as the databases' clocks have it.
        self.reaped += 1;
        let now = Timestamp::from_micros(OWN_CLOCK + 1 + self.reaped);
        assert!(task.reap(now));
        vec![task.id.clone()]
    }

    pub(crate) fn adopt(&mut self, id: &TaskId, old: Fence, incarnation: &str) -> bool {
        let Some(task) = self.tasks.get_mut(id.as_str()) else { return false };
        match &mut task.state {
            TaskState::Leased { fence, incarnation: owner, .. } if *fence == old => {
                self.fences += 1;
                *fence = Fence(self.fences);
                incarnation.clone_into(owner);
                true
            }
            _ => false,
        }
    }

    pub(crate) fn promote(&mut self, now: Timestamp, limit: u32) -> (u32, Option<Timestamp>) {
        let mut due: Vec<_> = self
            .tasks
            .values()
            .filter(|task| task.state == TaskState::Scheduled)
            .map(|t| (t.due_at, t.id.clone()))
            .collect();
        due.sort();
        let mut promoted = 0;
        for (_, id) in due {
            if promoted < limit && self.tasks.get_mut(id.as_str()).unwrap().promote(now) {
                promoted += 1;
            }
        }
        let waiting = self.tasks.values().filter(|task| task.state == TaskState::Scheduled);
        (promoted, waiting.map(|task| task.due_at).min())
    }

    pub(crate) fn leases(&self) -> BTreeMap<String, i64> {
        let leased = self.tasks.iter().filter_map(|(id, task)| match &task.state {
            TaskState::Leased { fence, .. } => Some((id.clone(), fence.0)),
            _ => None,
        });
        leased.collect()
    }

    /// As [`crate::support::Db::everything`] shows a database.
    pub(crate) fn everything(&self) -> Vec<String> {
        let text = |value: &Option<String>| value.clone().unwrap_or("-".to_owned());
        let number = |value: Option<i64>| value.map_or("-".to_owned(), |value| value.to_string());
        let mut all = Vec::new();
        for table in Table::ALL {
            let mut rows: Vec<_> = self.rows.iter().filter(|((of, _), _)| *of == table).collect();
            if table.has_integer_ids() {
                rows.sort_by_key(|((_, id), _)| id.parse::<i64>().unwrap());
            }
            all.extend(rows.into_iter().map(|((_, id), stored)| {
                let ModelRow { version, row, commit, created, updated } = stored;
                format!(
                    "{}|{id}|{version}|{}|{}|{}|{}|{}|{commit}|{}|{}",
                    table.name(),
                    row.status,
                    text(&row.parent),
                    row.ordinal,
                    text(&row.name),
                    row.body,
                    created.as_micros(),
                    updated.as_micros()
                )
            }));
        }
        all.extend(self.events.values().cloned());
        all.extend(self.tasks.values().map(|task| {
            let Subject { kind, id } = &task.subject;
            let (fence, incarnation, finished) = match &task.state {
                TaskState::Leased { incarnation, .. } => (1, incarnation.as_str(), None),
                TaskState::Done { at } | TaskState::Dead { at } | TaskState::Withdrawn { at } => {
                    (0, "-", Some(at.as_micros()))
                }
                TaskState::Scheduled | TaskState::Ready => (0, "-", None),
            };
            let stop = i64::from(task.stop);
            format!(
                "task|{}|{}|{}|{}|{id}|{}|{}|{}|{}|{}|{}|{fence}|{incarnation}|{fence}|{stop}|{}|{}|{}|{}|{}|{}",
                task.id,
                task.kind.as_str(),
                task.kind.lane().as_str(),
                kind.as_str(),
                number(task.project),
                text(&task.engine),
                task.payload,
                task.priority,
                task.state.name(),
                task.due_at.as_micros(),
                task.failures,
                task.max_failures,
                task.crashes,
                text(&task.error),
                task.created_at.as_micros(),
                number(finished)
            )
        }));
        all.extend(self.dedup.iter().map(|((scope, key), (stored, commit))| {
            let at = stored.at.as_micros();
            format!("dedup|{scope}|{key}|{}|{}|{commit}|{at}", stored.request_hash, stored.answer)
        }));
        all.extend(self.unique.iter().map(|(key, holder)| format!("unique|{key}|{holder}")));
        all.extend(self.holds.iter().map(|(lock, holder)| format!("hold|{lock}|{holder}")));
        all.extend(
            self.budgets
                .iter()
                .map(|(id, (limit, spent, reserved))| format!("budget|{id}|{}|{spent}|{reserved}", number(*limit))),
        );
        all.extend(
            self.reservations
                .iter()
                .map(|((budget, holder), amount)| format!("reservation|{budget}|{holder}|{amount}")),
        );
        all.extend(self.charges.iter().map(|((session, ordinal, budget), (amount, at))| {
            format!("charge|{session}|{ordinal}|{budget}|{amount}|{}", at.as_micros())
        }));
        all
    }
}

/// An acknowledgement that ends the lease.
pub(crate) fn ends(then: &Then) -> bool {
    *then != Then::Keep
}
