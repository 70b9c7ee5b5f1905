//! The controls: a queue over the same tables, whose claims take no lock or whose ends ask for no fence.

mod postgres;

use std::sync::Mutex;

use anyhow::{Context as _, Result};
use domain::{
    commit::{Ack, Subject, SubjectKind, Then},
    ids::{Fence, TaskId},
    task::{Task, TaskKind, TaskState},
    time::Timestamp,
};
use rusqlite::Connection;
use store::{Claim, StoreError, Worked};

use self::postgres::Postgres;
use super::register::fence_of;
use crate::{fault::Setting, ledgers::Ledgers};

/// Connections that claimers share.
const CONNECTIONS: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    /// What is ready is read and then taken, without a lock in between and without looking again.
    NoLock,
    /// Whoever names a task may finish it.
    NoFence,
}

#[derive(Debug)]
pub(super) struct Flawed {
    flaw: Flaw,
    ways: Vec<Way>,
}

enum Way {
    Sqlite(Mutex<Connection>),
    Postgres(Postgres),
}

impl std::fmt::Debug for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Way")
    }
}

const READY: &str = "SELECT id FROM tasks WHERE state = 'ready' ORDER BY priority, due_at, id LIMIT ?1";
/// Draws a fence on SQLite, as the ledger counts them.
const DRAW: &str = "UPDATE counters SET value = value + 1 WHERE name = 'fences' RETURNING value";

impl Flawed {
    pub(super) async fn open(flaw: Flaw, ledgers: &Ledgers, setting: &Setting) -> Result<Self> {
        let mut ways = Vec::new();
        for _ in 0..CONNECTIONS {
            ways.push(match ledgers.database_url() {
                Some(url) => Way::Postgres(Postgres::connect(&url, flaw).await?),
                None => {
                    let conn = Connection::open(setting.dir.join("pilothouse.db"))?;
                    conn.busy_timeout(std::time::Duration::from_secs(10))?;
                    // What a control loses to a power failure proves nothing; it need not wait for the disk.
                    conn.execute_batch("PRAGMA synchronous = OFF")?;
                    Way::Sqlite(Mutex::new(conn))
                }
            });
        }
        Ok(Self { flaw, ways })
    }

    /// As the store's own function.
    pub(super) async fn work(&self, done: Vec<Ack>, claim: Claim) -> Result<Worked, StoreError> {
        let place = claim.incarnation.bytes().map(usize::from).sum::<usize>() + done.len() + claim.limit as usize;
        let worked = match &self.ways[place % self.ways.len()] {
            Way::Sqlite(conn) => host::task::block_here(|| self.work_sqlite(conn, done, &claim)),
            Way::Postgres(postgres) => postgres.work(done, &claim).await,
        };
        worked.map_err(|error| StoreError::Unavailable { reason: format!("{error:#}") })
    }

    fn ends(&self) -> &'static str {
        match self.flaw {
            Flaw::NoLock => "id = ?1 AND fence = ?2",
            // The fence is there, and is nothing that anybody looks at.
            Flaw::NoFence => "id = ?1 AND ?2 > 0",
        }
    }

    /// What the rows become; `?3` is the state.
    fn end(&self) -> String {
        format!(
            "UPDATE tasks SET state = ?3, finished_at = CASE WHEN ?3 = 'done' THEN due_at END,
                    fence = NULL, incarnation = NULL, lease_until = NULL
             WHERE {} AND state = 'leased'",
            self.ends()
        )
    }

    fn lease(&self) -> String {
        let looks_again = if self.flaw == Flaw::NoLock { "state IN ('ready', 'leased')" } else { "state = 'ready'" };
        format!(
            "UPDATE tasks SET state = 'leased', fence = ?4, incarnation = ?2, lease_until = ?3
             WHERE id = ?1 AND {looks_again}"
        )
    }

    /// Takes a task over from its holder, on SQLite; PostgreSQL's reaper asks for nothing that is flawed here.
    pub(super) fn adopt(&self, held: &Task, by: &str) -> Result<Option<Task>> {
        let (Some(fence), Some(Way::Sqlite(conn))) = (fence_of(held), self.ways.first()) else { return Ok(None) };
        let conn = conn.lock().ok().context("a connection")?;
        let drawn: i64 = conn.query_row(DRAW, (), |row| row.get(0))?;
        let adopt = "UPDATE tasks SET fence = ?3, incarnation = ?4 WHERE id = ?1 AND fence = ?2 AND state = 'leased'";
        let taken = conn.execute(adopt, (held.id.as_str(), fence.0, drawn, by))? > 0;
        let until = held.due_at;
        let state = TaskState::Leased { fence: Fence(drawn), incarnation: by.to_owned(), until };
        Ok(taken.then(|| Task { state, ..held.clone() }))
    }

    fn work_sqlite(&self, conn: &Mutex<Connection>, done: Vec<Ack>, claim: &Claim) -> Result<Worked> {
        let conn = conn.lock().ok().context("a connection")?;
        let mut fenced = Vec::new();
        for ack in done {
            let state = state_after(&ack.then);
            if conn.execute(&self.end(), (ack.task.as_str(), ack.fence.0, state))? == 0 {
                fenced.push(ack);
            }
        }
        let ready: Vec<String> = {
            let mut statement = conn.prepare_cached(READY)?;
            statement.query_map([claim.limit], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?
        };
        let until = claim.now.after(claim.lease);
        let mut tasks = Vec::new();
        for id in ready {
            let drawn: i64 = conn.query_row(DRAW, (), |row| row.get(0))?;
            let leased = conn.execute(&self.lease(), (&id, &claim.incarnation, until.as_micros(), drawn))?;
            if leased > 0 {
                tasks.push(task(id, drawn, claim, until));
            }
        }
        Ok(Worked { fenced, tasks })
    }
}

fn state_after(then: &Then) -> &'static str {
    match then {
        Then::Again { .. } => "ready",
        Then::Done | Then::Dead { .. } | Then::Keep => "done",
    }
}

fn task(id: String, fence: i64, claim: &Claim, until: Timestamp) -> Task {
    Task {
        id: TaskId(id),
        kind: TaskKind::Noop,
        subject: Subject::new(SubjectKind::Run, "flawed"),
        payload: "{}".to_owned(),
        project: None,
        engine: None,
        priority: 0,
        due_at: claim.now,
        state: TaskState::Leased { fence: Fence(fence), incarnation: claim.incarnation.clone(), until },
        stop: false,
        failures: 0,
        max_failures: 3,
        crashes: 0,
        created_at: claim.now,
        error: None,
    }
}
