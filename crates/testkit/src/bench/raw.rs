//! The limit on SQLite: the same statements on one thread, without callers, queue or store around them.

use std::{path::Path, time::Duration};

use domain::commit::Commit;
use rusqlite::{Connection, params};

use crate::bench::{
    load::{Measured, median_ms, per_second},
    operation,
};

const DEDUP: &str =
    "INSERT INTO dedup (scope, key, request_hash, answer, commit_id, at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
const RUN: &str = "UPDATE runs SET version = ?3, status = ?4, body = ?5, commit_id = ?6, updated_at = ?7
    WHERE id = ?1 AND version = ?2";
const EVENT: &str = "INSERT INTO events
    (subject_kind, subject, version, place, kind, schema, at, actor, project, step, data, cause)
    VALUES ('run', ?1, ?2, ?3, ?4, 1, ?5, ?6, NULL, NULL, ?7, ?8)";
const TASK: &str = "INSERT INTO tasks
    (id, kind, lane, subject_kind, subject, payload, priority, state, due_at, max_failures, created_at)
    VALUES (?1, 'noop', 'fast', 'message', ?2, ?3, 0, 'ready', ?4, 3, ?4)";
const MESSAGE: &str = "INSERT INTO messages
    (id, version, status, parent, ordinal, name, body, commit_id, created_at, updated_at)
    VALUES (?1, ?2, 'queued', ?3, ?4, ?5, ?6, ?7, ?8, ?8)";
const RUN_NEW: &str = "INSERT INTO runs (id, version, status, ordinal, body, commit_id, created_at, updated_at)
    VALUES (?1, 1, 'AwaitingApproval', 1, '{}', 'raw', 0, 0)";

/// Runs a loop of operations on a migrated file that nobody else has open: so many in each transaction, each in a
/// savepoint when there are several.
pub fn run(path: &Path, per_transaction: usize, span: Duration) -> rusqlite::Result<Measured> {
    let conn = Connection::open(path)?;
    conn.set_prepared_statement_cache_capacity(64);
    conn.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA cache_size = -65536; PRAGMA temp_store = MEMORY;
         PRAGMA wal_autocheckpoint = 4000; PRAGMA foreign_keys = ON; PRAGMA cell_size_check = ON;",
    )?;
    let runs: Vec<String> = (0..256).map(|_| operation::draw_run()).collect();
    conn.execute_batch("BEGIN IMMEDIATE")?;
    for run in &runs {
        conn.prepare_cached(RUN_NEW)?.execute([run])?;
    }
    conn.execute_batch("COMMIT")?;
    let start = host::clock::monotonic();
    let (from, until) = (start + span / 5, start + span + span / 5);
    let mut latencies = Vec::new();
    let (mut version, mut next) = (1, 0);
    loop {
        let begun = host::clock::monotonic();
        conn.prepare_cached("BEGIN IMMEDIATE")?.execute(())?;
        for _ in 0..per_transaction {
            let commit = operation::decide(&runs[next], version);
            if per_transaction > 1 {
                conn.prepare_cached("SAVEPOINT one")?.execute(())?;
            }
            apply(&conn, &commit, version)?;
            if per_transaction > 1 {
                conn.prepare_cached("RELEASE one")?.execute(())?;
            }
            next += 1;
            if next == runs.len() {
                (next, version) = (0, version + 1);
            }
        }
        conn.prepare_cached("COMMIT")?.execute(())?;
        let ended = host::clock::monotonic();
        if ended >= until {
            break;
        }
        if ended >= from {
            latencies.extend(std::iter::repeat_n(ended - begun, per_transaction));
        }
    }
    Ok(Measured { per_second: per_second(latencies.len(), span), p50_ms: median_ms(&mut latencies) })
}

fn apply(conn: &Connection, commit: &Commit, version: i64) -> rusqlite::Result<()> {
    let (Some((subject, _)), Some(dedup)) = (&commit.subject, &commit.cause.dedup) else { return Ok(()) };
    let (id, now) = (commit.id.as_str(), commit.cause.now.as_micros());
    conn.prepare_cached(DEDUP)?.execute(params![dedup.scope, dedup.key, dedup.request_hash, dedup.answer, id, now])?;
    let (run, message) = (&commit.rows[0], &commit.rows[1]);
    let changed =
        conn.prepare_cached(RUN)?.execute(params![subject.id, version, version + 1, run.status, run.body, id, now])?;
    if changed != 1 {
        return Err(rusqlite::Error::StatementChangedRows(changed));
    }
    conn.prepare_cached(MESSAGE)?.execute(params![
        message.id,
        version + 1,
        message.parent,
        message.ordinal,
        message.name,
        message.body,
        id,
        now
    ])?;
    for (place, event) in (0_i64..).zip(&commit.events) {
        let cause = (place == 0).then(|| {
            format!("{{\"commit\":\"{id}\",\"command\":{},\"ids\":{}}}", commit.cause.command, commit.cause.ids)
        });
        conn.prepare_cached(EVENT)?.execute(params![
            subject.id,
            version + 1,
            place,
            event.kind,
            now,
            commit.cause.actor,
            event.data,
            cause
        ])?;
    }
    for task in &commit.tasks {
        conn.prepare_cached(TASK)?.execute(params![task.id.as_str(), task.subject.id, task.payload, now])?;
    }
    Ok(())
}
