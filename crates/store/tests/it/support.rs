//! A fresh database for each test, and commits put together from parts.

use std::{future::Future, panic::AssertUnwindSafe, time::Duration};

use domain::{
    commit::{
        Ack, At, Cause, Commit, Committed, Dedup, Entry, Expect, Guard, NewEvent, Row, Subject, SubjectKind, Table,
        Then, Withdraw,
    },
    ids::{CommitId, Fence, TaskId},
    task::{Lane, NewTask, Task, TaskKind, TaskState},
    time::Timestamp,
};
use futures_util::FutureExt;
use store::{Claim, EventQuery, Order, Store, StoreConfig, StoreError, StoredEvent, queue::Caps};

/// 2027-01-15 08:00 UTC.
pub(crate) const NOON: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);
pub(crate) const HOUR: Duration = Duration::from_secs(3600);

/// Runs each test on a fresh database of each kind.
macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                crate::support::run(crate::support::Db::sqlite().await, async |db| super::$name(db).await).await;
            })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                crate::support::run(crate::support::Db::postgres().await, async |db| super::$name(db).await).await;
            })*
        }
    };
}
pub(crate) use on_both;

pub(crate) struct Db {
    pub(crate) store: Store,
    pub(crate) raw: Raw,
    place: Place,
}

enum Place {
    Sqlite(tempfile::TempDir),
    Postgres { admin: String, name: String, url: String },
}

/// A way past the store, to damage rows and to see all of them.
pub(crate) enum Raw {
    Sqlite(rusqlite::Connection),
    Postgres(tokio_postgres::Client),
}

/// Runs a test and takes its database away, whether it passed or not.
pub(crate) async fn run(mut db: Db, test: impl AsyncFnOnce(&mut Db)) {
    let outcome = AssertUnwindSafe(test(&mut db)).catch_unwind().await;
    db.store.close().await;
    if let Place::Postgres { admin, name, .. } = &db.place {
        let client = connect(admin).await;
        let drop = format!("DROP DATABASE {name} WITH (FORCE)");
        // The server's own vacuum may be at work in it, which a plain role cannot end.
        eventually("the database is dropped", async || client.batch_execute(&drop).await.is_ok()).await;
    }
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
}

impl Db {
    pub(crate) async fn sqlite() -> Self {
        Self::sqlite_in(tempfile::tempdir().unwrap()).await
    }

    pub(crate) async fn sqlite_in(dir: tempfile::TempDir) -> Self {
        let path = dir.path().join("ledger.db");
        let store = Store::open(&StoreConfig::Sqlite { path: path.clone() }).await.unwrap();
        let raw = rusqlite::Connection::open(path).unwrap();
        raw.busy_timeout(Duration::from_secs(5)).unwrap();
        Self { store, raw: Raw::Sqlite(raw), place: Place::Sqlite(dir) }
    }

    pub(crate) async fn postgres() -> Self {
        let admin = host::env::var("PILOTHOUSE_TEST_POSTGRES_URL").unwrap_or_else(|| {
            panic!("set PILOTHOUSE_TEST_POSTGRES_URL to the URL of a PostgreSQL whose role may create databases")
        });
        let name = format!("store_test_{:016x}", host::random::u64());
        connect(&admin).await.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
        let (server, _) = admin.rsplit_once('/').unwrap();
        let url = format!("{server}/{name}");
        let store = Store::open(&StoreConfig::Postgres { url: url.clone() }).await.unwrap();
        let raw = connect(&url).await;
        Self { store, raw: Raw::Postgres(raw), place: Place::Postgres { admin, name, url } }
    }

    pub(crate) fn is_sqlite(&self) -> bool {
        matches!(self.raw, Raw::Sqlite(_))
    }

    /// The file, on SQLite.
    pub(crate) fn path(&self) -> std::path::PathBuf {
        match &self.place {
            Place::Sqlite(dir) => dir.path().join("ledger.db"),
            Place::Postgres { .. } => panic!("there is no file"),
        }
    }

    /// The address, on PostgreSQL.
    pub(crate) fn url(&self) -> &str {
        match &self.place {
            Place::Postgres { url, .. } => url,
            Place::Sqlite(_) => panic!("there is no address"),
        }
    }

