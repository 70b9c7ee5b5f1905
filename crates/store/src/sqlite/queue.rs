//! The queue on SQLite: claim, heartbeat, reap, adopt, promote, prune.
//!
//! All of it runs on the writer's thread, so nothing here races with anything: one claim after another sees the ready
//! rows. The lock file proves that every other incarnation is dead, so their leases end when somebody asks.

use std::{collections::BTreeMap, sync::LazyLock, time::Duration};

use domain::{
    commit::Ack,
    ids::{Fence, TaskId},
    task::{Lane, Task},
    time::Timestamp,
};
use rusqlite::{OptionalExtension, Row, params};

use crate::{
    StoreError,
    fairness::{self, Candidate, Leased},
    queue::{Beat, Claim, Heartbeat, Reaped, Retention, Worked},
    rules,
    sqlite::{
        SqliteStore,
        writer::{Done, Ledger},
    },
    task_row::{TASK_COLUMNS, TaskRow},
};

/// The most rows that one call changes: a longer one would hold every commit up.
const SLICE: u32 = 500;
/// How far from its oldest end `dedup` is searched in one slice; its rows lie in the order of their age.
const SEARCH: u32 = 20_000;

static READY_FAST: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT {TASK_COLUMNS} FROM tasks WHERE state = 'ready' AND lane = 'fast'
         ORDER BY priority, due_at, id LIMIT ?1"
    )
});

/// Returns nothing: for that, SQLite makes a table each time. The rows were read just before, on the same thread.
const LEASE: &str = "UPDATE tasks SET state = 'leased', fence = ?2, incarnation = ?3, lease_until = ?4
    WHERE id = ?1 AND state = 'ready'";

static FIND: LazyLock<String> = LazyLock::new(|| format!("SELECT {TASK_COLUMNS} FROM tasks WHERE id = ?1"));

const READY_ENGINES: &str = "SELECT project, engine FROM tasks WHERE state = 'ready' AND lane = 'engine'
    GROUP BY project, engine";

const READY_OF_ENGINE: &str = "SELECT id, priority, due_at FROM tasks
    WHERE state = 'ready' AND lane = 'engine' AND project IS ?2 AND engine IS ?1
    ORDER BY priority, due_at, id LIMIT ?3";

const LEASED_ENGINES: &str = "SELECT project, engine, count(*) FROM tasks WHERE state = 'leased' AND lane = 'engine'
    GROUP BY project, engine";

const REAP: &str = "UPDATE tasks SET state = 'ready', crashes = min(crashes + 1, 65535), due_at = ?1,
        fence = NULL, incarnation = NULL, lease_until = NULL
    WHERE id IN (SELECT id FROM tasks WHERE state = 'leased' AND incarnation <> ?2 ORDER BY id LIMIT ?3)
    RETURNING id";

const ADOPT: &str = "UPDATE tasks SET fence = ?3, incarnation = ?4, lease_until = ?5
    WHERE id = ?1 AND fence = ?2 AND state = 'leased'
    RETURNING id, kind, subject_kind, subject, project, engine, payload, priority, state, due_at, fence, incarnation,
              lease_until, stop, failures, max_failures, crashes, error, created_at, finished_at";

const PROMOTE: &str = "UPDATE tasks SET state = 'ready' WHERE id IN
    (SELECT id FROM tasks WHERE state = 'scheduled' AND due_at <= ?1 ORDER BY due_at, id LIMIT ?2)";

const PRUNE_TASKS: &str = "DELETE FROM tasks WHERE id IN
    (SELECT id FROM tasks WHERE finished_at < ?1 ORDER BY finished_at LIMIT ?2)";

const PRUNE_HTTP: &str = "DELETE FROM dedup WHERE rowid IN
    (SELECT rowid FROM dedup WHERE scope >= 'http:' AND scope < 'http;' AND at < ?1 ORDER BY at LIMIT ?2)";

const PRUNE_DEDUP: &str = "DELETE FROM dedup WHERE rowid IN
    (SELECT rowid FROM dedup WHERE rowid < (SELECT min(rowid) FROM dedup) + ?3 AND at < ?1
       AND NOT (scope >= 'http:' AND scope < 'http;') LIMIT ?2)";

impl SqliteStore {
    pub async fn work(&self, done: Vec<Ack>, claim: Claim) -> Result<Worked, StoreError> {
        done.iter().try_for_each(|ack| rules::validate_ack(&ack.then))?;
        let (fenced, rows) = self.inner.writer.call(move |ledger| ledger.work(&done, &claim)).await?;
        let tasks = rows.into_iter().map(Task::try_from).collect::<Result<_, _>>()?;
        Ok(Worked { fenced, tasks })
    }

    pub async fn heartbeat(&self, beats: &[Beat], lease: Duration, now: Timestamp) -> Result<Heartbeat, StoreError> {
        let beats = beats.to_vec();
        self.inner.writer.call(move |ledger| ledger.heartbeat(&beats, lease, now)).await
    }

