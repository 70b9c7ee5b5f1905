//! Carries out one commit inside the writer's transaction.
//!
//! Statements are guarded, so that their row counts tell duplicate, fenced and stale; only a refusal asks the database a
//! second question, to say why.

use domain::{
    commit::{Ack, At, Commit, Committed, Dedup, Guard, Row, StoredAnswer, Table, Then, Withdraw},
    task::NewTask,
    time::Timestamp,
};
use rusqlite::{OptionalExtension, params};

use crate::{
    StoreError,
    known::Tables,
    rules, sql,
    sqlite::{
        SqliteStore,
        tables::{self, Key},
        writer::{Done, Ledger},
    },
};

const TAKE_KEY: &str = "INSERT INTO dedup (scope, key, request_hash, answer, commit_id, at)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (scope, key) DO NOTHING";

const STORE_EVENT: &str = "INSERT INTO events
        (subject_kind, subject, version, place, kind, schema, at, actor, project, step, data, cause)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)";

const STORE_TASK: &str = "INSERT INTO tasks
        (id, kind, lane, subject_kind, subject, project, engine, payload, priority, state, due_at, max_failures, created_at)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)";

/// ?1 the task that the commit acknowledges, or nothing; ?5 the kinds that are meant, as `,a,b,`, or nothing for all;
/// ?6 the tasks whose work has begun, as JSON. Those, and what is leased or was told before, are told to stop.
const WITHDRAW: &str = "UPDATE tasks SET
        stop = told,
        due_at = CASE WHEN told AND state <> 'leased' THEN min(due_at, ?4) ELSE due_at END,
        finished_at = CASE WHEN told THEN NULL ELSE ?4 END,
        state = CASE WHEN state = 'leased' THEN 'leased' WHEN told THEN 'ready' ELSE 'withdrawn' END
    FROM (SELECT id AS meant, state = 'leased' OR stop OR id IN (SELECT value FROM json_each(?6)) AS told
          FROM tasks
          WHERE subject_kind = ?2 AND subject = ?3 AND finished_at IS NULL
            AND subject_kind <> 'message' AND (?1 IS NULL OR id <> ?1) AND (?5 IS NULL OR instr(?5, ',' || kind || ',') > 0))
    WHERE id = meant";

const KEEP: &str = "SELECT 1 FROM tasks WHERE id = ?1 AND fence = ?2 AND state = 'leased'";

/// ?3 is `done` or `dead`.
const FINISH: &str = "UPDATE tasks SET state = ?3, error = coalesce(?4, error), finished_at = ?5,
        fence = NULL, incarnation = NULL, lease_until = NULL, stop = 0
    WHERE id = ?1 AND fence = ?2 AND state = 'leased'";

/// ?3 is `ready` or `scheduled`; an error counts as a failure.
const AGAIN: &str = "UPDATE tasks SET state = ?3, due_at = ?4, error = coalesce(?5, error),
        failures = min(failures + (?5 IS NOT NULL), 65535),
        fence = NULL, incarnation = NULL, lease_until = NULL
    WHERE id = ?1 AND fence = ?2 AND state = 'leased'";

impl SqliteStore {
    pub async fn commit(&self, commit: Commit) -> Result<Committed, StoreError> {
        rules::validate(&commit)?;
        match self.inner.writer.call(move |ledger| ledger.commit(&commit)).await? {
            Ok(committed) => Ok(committed),
            Err(rejected) => Err(rejected),
        }
    }
}

/// How far a commit got before it was refused.
enum Stop {
    Refused(Committed),
    Rejected(StoreError),
    Sqlite(rusqlite::Error),
}

impl From<rusqlite::Error> for Stop {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

type Outcome = Result<Committed, StoreError>;

impl Ledger {
    fn commit(&mut self, commit: &Commit) -> rusqlite::Result<Done<Outcome>> {
        self.written.join(Tables::of(&commit.rows));
        match self.apply(commit) {
            Ok(version) => Ok(Done::keep(Ok(Committed::Applied { version }))),
            Err(Stop::Refused(refused)) => Ok(Done::undo(Ok(refused))),
            Err(Stop::Rejected(error)) => Ok(Done::undo(Err(error))),
            Err(Stop::Sqlite(error)) => Err(error),
        }
    }