    pub(crate) async fn execute(&self, sql: &str) {
        match &self.raw {
            Raw::Sqlite(conn) => conn.execute_batch(sql).unwrap(),
            Raw::Postgres(client) => client.batch_execute(sql).await.unwrap(),
        }
    }

    /// Rows as text, columns separated by `|`, NULL as `-`.
    pub(crate) async fn rows(&self, sql: &str) -> Vec<String> {
        match &self.raw {
            Raw::Sqlite(conn) => {
                let mut statement = conn.prepare(sql).unwrap();
                let columns = statement.column_count();
                let rows = statement.query_map((), |row| {
                    let values: Vec<String> = (0..columns)
                        .map(|column| match row.get_ref(column).unwrap() {
                            rusqlite::types::ValueRef::Null => "-".to_owned(),
                            rusqlite::types::ValueRef::Integer(number) => number.to_string(),
                            rusqlite::types::ValueRef::Text(text) => String::from_utf8(text.to_vec()).unwrap(),
                            other => panic!("unexpected value {other:?}"),
                        })
                        .collect();
                    Ok(values.join("|"))
                });
                rows.unwrap().map(Result::unwrap).collect()
            }
            Raw::Postgres(client) => {
                let messages = client.simple_query(sql).await.unwrap();
                messages
                    .iter()
                    .filter_map(|message| match message {
                        tokio_postgres::SimpleQueryMessage::Row(row) => {
                            let values: Vec<&str> =
                                (0..row.len()).map(|column| row.get(column).unwrap_or("-")).collect();
                            Some(values.join("|"))
                        }
                        _ => None,
                    })
                    .collect()
            }
        }
    }

    /// Everything that a commit may write.
    pub(crate) async fn everything(&self) -> Vec<String> {
        let envelopes = Table::ALL.map(|table| format!("SELECT '{0}', {ENVELOPE} FROM {0} ORDER BY id", table.name()));
        let questions: Vec<&str> = envelopes.iter().map(String::as_str).chain(OTHERS).collect();
        match &self.raw {
            // Several questions make one round trip here.
            Raw::Postgres(_) => self.rows(&questions.join(";")).await,
            Raw::Sqlite(_) => {
                let mut all = Vec::new();
                for question in questions {
                    all.extend(self.rows(question).await);
                }
                all
            }
        }
    }

    /// The first page of events once it holds `count`. Readers on PostgreSQL wait for older transactions of the whole
    /// server, other databases' among them.
    pub(crate) async fn events(&self, query: EventQuery, count: usize) -> Vec<StoredEvent> {
        let found = std::sync::Mutex::new(Vec::new());
        eventually("the events are visible", async || {
            let events = self.store.list_events(&query).await.unwrap().events;
            let complete = events.len() >= count;
            *found.lock().unwrap() = events;
            complete
        })
        .await;
        found.into_inner().unwrap()
    }

    pub(crate) async fn applied(&self, commit: Commit) -> i64 {
        match self.store.commit(commit).await.unwrap() {
            Committed::Applied { version } => version,
            refused => panic!("not applied: {refused:?}"),
        }
    }

    /// Claims fast tasks under the name `worker`.
    pub(crate) async fn claim(&self, limit: u32) -> Vec<Task> {
        self.claim_as("worker", Lane::Fast, limit).await
    }

    pub(crate) async fn claim_as(&self, incarnation: &str, lane: Lane, limit: u32) -> Vec<Task> {
        self.store.work(Vec::new(), claim(incarnation, lane, limit)).await.unwrap().tasks
    }

    pub(crate) async fn task(&self, id: &str) -> Task {
        self.store.find_task(&TaskId::from(id)).await.unwrap().unwrap()
    }

    pub(crate) async fn state(&self, id: &str) -> &'static str {
        self.task(id).await.state.name()
    }

    /// The table that holds the tasks.
    pub(crate) fn tasks_table(&self) -> &'static str {
        if self.is_sqlite() { "tasks" } else { "task_rows" }
    }

    /// Ends the leases of every other process: by the lock on SQLite, by their time on PostgreSQL.
    pub(crate) async fn reap(&self, incarnation: &str, limit: u32) -> Vec<TaskId> {
        if !self.is_sqlite() {
            self.execute(&format!("UPDATE claims SET lease_until = 1 WHERE incarnation <> '{incarnation}'")).await;
        }
        self.store.reap(incarnation, limit).await.unwrap().tasks
    }
}