    pub async fn reap(&self, incarnation: &str, limit: u32) -> Result<Reaped, StoreError> {
        let incarnation = incarnation.to_owned();
        self.inner
            .writer
            .call(move |ledger| {
                let mut statement = ledger.conn.prepare_cached(REAP)?;
                let mut tasks = statement
                    .query_map(params![host::clock::now_micros(), incarnation, limit.min(SLICE)], |row| {
                        Ok(TaskId(row.get(0)?))
                    })?
                    .collect::<rusqlite::Result<Vec<_>>>()?;
                drop(statement);
                tasks.sort();
                ledger.ready += u32::try_from(tasks.len()).unwrap_or(u32::MAX);
                Ok(Done::keep(Reaped { tasks }))
            })
            .await
    }

    pub async fn adopt(
        &self,
        task: &TaskId,
        old: Fence,
        incarnation: &str,
        lease: Duration,
    ) -> Result<Option<Task>, StoreError> {
        let (task, incarnation) = (task.clone(), incarnation.to_owned());
        let adopted = self
            .inner
            .writer
            .call(move |ledger| {
                let until = Timestamp::from_micros(host::clock::now_micros()).after(lease);
                let fence = ledger.fences + 1;
                let adopted = ledger
                    .conn
                    .prepare_cached(ADOPT)?
                    .query_row(params![task.as_str(), old.0, fence, incarnation, until.as_micros()], read_task)
                    .optional()?;
                if adopted.is_some() {
                    ledger.give_fences(1)?;
                }
                Ok(Done::keep(adopted))
            })
            .await?;
        adopted.map(Task::try_from).transpose()
    }

    pub async fn promote(&self, now: Timestamp, limit: u32) -> Result<(u32, Option<Timestamp>), StoreError> {
        self.inner
            .writer
            .call(move |ledger| {
                let promoted =
                    ledger.conn.prepare_cached(PROMOTE)?.execute(params![now.as_micros(), limit.min(SLICE)])?;
                let promoted = u32::try_from(promoted).unwrap_or(u32::MAX);
                let next: Option<i64> = ledger
                    .conn
                    .prepare_cached("SELECT min(due_at) FROM tasks WHERE state = 'scheduled'")?
                    .query_row((), |row| row.get(0))?;
                ledger.ready += promoted;
                Ok(Done::keep((promoted, next.map(Timestamp::from_micros))))
            })
            .await
    }

    pub async fn prune(&self, retention: &Retention) -> Result<u64, StoreError> {
        let retention = retention.clone();
        self.inner.writer.call(move |ledger| ledger.prune(&retention)).await
    }
}

type Claimed = (Vec<Ack>, Vec<TaskRow>);

impl Ledger {
    fn work(&mut self, done: &[Ack], claim: &Claim) -> rusqlite::Result<Done<Claimed>> {
        let limit = claim.limit.min(SLICE);
        let (fenced, rows) = match claim.lane {
            // What is put back here is not taken again by the same call, so the claim comes first.
            Lane::Fast => {
                let rows = self.claim_fast(claim, limit)?;
                (self.acknowledge_all(done, claim.now)?, rows)
            }
            // What is given back here frees a place under the caps, so the claim comes last.
            Lane::Engine => (self.acknowledge_all(done, claim.now)?, self.claim_engines(claim, limit)?),
        };
        Ok(Done::keep((fenced, rows)))
    }

    /// The acknowledgements that did not count.
    fn acknowledge_all(&mut self, done: &[Ack], now: Timestamp) -> rusqlite::Result<Vec<Ack>> {
        let mut fenced = Vec::new();
        for ack in done {
            if !self.acknowledge(ack, now)? {
                fenced.push(ack.clone());
            }
        }
        Ok(fenced)
    }

