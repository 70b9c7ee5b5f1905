//! Retention: one slice at a time, so that nothing long is ever locked.

use crate::{StoreError, postgres::PostgresStore, queue::Retention};

/// The most rows that one call deletes.
const SLICE: u32 = 500;

const TASKS: &str = "DELETE FROM tasks WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM tasks WHERE finished_at < $1 ORDER BY finished_at LIMIT $2 FOR UPDATE SKIP LOCKED))";

const IDEMPOTENCY: &str = "DELETE FROM dedup WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM dedup WHERE scope >= 'http:' AND scope < 'http;' AND at < $1
    ORDER BY at LIMIT $2 FOR UPDATE SKIP LOCKED))";

const DEDUP: &str = "DELETE FROM dedup WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM dedup WHERE at < $1 AND NOT (scope >= 'http:' AND scope < 'http;')
    LIMIT $2 FOR UPDATE SKIP LOCKED))";

impl PostgresStore {
    pub(crate) async fn prune(&self, retention: &Retention) -> Result<u64, StoreError> {
        let slice = u64::from(retention.slice.min(SLICE));
        let client = self.client().await?;
        let mut gone = 0;
        for (text, before) in [
            (TASKS, retention.tasks_before),
            (IDEMPOTENCY, retention.idempotency_before),
            (DEDUP, retention.dedup_before),
        ] {
            let left = i64::try_from(slice.saturating_sub(gone)).unwrap_or(0);
            if left == 0 {
                break;
            }
            let statement = client.prepare_cached(text).await.map_err(|error| super::fault::of(&error))?;
            let rows = client
                .execute(&statement, &[&before.as_micros(), &left])
                .await
                .map_err(|error| super::fault::of(&error))?;
            gone += rows;
        }
        Ok(gone)
    }
}