pub(crate) const ENVELOPE: &str = "id, version, status, parent, ordinal, name, body, commit_id, created_at, updated_at";

pub(crate) const OTHERS: [&str; 8] = [
    "SELECT 'event', subject_kind, subject, version, place, kind, schema, at, actor, project, step, data, cause
     FROM events ORDER BY subject_kind, subject, version, place",
    "SELECT 'task', id, kind, lane, subject_kind, subject, project, engine, payload, priority, state, due_at,
            CASE WHEN fence IS NULL THEN 0 ELSE 1 END, incarnation, CASE WHEN lease_until IS NULL THEN 0 ELSE 1 END,
            CASE WHEN stop THEN 1 ELSE 0 END, failures, max_failures, crashes, error, created_at, finished_at
     FROM tasks ORDER BY id",
    "SELECT 'dedup', scope, key, request_hash, answer, commit_id, at FROM dedup ORDER BY scope, key",
    "SELECT 'unique', key, holder FROM unique_keys ORDER BY key",
    "SELECT 'hold', lock_name, holder FROM holds ORDER BY lock_name, holder",
    "SELECT 'budget', id, limit_amount, spent, reserved FROM budgets ORDER BY id",
    "SELECT 'reservation', budget, holder, amount FROM reservations ORDER BY budget, holder",
    "SELECT 'charge', session, ordinal, budget, amount, at FROM charges ORDER BY session, ordinal, budget",
];

/// A connection of the tests' own.
pub(crate) async fn connect(url: &str) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.unwrap();
    drop(host::task::spawn("test connection", async move {
        let _ = connection.await;
    }));
    client
}

pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros(NOON.as_micros() + seconds * 1_000_000)
}

pub(crate) fn claim(incarnation: &str, lane: Lane, limit: u32) -> Claim {
    Claim { lane, incarnation: incarnation.to_owned(), limit, lease: HOUR, caps: Caps::default(), now: NOON }
}

/// A commit without a subject; ids are drawn.
pub(crate) fn commit() -> Commit {
    Commit {
        id: CommitId(format!("c-{:016x}", host::random::u64())),
        subject: None,
        cause: Cause {
            actor: "system".to_owned(),
            command: "{}".to_owned(),
            now: NOON,
            ids: "{}".to_owned(),
            dedup: None,
        },
        ack: None,
        expects: Vec::new(),
        guards: Vec::new(),
        entries: Vec::new(),
        rows: Vec::new(),
        events: Vec::new(),
        tasks: Vec::new(),
        withdraw: Vec::new(),
    }
}

/// A commit on a subject with its head row and one event.
pub(crate) fn on(kind: SubjectKind, id: &str, at: At) -> Commit {
    let status = match kind {
        SubjectKind::Run => "Running",
        SubjectKind::Protocol => "running",
        SubjectKind::Message => "queued",
        SubjectKind::Project | SubjectKind::Person | SubjectKind::Token | SubjectKind::Catalog => "active",
    };
    Commit { subject: Some((Subject::new(kind, id), at)), ..commit() }
        .row(row(kind.head(), id, status))
        .event("something_happened")
}

pub(crate) fn new_run(id: &str) -> Commit {
    on(SubjectKind::Run, id, At::New)
}

pub(crate) fn change_run(id: &str, version: i64) -> Commit {
    on(SubjectKind::Run, id, At::Version(version))
}

pub(crate) fn row(table: Table, id: &str, status: &str) -> Row {
    Row {
        table,
        id: id.to_owned(),
        status: status.to_owned(),
        parent: None,
        ordinal: 0,
        name: None,
        body: format!("{{\"status\":\"{status}\"}}"),
    }
}

pub(crate) fn child(table: Table, id: &str, status: &str, parent: &str, ordinal: i64) -> Row {
    Row { parent: Some(parent.to_owned()), ordinal, ..row(table, id, status) }
}

