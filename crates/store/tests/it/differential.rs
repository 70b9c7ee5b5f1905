//! Random short sequences of operations, against the model and on both databases: the same answers, the same rows.
//!
//! The seed is printed; `SEED=<it>` runs the same sequences again, and the seed of a failure runs that sequence first.

use std::{collections::BTreeMap, time::Duration};

use domain::{
    commit::{Ack, At, Commit, Entry, Expect, Guard, NewEvent, Row, Subject, SubjectKind, Table, Then, Withdraw},
    ids::{CommitId, Fence, TaskId},
    task::{Lane, NewTask, TaskKind, TaskState},
    time::Timestamp,
};
use store::{Beat, Claim, StoreError, queue::Caps};

use crate::{
    model::{Expected, Model, OWN_CLOCK, ends},
    support::{Db, Raw, commit, eventually, on, run},
};

const SEQUENCES: u64 = 2_000;
/// Sequences run side by side, each lane on a database of its own.
const LANES: u64 = 4;
const FUTURE: i64 = 8_000_000_000_000_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_does_as_the_model_says() {
    compare(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_databases_do_as_the_model_says() {
    compare(true).await;
}

async fn compare(both: bool) {
    let seed = host::env::var("SEED").map_or_else(|| host::random::u64() >> 1, |text| text.parse().unwrap());
    println!("SEED={seed}");
    let lanes = (0..LANES).map(|lane| async move {
        run(sqlite_in_memory().await, async |sqlite| {
            if both {
                let lane_on = async |postgres: &mut Db| run_lane(seed, lane, &[&*sqlite, postgres]).await;
                run(Db::postgres().await, lane_on).await;
            } else {
                run_lane(seed, lane, &[&*sqlite]).await;
            }
        })
        .await;
    });
    futures_util::future::join_all(lanes).await;
}

/// Where a commit costs no disk: what is compared is what it does, not that it lasts.
async fn sqlite_in_memory() -> Db {
    match tempfile::tempdir_in("/dev/shm") {
        Ok(dir) => Db::sqlite_in(dir).await,
        Err(_) => Db::sqlite().await,
    }
}

async fn run_lane(seed: u64, lane: u64, databases: &[&Db]) {
    let mut number = lane;
    while number < SEQUENCES {
        let seed = seed.wrapping_add(number);
        let mut sequence = Sequence { random: Random(seed), model: Model::default(), number: 0, history: Vec::new() };
        let mut sides: Vec<_> = databases.iter().map(|db| Side { db, fences: BTreeMap::new() }).collect();
        sequence.run(seed, &mut sides).await;
        for side in sides {
            side.empty().await;
        }
        number += LANES;
    }
}

/// splitmix64: small, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn number(&mut self, n: u64) -> i64 {
        i64::try_from(self.below(n)).unwrap()
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[usize::try_from(self.below(from.len() as u64)).unwrap()].clone()
    }
}

#[derive(Clone, Debug)]
enum Op {
    Commit(Box<Commit>),
    Work(Vec<Ack>, Claim),
    Heartbeat(Vec<Beat>),
    ReapOne(String),
    Adopt(TaskId, Fence, String),
    Promote(Timestamp, u32),
}

/// One database, and which of its fences each fence of the model stands for.
struct Side<'a> {
    db: &'a Db,
    fences: BTreeMap<i64, i64>,
}