    fn claim_fast(&mut self, claim: &Claim, limit: u32) -> rusqlite::Result<Vec<TaskRow>> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        let ready =
            self.conn.prepare_cached(&READY_FAST)?.query_map([limit], read_task)?.collect::<rusqlite::Result<_>>()?;
        self.lease(ready, claim)
    }

    fn claim_engines(&mut self, claim: &Claim, limit: u32) -> rusqlite::Result<Vec<TaskRow>> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        let groups: Vec<(Option<i64>, Option<String>)> = self
            .conn
            .prepare_cached(READY_ENGINES)?
            .query_map((), |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<rusqlite::Result<_>>()?;
        if groups.is_empty() {
            return Ok(Vec::new());
        }
        let mut candidates = Vec::new();
        let mut turns = BTreeMap::new();
        for (project, engine) in groups {
            let mut statement = self.conn.prepare_cached(READY_OF_ENGINE)?;
            let rows = statement.query_map(params![engine, project, limit], |row| {
                Ok(Candidate {
                    id: row.get(0)?,
                    project,
                    engine: engine.clone(),
                    priority: row.get(1)?,
                    due_at: Timestamp::from_micros(row.get(2)?),
                })
            })?;
            for row in rows {
                candidates.push(row?);
            }
            let turn: Option<i64> = self
                .conn
                .prepare_cached("SELECT fence FROM turns WHERE project = ?1")?
                .query_row([project.unwrap_or(0)], |row| row.get(0))
                .optional()?;
            turns.insert(project.unwrap_or(0), turn.unwrap_or(0));
        }
        let counts = self
            .conn
            .prepare_cached(LEASED_ENGINES)?
            .query_map((), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
            .collect::<rusqlite::Result<_>>()?;
        let chosen = fairness::choose(candidates, &Leased { counts, turns }, &claim.caps, limit);
        let mut statement = self.conn.prepare_cached(&FIND)?;
        let ready = chosen.iter().map(|task| statement.query_row([&task.id], read_task));
        let ready = ready.collect::<rusqlite::Result<_>>()?;
        drop(statement);
        let rows = self.lease(ready, claim)?;
        for row in &rows {
            self.conn
                .prepare_cached(
                    "INSERT INTO turns (project, fence) VALUES (?1, ?2)
                     ON CONFLICT (project) DO UPDATE SET fence = excluded.fence",
                )?
                .execute(params![row.project.unwrap_or(0), row.fence])?;
        }
        Ok(rows)
    }

    /// Leases tasks that were just read as ready, each under a fence of its own.
    fn lease(&mut self, ready: Vec<TaskRow>, claim: &Claim) -> rusqlite::Result<Vec<TaskRow>> {
        let until = claim.now.after(claim.lease).as_micros();
        let mut statement = self.conn.prepare_cached(LEASE)?;
        let mut leased = Vec::with_capacity(ready.len());
        for (row, fence) in ready.into_iter().zip(self.fences + 1..) {
            if statement.execute(params![row.id, fence, claim.incarnation, until])? != 1 {
                return Err(rusqlite::Error::QueryReturnedNoRows);
            }
            leased.push(TaskRow {
                state: "leased".to_owned(),
                fence: Some(fence),
                incarnation: Some(claim.incarnation.clone()),
                lease_until: Some(until),
                ..row
            });
        }
        drop(statement);
        if !leased.is_empty() {
            host::failpoint!("sqlite.claim.leased");
            self.give_fences(i64::try_from(leased.len()).unwrap_or(i64::MAX))?;
        }
        Ok(leased)
    }

    /// Counts fences as given, in memory even when the transaction is rolled back: no fence is given twice.
    fn give_fences(&mut self, count: i64) -> rusqlite::Result<()> {
        self.fences += count;
        self.conn
            .prepare_cached("UPDATE counters SET value = ?1 WHERE name = 'fences'")?
            .execute([self.fences])
            .map(|_| ())
    }

    fn heartbeat(&self, beats: &[Beat], lease: Duration, now: Timestamp) -> rusqlite::Result<Done<Heartbeat>> {
        let mut statement = self.conn.prepare_cached(
            "UPDATE tasks SET lease_until = ?3 WHERE id = ?2 AND fence = ?1 AND state = 'leased' RETURNING stop",
        )?;
        let until = now.after(lease).as_micros();
        let mut heard = Heartbeat { fenced: Vec::new(), stop: Vec::new(), skipped: Vec::new(), now };
        for beat in beats {
            let stop: Option<bool> =
                statement.query_row(params![beat.fence.0, beat.task.as_str(), until], |row| row.get(0)).optional()?;
            match stop {
                None => heard.fenced.push(beat.task.clone()),
                Some(true) => heard.stop.push(beat.task.clone()),
                Some(false) => {}
            }
        }
        Ok(Done::keep(heard))
    }

    fn prune(&self, retention: &Retention) -> rusqlite::Result<Done<u64>> {
        let slice = u64::from(retention.slice.min(SLICE));
        let mut gone: u64 = 0;
        let left = |gone: u64| i64::try_from(slice.saturating_sub(gone)).unwrap_or(0);
        for (text, before) in [(PRUNE_TASKS, retention.tasks_before), (PRUNE_HTTP, retention.idempotency_before)] {
            let rows = self.conn.prepare_cached(text)?.execute(params![before.as_micros(), left(gone)])?;
            gone += u64::try_from(rows).unwrap_or(0);
        }
        let rows = self.conn.prepare_cached(PRUNE_DEDUP)?.execute(params![
            retention.dedup_before.as_micros(),
            left(gone),
            SEARCH
        ])?;
        gone += u64::try_from(rows).unwrap_or(0);
        Ok(Done::keep(gone))
    }
}

/// The columns in the order of [`crate::task_row::TASK_COLUMNS`].
pub(super) fn read_task(row: &Row<'_>) -> rusqlite::Result<TaskRow> {
    Ok(TaskRow {
        id: row.get(0)?,
        kind: row.get(1)?,
        subject_kind: row.get(2)?,
        subject: row.get(3)?,
        project: row.get(4)?,
        engine: row.get(5)?,
        payload: row.get(6)?,
        priority: row.get(7)?,
        state: row.get(8)?,
        due_at: row.get(9)?,
        fence: row.get(10)?,
        incarnation: row.get(11)?,
        lease_until: row.get(12)?,
        stop: row.get(13)?,
        failures: row.get(14)?,
        max_failures: row.get(15)?,
        crashes: row.get(16)?,
        error: row.get(17)?,
        created_at: row.get(18)?,
        finished_at: row.get(19)?,
    })
}
