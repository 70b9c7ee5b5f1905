//! Retention: one slice at a time, so that nothing long is ever locked.

use std::sync::{Mutex, PoisonError};

use domain::time::Timestamp;

use crate::{
    StoreError,
    postgres::{PostgresStore, fault},
    queue::Retention,
};

/// The most rows that one call deletes.
const SLICE: u32 = 500;

/// How many tasks one statement looks through, and how many such looks one call takes.
const WINDOW: i64 = 2_000;
const LOOKS: u32 = 10;

/// Tasks lie in the order of their ids, which is that of their age, and no index knows when they ended: whoever wrote it
/// would pay for every task. $1 before which they ended, $2 how many may go, $3 behind which id, $4 how many are looked at.
const TASKS: &str = "WITH seen AS MATERIALIZED (
        SELECT id, created_at, finished_at FROM task_rows WHERE id > $3 ORDER BY id LIMIT $4),
    old AS MATERIALIZED (SELECT id FROM seen WHERE finished_at < $1 ORDER BY id LIMIT $2),
    gone AS (DELETE FROM task_rows WHERE id = ANY(ARRAY(SELECT id FROM old)) RETURNING id)
    SELECT (SELECT count(*) FROM gone), (SELECT max(id) FROM old), (SELECT max(id) FROM seen),
           (SELECT count(*) FROM seen) < $4 OR (SELECT max(created_at) FROM seen) >= $1";

/// The id of the last task that was looked at, in a round over all that are old enough.
#[derive(Debug, Default)]
pub(super) struct Pruned(Mutex<String>);

const IDEMPOTENCY: &str = "DELETE FROM dedup WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM dedup WHERE scope >= 'http:' AND scope < 'http;' AND at < $1
    ORDER BY at LIMIT $2 FOR UPDATE SKIP LOCKED))";

const DEDUP: &str = "DELETE FROM dedup WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM dedup WHERE at < $1 AND NOT (scope >= 'http:' AND scope < 'http;')
    LIMIT $2 FOR UPDATE SKIP LOCKED))";

impl PostgresStore {
    pub(crate) async fn prune(&self, retention: &Retention) -> Result<u64, StoreError> {
        let slice = u64::from(retention.slice.min(SLICE));
        let mut gone = self.prune_tasks(retention.tasks_before, slice).await?;
        let client = self.client().await?;
        for (text, before) in [(IDEMPOTENCY, retention.idempotency_before), (DEDUP, retention.dedup_before)] {
            let left = i64::try_from(slice.saturating_sub(gone)).unwrap_or(0);
            if left == 0 {
                break;
            }
            let statement = client.prepare_cached(text).await.map_err(|error| fault::of(&error))?;
            gone +=
                client.execute(&statement, &[&before.as_micros(), &left]).await.map_err(|error| fault::of(&error))?;
        }
        Ok(gone)
    }

    /// Looks on from where the last call ended, until something goes, the tasks that are old enough end, or it has looked
    /// long enough.
    async fn prune_tasks(&self, before: Timestamp, slice: u64) -> Result<u64, StoreError> {
        let wanted = i64::try_from(slice).unwrap_or(i64::MAX);
        let place = || self.inner.pruned.0.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..LOOKS {
            let behind = place().clone();
            let rows = self.read(TASKS, &[&before.as_micros(), &wanted, &behind, &WINDOW]).await?;
            let Some(row) = rows.first() else { break };
            let gone: i64 = row.get(0);
            let (is_full, is_end) = (gone >= wanted, row.get::<_, bool>(3));
            let next: Option<String> = if is_full { row.get(1) } else { row.get(2) };
            *place() = match is_end && !is_full {
                true => String::new(),
                false => next.unwrap_or_default(),
            };
            if gone > 0 || is_end {
                return Ok(u64::try_from(gone).unwrap_or(0));
            }
        }
        Ok(0)
    }
}
