//! How a commit ended: told by the statement, found out when it was not applied, or found out when nobody heard.

use domain::{
    commit::{At, Commit, Committed, StoredAnswer},
    time::Timestamp,
};
use tokio_postgres::{Client, types::ToSql};

use crate::{
    postgres::{
        batch::Answer,
        fault::{self, Fault},
    },
    sql,
};

/// The answer for a commit that was applied.
pub(super) fn applied(commit: &Commit) -> Committed {
    let version = match commit.subject {
        None => 0,
        Some((_, At::New)) => 1,
        Some((_, At::Version(version))) => version.saturating_add(1),
    };
    Committed::Applied { version }
}

/// Why a commit was not applied: a repeat, fenced, or overtaken, in this order.
pub(super) async fn refusal(client: &Client, commit: &Commit) -> Answer {
    if let Some(stored) = find_dedup(client, commit).await.map_err(|error| Fault::of(&error))? {
        return Ok(Committed::Duplicate(stored.1));
    }
    if let Some(ack) = &commit.ack {
        let held = one(
            client,
            "SELECT 1 FROM tasks WHERE id = $1 AND fence = $2 AND state = 'leased'",
            &[&ack.task.as_str(), &ack.fence.0],
        )
        .await
        .map_err(|error| Fault::of(&error))?;
        if held.is_none() {
            return Ok(Committed::Fenced);
        }
    }
    Ok(Committed::Stale)
}

/// The commit that took the dedup key, and what it answered.
async fn find_dedup(client: &Client, commit: &Commit) -> Result<Option<(String, StoredAnswer)>, tokio_postgres::Error> {
    let Some(dedup) = &commit.cause.dedup else { return Ok(None) };
    let row = one(
        client,
        "SELECT request_hash, answer, at, commit_id FROM dedup WHERE scope = $1 AND key = $2",
        &[&dedup.scope, &dedup.key],
    )
    .await?;
    Ok(row.map(|row| {
        let stored =
            StoredAnswer { request_hash: row.get(0), answer: row.get(1), at: Timestamp::from_micros(row.get(2)) };
        (row.get(3), stored)
    }))
}

/// Looks for a commit whose outcome nobody heard. `Some(true)`: applied. `Some(false)`: not applied so far, and a repeat
/// would be refused if it still came through. `None`: nothing durable could tell a repeat from the first time.
pub(super) async fn find(client: &Client, commit: &Commit) -> Result<Option<bool>, crate::StoreError> {
    let failed = |error: tokio_postgres::Error| fault::of(&error);
    if let Some((found, _)) = find_dedup(client, commit).await.map_err(failed)?
        && found == commit.id.as_str()
    {
        return Ok(Some(true));
    }
    if let Some((subject, at)) = &commit.subject {
        let version = match at {
            At::New => 1,
            At::Version(version) => version.saturating_add(1),
        };
        let row = one(client, sql::FIND_CAUSE.postgres, &[&subject.kind.as_str(), &subject.id, &version]).await;
        let cause: Option<String> = row.map_err(failed)?.and_then(|row| row.get(0));
        let is_ours = |cause: &str| {
            serde_json::from_str::<serde_json::Value>(cause).is_ok_and(|cause| cause["commit"] == commit.id.as_str())
        };
        if cause.is_some_and(|cause| is_ours(&cause)) {
            return Ok(Some(true));
        }
        // A commit without events is known by its head row, until the next one.
        let table = subject.kind.head();
        let key = if table.has_integer_ids() { "($1::text)::bigint" } else { "$1" };
        let text = format!("SELECT commit_id, version FROM {} WHERE id = {key}", table.name());
        let head = one(client, &text, &[&subject.id]).await.map_err(failed)?;
        let Some(head) = head else { return Ok(Some(false)) };
        if head.get::<_, &str>(0) == commit.id.as_str() {
            return Ok(Some(true));
        }
        let was_passed = head.get::<_, i64>(1) > version;
        return Ok(if was_passed && commit.events.is_empty() { None } else { Some(false) });
    }
    if let Some(task) = commit.tasks.first() {
        // Ids are drawn once: whoever finds the task finds the commit.
        let row = one(client, "SELECT 1 FROM task_rows WHERE id = $1", &[&task.id.as_str()]).await.map_err(failed)?;
        return Ok(Some(row.is_some()));
    }
    Ok(commit.cause.dedup.as_ref().map(|_| false))
}

async fn one(
    client: &Client,
    text: &str,
    params: &[&(dyn ToSql + Sync)],
) -> Result<Option<tokio_postgres::Row>, tokio_postgres::Error> {
    client.query_opt(text, params).await
}