    /// The subject's new version.
    fn apply(&mut self, commit: &Commit) -> Result<i64, Stop> {
        let now = commit.cause.now;
        if let Some(dedup) = &commit.cause.dedup {
            self.take_key(dedup, commit, now)?;
            host::failpoint!("sqlite.dedup.taken");
        }
        if let Some(ack) = &commit.ack
            && !self.acknowledge(ack, now)?
        {
            return Err(Stop::Refused(Committed::Fenced));
        }
        for expect in &commit.expects {
            let Some(key) = Key::of(expect.table, &expect.id) else {
                return Err(Stop::Refused(Committed::Stale));
            };
            let mut statement = self.conn.prepare_cached(&tables::sql(expect.table).is_at)?;
            if !statement.exists(params![key, expect.version])? {
                return Err(Stop::Refused(Committed::Stale));
            }
        }
        let version = self.write_head(commit, now)?;
        for guard in &commit.guards {
            if let Some(current) = self.take(guard)? {
                return Err(Stop::Refused(Committed::Refused { guard: guard.clone(), current }));
            }
        }
        let own_rows = usize::from(commit.subject.is_some());
        for row in &commit.rows[own_rows..] {
            self.write_child(row, commit, rules::row_version(version), now)?;
        }
        host::failpoint!("sqlite.rows.written");
        self.write_events(commit, version, now)?;
        host::failpoint!("sqlite.events.written");
        for entry in &commit.entries {
            self.enter(entry, now)?;
        }
        // Before the new tasks are stored: what is withdrawn is what waited when the command was given.
        if !commit.withdraw.is_empty() {
            let begun = rules::begun(commit);
            let begun = serde_json::Value::from_iter(begun).to_string();
            for withdraw in &commit.withdraw {
                self.withdraw(withdraw, &begun, commit, now)?;
            }
        }
        for task in &commit.tasks {
            self.store_task(task, now)?;
        }
        host::failpoint!("sqlite.tasks.stored");
        Ok(version)
    }

    fn take_key(&self, dedup: &Dedup, commit: &Commit, now: Timestamp) -> Result<(), Stop> {
        let taken = self.conn.prepare_cached(TAKE_KEY)?.execute(params![
            dedup.scope,
            dedup.key,
            dedup.request_hash,
            dedup.answer,
            commit.id.as_str(),
            now.as_micros()
        ])?;
        if taken == 1 {
            return Ok(());
        }
        let stored =
            self.conn.prepare_cached(sql::FIND_ANSWER.sqlite())?.query_row(params![dedup.scope, dedup.key], |row| {
                Ok(StoredAnswer {
                    request_hash: row.get(0)?,
                    answer: row.get(1)?,
                    at: Timestamp::from_micros(row.get(2)?),
                })
            })?;
        Err(Stop::Refused(Committed::Duplicate(stored)))
    }

    /// Applies an acknowledgement; whether the task was still held under its fence.
    pub(super) fn acknowledge(&mut self, ack: &Ack, now: Timestamp) -> rusqlite::Result<bool> {
        let (task, fence) = (ack.task.as_str(), ack.fence.0);
        let held = match &ack.then {
            Then::Keep => return self.conn.prepare_cached(KEEP)?.exists(params![task, fence]),
            Then::Done => self.conn.prepare_cached(FINISH)?.execute(params![
                task,
                fence,
                "done",
                None::<&str>,
                now.as_micros()
            ])?,
            Then::Dead { error } => {
                self.conn.prepare_cached(FINISH)?.execute(params![task, fence, "dead", error, now.as_micros()])?
            }
            Then::Again { due_at, failed } => {
                let state = if *due_at > now { "scheduled" } else { "ready" };
                let held = self.conn.prepare_cached(AGAIN)?.execute(params![
                    task,
                    fence,
                    state,
                    due_at.as_micros(),
                    failed
                ])?;
                if held == 1 && *due_at <= now {
                    self.ready += 1;
                }
                held
            }
        };
        Ok(held == 1)
    }

    fn write_head(&self, commit: &Commit, now: Timestamp) -> Result<i64, Stop> {
        let (Some((_, at)), Some(row)) = (&commit.subject, commit.rows.first()) else { return Ok(0) };
        let texts = tables::sql(row.table);
        let (version, written) = match at {
            At::New => (1, self.write_row(&texts.create, row, commit, 1, now)?),
            At::Version(believed) => {
                let Some(version) = believed.checked_add(1) else { return Err(Stop::Refused(Committed::Stale)) };
                let written = match self.update_row(&texts.update, row, commit, *believed, now)? {
                    // Stale, or the head moves within its lists.
                    0 => self.update_row(&texts.relocate, row, commit, *believed, now)?,
                    written => written,
                };
                (version, written)
            }
        };
        match written {
            0 => Err(Stop::Refused(Committed::Stale)),
            _ => Ok(version),
        }
    }