impl Side<'_> {
    /// A fence that was never given stands for itself, far above those that were.
    fn fence(&self, fence: Fence) -> Fence {
        Fence(self.fences.get(&fence.0).copied().unwrap_or(fence.0 + 4_000_000_000_000))
    }

    fn ack(&self, ack: &Ack) -> Ack {
        Ack { fence: self.fence(ack.fence), ..ack.clone() }
    }

    async fn everything(&self) -> Vec<String> {
        let mut rows = self.db.everything().await;
        // What the database's own clock said is only known to lie between past and future.
        for row in rows.iter_mut().filter(|row| row.starts_with("task|")) {
            *row = own_clock(row);
        }
        rows
    }

    /// A transaction that failed is given up without waiting for the server, which holds its row locks until it hears.
    async fn settled(&self) {
        const OPEN: &str = "SELECT count(*) FROM pg_stat_activity
            WHERE datname = current_database() AND state <> 'idle' AND pid <> pg_backend_pid()";
        eventually("failed transactions are over", async || self.db.rows(OPEN).await == ["0"]).await;
    }

    async fn empty(&self) {
        const TABLES: [&str; 7] = ["turns", "dedup", "unique_keys", "holds", "budgets", "reservations", "charges"];
        let own: &[&str] = match self.db.is_sqlite() {
            true => &["events", "tasks"],
            false => &["event_batches", "task_rows", "tasks_ready", "tasks_scheduled", "claims", "claim_ends"],
        };
        let names = Table::ALL.iter().map(|table| table.name()).chain(TABLES).chain(own.iter().copied());
        let sql: String = names.map(|name| format!("DELETE FROM {name};")).collect();
        match &self.db.raw {
            Raw::Sqlite(_) => self.db.execute(&format!("BEGIN IMMEDIATE; {sql} COMMIT")).await,
            Raw::Postgres(_) => self.db.execute(&sql).await,
        }
    }
}

fn own_clock(row: &str) -> String {
    let mut columns: Vec<&str> = row.split('|').collect();
    let due: i64 = columns[11].parse().unwrap();
    if (OWN_CLOCK..FUTURE).contains(&due) {
        columns[11] = "own clock";
    }
    columns.join("|")
}

struct Sequence {
    random: Random,
    model: Model,
    number: i64,
    history: Vec<Op>,
}