pub(crate) fn event(kind: &str) -> NewEvent {
    NewEvent { kind: kind.to_owned(), schema: 1, data: "{}".to_owned(), project: None, step: None }
}

pub(crate) fn task(id: &str, kind: TaskKind) -> NewTask {
    NewTask {
        id: TaskId::from(id),
        kind,
        subject: Subject::new(SubjectKind::Run, "R"),
        payload: "{}".to_owned(),
        due_at: None,
        project: None,
        engine: None,
        priority: 0,
        max_failures: 3,
    }
}

pub(crate) fn noop(id: &str) -> NewTask {
    task(id, TaskKind::Noop)
}

pub(crate) fn fence(task: &Task) -> Fence {
    match &task.state {
        TaskState::Leased { fence, .. } => *fence,
        state => panic!("{} is {}", task.id, state.name()),
    }
}

pub(crate) fn ack(task: &Task, then: Then) -> Ack {
    Ack { task: task.id.clone(), fence: fence(task), then }
}

pub(crate) fn ids(tasks: &[Task]) -> Vec<&str> {
    tasks.iter().map(|task| task.id.as_str()).collect()
}

pub(crate) fn is_rejected<T>(result: &Result<T, StoreError>) -> bool {
    matches!(result, Err(StoreError::Rejected { .. }))
}

/// All events, oldest first.
pub(crate) fn everything() -> EventQuery {
    EventQuery {
        subject: None,
        project: None,
        step: None,
        kinds: Vec::new(),
        order: Order::Ascending,
        after: None,
        limit: 500,
    }
}

/// Adds to a commit.
pub(crate) trait Build: Sized {
    fn row(self, row: Row) -> Self;
    fn event(self, kind: &str) -> Self;
    fn task(self, task: NewTask) -> Self;
    fn ack(self, ack: Ack) -> Self;
    fn guard(self, guard: Guard) -> Self;
    fn entry(self, entry: Entry) -> Self;
    fn expecting(self, table: Table, id: &str, version: i64) -> Self;
    fn withdrawing(self, subject: Subject, kinds: &[TaskKind]) -> Self;
    fn begun(self, tasks: &[&str]) -> Self;
    fn once(self, scope: &str, key: &str) -> Self;
    fn at(self, now: Timestamp) -> Self;
}

impl Build for Commit {
    fn row(mut self, row: Row) -> Self {
        self.rows.push(row);
        self
    }

    fn event(mut self, kind: &str) -> Self {
        self.events.push(event(kind));
        self
    }

    fn task(mut self, task: NewTask) -> Self {
        self.tasks.push(task);
        self
    }

    fn ack(mut self, ack: Ack) -> Self {
        self.ack = Some(ack);
        self
    }

    fn guard(mut self, guard: Guard) -> Self {
        self.guards.push(guard);
        self
    }

    fn entry(mut self, entry: Entry) -> Self {
        self.entries.push(entry);
        self
    }

    fn expecting(mut self, table: Table, id: &str, version: i64) -> Self {
        self.expects.push(Expect { table, id: id.to_owned(), version });
        self
    }

    fn withdrawing(mut self, subject: Subject, kinds: &[TaskKind]) -> Self {
        self.withdraw.push(Withdraw { subject, kinds: kinds.to_vec(), begun: Vec::new() });
        self
    }

    /// Of the last withdrawal.
    fn begun(mut self, tasks: &[&str]) -> Self {
        self.withdraw.last_mut().unwrap().begun = tasks.iter().copied().map(TaskId::from).collect();
        self
    }

    fn once(mut self, scope: &str, key: &str) -> Self {
        self.cause.dedup = Some(Dedup {
            scope: scope.to_owned(),
            key: key.to_owned(),
            request_hash: format!("hash of {key}"),
            answer: format!("answer to {key} by {}", self.id),
        });
        self
    }

    fn at(mut self, now: Timestamp) -> Self {
        self.cause.now = now;
        self
    }
}

/// Waits for a condition, at most a minute: the machine may be busy, and so may others on the same server.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, condition: impl Fn() -> F) {
    let started = host::clock::monotonic();
    while !condition().await {
        assert!(started.elapsed() < Duration::from_secs(60), "did not happen: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