    fn write_child(&self, row: &Row, commit: &Commit, version: i64, now: Timestamp) -> Result<(), Stop> {
        let texts = tables::sql(row.table);
        if row.table == Table::Messages {
            self.write_row(&texts.insert, row, commit, version, now)?;
            return Ok(());
        }
        if self.write_row(&texts.put_child, row, commit, version, now)? == 1
            || self.write_row(&texts.relocate_child, row, commit, version, now)? == 1
        {
            return Ok(());
        }
        let reason = format!("row {} of {} belongs to another subject", row.id, row.table.name());
        Err(Stop::Rejected(rules::rejected(reason)))
    }

    fn write_row(
        &self,
        text: &str,
        row: &Row,
        commit: &Commit,
        version: i64,
        now: Timestamp,
    ) -> rusqlite::Result<usize> {
        self.conn.prepare_cached(text)?.execute(params![
            Key::of(row.table, &row.id),
            version,
            row.status,
            row.parent,
            row.ordinal,
            row.name,
            row.body,
            commit.id.as_str(),
            now.as_micros()
        ])
    }

    fn update_row(
        &self,
        text: &str,
        row: &Row,
        commit: &Commit,
        believed: i64,
        now: Timestamp,
    ) -> rusqlite::Result<usize> {
        self.conn.prepare_cached(text)?.execute(params![
            Key::of(row.table, &row.id),
            believed + 1,
            row.status,
            row.parent,
            row.ordinal,
            row.name,
            row.body,
            commit.id.as_str(),
            now.as_micros(),
            believed
        ])
    }

    fn write_events(&mut self, commit: &Commit, version: i64, now: Timestamp) -> rusqlite::Result<()> {
        let Some((subject, _)) = &commit.subject else { return Ok(()) };
        if commit.events.is_empty() {
            return Ok(());
        }
        let cause = rules::cause_text(commit);
        let mut statement = self.conn.prepare_cached(STORE_EVENT)?;
        for (place, event) in (0_i64..).zip(&commit.events) {
            statement.execute(params![
                subject.kind.as_str(),
                subject.id,
                version,
                place,
                event.kind,
                event.schema,
                now.as_micros(),
                commit.cause.actor,
                event.project,
                event.step,
                event.data,
                (place == 0).then_some(&cause)
            ])?;
        }
        self.events = true;
        Ok(())
    }

    fn withdraw(&mut self, withdraw: &Withdraw, begun: &str, commit: &Commit, now: Timestamp) -> rusqlite::Result<()> {
        let kinds = (!withdraw.kinds.is_empty())
            .then(|| withdraw.kinds.iter().fold(",".to_owned(), |kinds, kind| kinds + kind.as_str() + ","));
        let changed = self.conn.prepare_cached(WITHDRAW)?.execute(params![
            commit.ack.as_ref().map(|ack| ack.task.as_str()),
            withdraw.subject.kind.as_str(),
            withdraw.subject.id,
            now.as_micros(),
            kinds,
            begun
        ])?;
        // Some of them may be due now; one look too many harms nobody.
        self.ready += u32::from(changed > 0);
        Ok(())
    }

    fn store_task(&mut self, task: &NewTask, now: Timestamp) -> rusqlite::Result<()> {
        let due_at = task.due_at.unwrap_or(now);
        let is_ready = due_at <= now;
        self.conn.prepare_cached(STORE_TASK)?.execute(params![
            task.id.as_str(),
            task.kind.as_str(),
            task.kind.lane().as_str(),
            task.subject.kind.as_str(),
            task.subject.id,
            task.project,
            task.engine,
            task.payload,
            task.priority,
            if is_ready { "ready" } else { "scheduled" },
            due_at.as_micros(),
            task.max_failures,
            now.as_micros()
        ])?;
        self.ready += u32::from(is_ready);
        Ok(())
    }

    /// Takes what a guard asks for; `Some` says what stands against it.
    fn take(&self, guard: &Guard) -> rusqlite::Result<Option<String>> {
        match guard {
            Guard::Unique { key, holder } => {
                let taken = self
                    .conn
                    .prepare_cached("INSERT INTO unique_keys (key, holder) VALUES (?1, ?2) ON CONFLICT DO NOTHING")?
                    .execute([key, holder])?;
                if taken == 1 {
                    return Ok(None);
                }
                self.conn
                    .prepare_cached("SELECT holder FROM unique_keys WHERE key = ?1")?
                    .query_row([key], |row| row.get(0))
                    .optional()
            }
            Guard::Hold { lock, holder, slots } => self.hold(lock, holder, *slots),
            Guard::Reserve { budget, holder, amount } => self.reserve(budget, holder, *amount),
        }
    }
}