impl Sequence {
    async fn run(&mut self, seed: u64, sides: &mut [Side<'_>]) {
        let length = 4 + self.random.below(7);
        for _ in 0..length {
            self.number += 1;
            let op = self.draw();
            self.history.push(op.clone());
            self.carry_out(seed, &op, sides).await;
        }
        let mut expected = self.model.everything();
        for row in expected.iter_mut().filter(|row| row.starts_with("task|")) {
            *row = own_clock(row);
        }
        for side in sides {
            let name = side.db.store.backend_name();
            let found = side.everything().await;
            assert_eq!(found, expected, "rows on {name}, SEED={seed}, after {:#?}", self.history);
            let leases = side.db.rows("SELECT id, fence FROM tasks WHERE fence IS NOT NULL ORDER BY id").await;
            let held: Vec<_> =
                self.model.leases().iter().map(|(id, fence)| format!("{id}|{}", side.fence(Fence(*fence)))).collect();
            assert_eq!(leases, held, "leases on {name}, SEED={seed}, after {:#?}", self.history);
        }
    }

    async fn carry_out(&mut self, seed: u64, op: &Op, sides: &mut [Side<'_>]) {
        let before = self.model.fences;
        let place = |side: &Side<'_>| format!("{}, SEED={seed}", side.db.store.backend_name());
        match op {
            Op::Commit(commit) => {
                let expected = self.model.commit(commit);
                for side in sides {
                    let mut commit = commit.as_ref().clone();
                    commit.ack = commit.ack.as_ref().map(|ack| side.ack(ack));
                    let found = side.db.store.commit(commit).await;
                    let rejected = matches!(found, Err(StoreError::Rejected { .. }));
                    let fits = match &expected {
                        Expected::Exactly(committed) => found.as_ref().ok() == Some(committed),
                        Expected::Rejected => rejected,
                        Expected::RefusedOrRejected(refused) => rejected || found.as_ref().ok() == Some(refused),
                    };
                    if rejected && let Raw::Postgres(_) = side.db.raw {
                        side.settled().await;
                    }
                    assert!(fits, "{}: {found:?}, not {expected:?}, after {:#?}", place(side), self.history);
                }
            }
            Op::Work(done, claim) => {
                let (fenced, tasks) = self.model.work(done, claim);
                for side in sides {
                    let acks = done.iter().map(|ack| side.ack(ack)).collect();
                    let mut worked = side.db.store.work(acks, claim.clone()).await.unwrap();
                    let lost: Vec<_> = fenced.iter().map(|ack| side.ack(ack)).collect();
                    assert_eq!(worked.fenced, lost, "{}, after {:#?}", place(side), self.history);
                    worked.tasks.sort_by_key(crate::support::fence);
                    let (found, expected) = (crate::support::ids(&worked.tasks), crate::support::ids(&tasks));
                    assert_eq!(found, expected, "{}, after {:#?}", place(side), self.history);
                    for (fence, task) in (before + 1..).zip(&worked.tasks) {
                        side.fences.insert(fence, crate::support::fence(task).0);
                    }
                }
            }
            Op::Heartbeat(beats) => {
                let (fenced, stop) = self.model.heartbeat(beats);
                for side in sides {
                    let beats: Vec<_> = beats
                        .iter()
                        .map(|beat| Beat { task: beat.task.clone(), fence: side.fence(beat.fence) })
                        .collect();
                    let lease = Duration::from_secs(3600);
                    let heard =
                        side.db.store.heartbeat(&beats, lease, Timestamp::from_micros(self.number)).await.unwrap();
                    let found = (heard.fenced, heard.stop, heard.skipped);
                    let expected = (fenced.clone(), stop.clone(), vec![]);
                    assert_eq!(found, expected, "{}, after {:#?}", place(side), self.history);
                }
            }
            Op::ReapOne(incarnation) => {
                let reaped = self.model.reap_one(incarnation);
                for side in sides {
                    let found = side.db.reap(incarnation, 1).await;
                    assert_eq!(found, reaped, "{}, after {:#?}", place(side), self.history);
                    if !side.db.is_sqlite() {
                        // Only one lease was meant to end; the others go on.
                        side.db
                            .execute(&format!("UPDATE claims SET lease_until = {FUTURE} WHERE lease_until = 1"))
                            .await;
                    }
                }
            }
            Op::Adopt(task, fence, incarnation) => {
                let adopted = self.model.adopt(task, *fence, incarnation);
                for side in sides {
                    let old = side.fence(*fence);
                    let lease = Duration::from_secs(3600);
                    let found = side.db.store.adopt(task, old, incarnation, lease).await.unwrap();
                    assert_eq!(found.is_some(), adopted, "{}, after {:#?}", place(side), self.history);
                    if let Some(task) = found {
                        side.fences.insert(before + 1, crate::support::fence(&task).0);
                    }
                }
            }
            Op::Promote(now, limit) => {
                let expected = self.model.promote(*now, *limit);
                for side in sides {
                    let found = side.db.store.promote(*now, *limit).await.unwrap();
                    assert_eq!(found, expected, "{}, after {:#?}", place(side), self.history);
                }
            }
        }
    }

    fn draw(&mut self) -> Op {
        match self.random.below(100) {
            0..55 => Op::Commit(Box::new(self.draw_commit())),
            55..77 => {
                let done = (0..self.random.below(3)).filter_map(|_| self.draw_ack()).collect();
                Op::Work(done, self.draw_claim())
            }
            77..85 => {
                let mut beats: Vec<Beat> = Vec::new();
                for _ in 0..=self.random.below(3) {
                    if let Some(ack) = self.draw_ack()
                        && beats.iter().all(|beat| beat.task != ack.task)
                    {
                        beats.push(Beat { task: ack.task, fence: ack.fence });
                    }
                }
                Op::Heartbeat(beats)
            }
            85..90 => Op::ReapOne(self.incarnation()),
            90..94 => match self.draw_ack() {
                Some(ack) => Op::Adopt(ack.task, ack.fence, self.incarnation()),
                None => Op::ReapOne(self.incarnation()),
            },
            _ => Op::Promote(Timestamp::from_micros(FUTURE + self.random.number(4)), 1 + self.random.below(3) as u32),
        }
    }

    fn incarnation(&mut self) -> String {
        self.random.pick(&["one", "two"]).to_owned()
    }

    fn draw_claim(&mut self) -> Claim {
        let mut cap = |n| self.random.chance(30).then(|| self.random.below(n) as u32);
        let (total, per_project, codex) = (cap(4), cap(3), cap(2));
        let per_engine = codex.map(|cap| ("codex".to_owned(), cap)).into_iter().collect();
        Claim {
            lane: self.random.pick(&[Lane::Fast, Lane::Fast, Lane::Engine]),
            incarnation: self.incarnation(),
            limit: self.random.pick(&[0, 1, 2, 3, 3]),
            lease: Duration::from_secs(3600),
            caps: Caps { total, per_project, per_engine },
            now: Timestamp::from_micros(self.number),
        }
    }

    /// An acknowledgement of some task, mostly one that is held.
    fn draw_ack(&mut self) -> Option<Ack> {
        let leases: Vec<_> = self.model.leases().into_iter().collect();
        let (task, fence) = match (leases.is_empty(), self.random.chance(80)) {
            (false, true) => self.random.pick(&leases),
            _ => {
                let tasks: Vec<_> = self.model.tasks.keys().cloned().collect();
                if tasks.is_empty() {
                    return None;
                }
                // A fence of the past, or one that nobody will ever be given.
                let fence = self.random.number(6);
                (self.random.pick(&tasks), if fence > self.model.fences { fence + 1_000_000 } else { fence })
            }
        };
        let then = match self.random.below(5) {
            0 | 1 => Then::Done,
            2 => Then::Keep,
            3 => Then::Dead { error: format!("dead {}", self.number) },
            _ => Then::Again {
                due_at: self.due(),
                failed: self.random.chance(50).then(|| format!("failed {}", self.number)),
            },
        };
        Some(Ack { task: TaskId(task), fence: Fence(fence), then })
    }

    fn due(&mut self) -> Timestamp {
        match self.random.chance(70) {
            true => Timestamp::from_micros(self.random.number(4) - 4),
            false => Timestamp::from_micros(FUTURE + self.random.number(4)),
        }
    }

    fn draw_commit(&mut self) -> Commit {
        let mut commit = self.draw_head();
        commit.id = CommitId(format!("commit {}", self.number));
        commit.cause.now = Timestamp::from_micros(self.number);
        commit.cause.command = format!("[{}]", self.number);
        if let Some((subject, _)) = commit.subject.clone() {
            self.draw_children(&mut commit, &subject);
        }
        if self.random.chance(15) {
            let id = format!("m{}", self.random.below(4));
            let name = self.random.chance(60).then(|| format!("key {}", self.random.below(4)));
            if commit.rows.iter().all(|row| row.id != id) {
                commit
                    .rows
                    .push(Row { name, ..self.row(Table::Messages, &id, &["queued", "sent"], Some("dev:alice")) });
            }
        }
        if self.random.chance(30) {
            commit.ack = self.draw_ack();
        }
        for _ in 0..self.random.pick(&[0, 1, 1, 2]) {
            let task = self.draw_task();
            let taken = commit.tasks.iter().any(|other| other.id == task.id)
                || commit.ack.as_ref().is_some_and(|ack| ack.task == task.id);
            if !taken {
                commit.tasks.push(task);
            }
        }
        if self.random.chance(15) {
            let rows: Vec<_> = self.model.rows.iter().map(|(key, row)| (key.clone(), row.version)).collect();
            let own = commit.subject.as_ref().map(|(subject, _)| (subject.kind.head(), subject.id.clone()));
            if !rows.is_empty() {
                let ((table, id), version) = self.random.pick(&rows);
                // What a commit changes itself it does not also expect.
                let changes = commit.rows.iter().any(|row| row.table == table && row.id == id);
                if !changes && own != Some((table, id.clone())) {
                    commit.expects.push(Expect { table, id, version: version + self.random.number(2) });
                }
            }
        }
        for _ in 0..2 {
            if self.random.chance(15) {
                let guard = self.draw_guard();
                commit.guards.push(guard);
            }
            if self.random.chance(15) {
                let entry = self.draw_entry();
                commit.entries.push(entry);
            }
        }
        if self.random.chance(25) {
            let kinds = if self.random.chance(50) { vec![TaskKind::Noop] } else { Vec::new() };
            let tasks: Vec<_> = self.model.tasks.keys().cloned().map(TaskId).collect();
            let begun = tasks.into_iter().filter(|_| self.random.chance(40)).collect();
            commit.withdraw.push(Withdraw { subject: self.task_subject(), kinds, begun });
        }
        if self.random.chance(35) {
            let (scope, key) = (self.random.pick(&["inbox", "http:a"]), self.random.pick(&["k0", "k1", "k2"]));
            commit = crate::support::Build::once(commit, scope, key);
        }
        commit
    }

    fn draw_head(&mut self) -> Commit {
        let (kind, id) = match self.random.below(20) {
            0..3 => return commit(),
            3..13 => (SubjectKind::Run, format!("r{}", self.random.below(3))),
            13..17 => (SubjectKind::Protocol, (101 + self.random.below(2)).to_string()),
            17 => (SubjectKind::Person, "p0".to_owned()),
            _ => (SubjectKind::Message, format!("m{}", self.random.below(4))),
        };
        let current = self.model.version(kind.head(), &id);
        let at = match (current, self.random.below(20)) {
            (Some(version), 0..16) => At::Version(version),
            (Some(version), 16) => At::Version(version + 1),
            (Some(version), 17) => At::Version(version - 1),
            (None, 0..17) | (Some(_), _) if kind != SubjectKind::Message || current.is_none() => At::New,
            (Some(version), _) => At::Version(version),
            (None, _) => At::Version(1),
        };
        let statuses: &[&str] = match kind {
            SubjectKind::Run => &["Running", "Failed", "Blocked"],
            SubjectKind::Protocol => &["running", "paused"],
            SubjectKind::Message => &["sending", "sent"],
            _ => &["active", "disabled"],
        };
        let mut commit = on(kind, &id, at);
        let parent = self.random.chance(50).then(|| self.random.pick(&["here", "there"]));
        commit.rows[0] = self.row(kind.head(), &id, statuses, parent);
        commit.rows[0].name = match (kind, self.model.rows.get(&(kind.head(), id))) {
            // A message keeps the name it was given.
            (SubjectKind::Message, Some(stored)) => stored.row.name.clone(),
            (SubjectKind::Message, None) => Some(format!("key {}", self.random.below(4))),
            _ => self.random.chance(30).then(|| self.random.pick(&["name", "other name"]).to_owned()),
        };
        commit.events = (0..1 + self.random.below(2))
            .map(|n| NewEvent {
                kind: format!("event {n}"),
                schema: 1,
                data: format!("[{n}]"),
                project: self.random.chance(30).then(|| self.random.number(3)),
                step: self.random.chance(30).then(|| self.random.number(3)),
            })
            .collect();
        commit
    }

    fn draw_children(&mut self, commit: &mut Commit, subject: &Subject) {
        let qualified = subject.to_string();
        for n in 0..2 {
            if matches!(subject.kind, SubjectKind::Run | SubjectKind::Protocol) && self.random.chance(25) {
                let row = self.row(Table::Gates, &format!("g{n}"), &["open", "approved"], Some(&qualified));
                commit.rows.push(row);
            }
            if subject.kind == SubjectKind::Run && self.random.chance(15) {
                let id = format!("run-{}-{n}", subject.id);
                let row = self.row(Table::Attempts, &id, &["running", "lost"], Some(&qualified));
                commit.rows.push(row);
            }
            if subject.kind == SubjectKind::Protocol && self.random.chance(40) {
                let row = self.row(Table::Steps, &(9 + n).to_string(), &["pending", "running"], Some(&subject.id));
                commit.rows.push(row);
            }
        }
    }

    fn row(&mut self, table: Table, id: &str, statuses: &[&str], parent: Option<&str>) -> Row {
        Row {
            table,
            id: id.to_owned(),
            status: self.random.pick(statuses).to_owned(),
            parent: parent.map(str::to_owned),
            ordinal: self.random.number(2),
            name: None,
            body: format!("{{\"n\":{}}}", self.number),
        }
    }

    fn task_subject(&mut self) -> Subject {
        self.random.pick(&[Subject::new(SubjectKind::Run, "r0"), Subject::new(SubjectKind::Protocol, "r0")])
    }

    fn draw_task(&mut self) -> NewTask {
        let fresh = format!("t{:02}-{}", self.number, self.random.below(9));
        let existing: Vec<_> = self.model.tasks.keys().cloned().collect();
        let id = if !existing.is_empty() && self.random.chance(4) { self.random.pick(&existing) } else { fresh };
        let kind =
            self.random.pick(&[TaskKind::Noop, TaskKind::ExpireGate, TaskKind::ExecuteStep, TaskKind::ExecuteStep]);
        let is_engine = kind.lane() == Lane::Engine;
        NewTask {
            id: TaskId(id),
            kind,
            subject: self.task_subject(),
            payload: format!("{{\"n\":{}}}", self.number),
            due_at: self.random.chance(50).then(|| self.due()),
            project: is_engine.then(|| self.random.pick(&[Some(1), Some(2), None])).flatten(),
            engine: is_engine.then(|| self.random.pick(&["codex", "claude"]).to_owned()),
            priority: self.random.pick(&[0, 0, 0, -1, 1]),
            max_failures: 3,
        }
    }

    fn draw_guard(&mut self) -> Guard {
        let holder = self.random.pick(&["x", "y"]).to_owned();
        match self.random.below(3) {
            0 => Guard::Unique { key: format!("u{}", self.random.below(3)), holder },
            1 => Guard::Hold {
                lock: format!("l{}", self.random.below(2)),
                holder,
                slots: 1 + self.random.below(2) as u32,
            },
            _ => Guard::Reserve { budget: format!("b{}", self.random.below(2)), holder, amount: self.random.number(9) },
        }
    }

    fn draw_entry(&mut self) -> Entry {
        let holder = self.random.pick(&["x", "y"]).to_owned();
        let budget = format!("b{}", self.random.below(2));
        match self.random.below(4) {
            0 => Entry::Release { lock: format!("l{}", self.random.below(2)), holder },
            1 => Entry::Limit { budget, limit: self.random.chance(80).then(|| self.random.number(30)) },
            2 => Entry::Charge {
                budget,
                session: self.random.pick(&["s", "t"]).to_owned(),
                ordinal: self.random.number(3),
                amount: self.random.number(9),
            },
            _ => Entry::Settle { budget, holder },
        }
    }
}

#[test]
fn random_sequences_reach_every_outcome() {
    let mut outcomes = BTreeMap::new();
    for seed in 0..6_000 {
        let mut sequence = Sequence { random: Random(seed), model: Model::default(), number: 0, history: Vec::new() };
        for _ in 0..4 + sequence.random.below(7) {
            sequence.number += 1;
            let name = match sequence.draw() {
                Op::Commit(commit) => {
                    let expected = sequence.model.commit(&commit);
                    format!("{expected:?}").split([' ', '{']).next().unwrap().to_owned()
                }
                Op::Work(done, claim) => {
                    let ended = done.iter().any(|ack| ends(&ack.then));
                    let (fenced, tasks) = sequence.model.work(&done, &claim);
                    format!("work {ended} {} {}", fenced.is_empty(), tasks.is_empty())
                }
                Op::Heartbeat(beats) => {
                    let (fenced, stop) = sequence.model.heartbeat(&beats);
                    format!("heartbeat {} {}", fenced.is_empty(), stop.is_empty())
                }
                Op::ReapOne(incarnation) => format!("reap {}", sequence.model.reap_one(&incarnation).len()),
                Op::Adopt(task, fence, incarnation) => {
                    format!("adopt {}", sequence.model.adopt(&task, fence, &incarnation))
                }
                Op::Promote(now, limit) => format!("promote {}", sequence.model.promote(now, limit).0),
            };
            *outcomes.entry(name).or_insert(0) += 1;
            if sequence.model.tasks.values().any(|task| task.stop && task.state == TaskState::Ready) {
                *outcomes.entry("told and ready".to_owned()).or_insert(0) += 1;
            }
        }
    }
    let wanted = [
        "Exactly(Applied",
        "Exactly(Duplicate(StoredAnswer",
        "Exactly(Stale)",
        "Exactly(Fenced)",
        "Exactly(Refused",
        "Rejected",
        "work true true false",
        "work true false true",
        "heartbeat true false",
        "heartbeat false true",
        "reap 1",
        "adopt true",
        "adopt false",
        "promote 1",
        "promote 2",
        "told and ready",
    ];
    for name in wanted {
        assert!(outcomes.get(name).is_some_and(|count| *count >= 5), "{name} in {outcomes:#?}");
    }
}
