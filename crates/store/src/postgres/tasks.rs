//! Tasks as they are read: by id, in pages, counted.

use domain::{
    ids::TaskId,
    task::{Task, TaskKind},
    time::Timestamp,
};
use tokio_postgres::Row;

use crate::{
    StoreError,
    postgres::{PostgresStore, fault},
    queue::{QueueCounts, TaskQuery},
    rules,
    task_row::{TASK_COLUMNS, TaskRow},
};

const COUNT_TASKS: &str = "
    WITH counted (state, n) AS (
        SELECT state::text, count(*) FROM task_rows GROUP BY state
        UNION ALL SELECT 'ready', count(*) FROM tasks_ready
        UNION ALL SELECT 'scheduled', count(*) FROM tasks_scheduled)
    SELECT state, n FROM counted WHERE state <> 'open' AND n > 0
    UNION ALL
    SELECT 'leased', n FROM (
        SELECT sum(CASE WHEN state = 'open' THEN n WHEN state IN ('ready', 'scheduled') THEN -n END)::bigint AS n
        FROM counted) leased WHERE n > 0";

const OLDEST_READY: &str = "SELECT min(due_at) FROM tasks_ready";

/// [`TASK_COLUMNS`] from `start` on.
pub(super) fn task(row: &Row, start: usize) -> Result<Task, StoreError> {
    TaskRow {
        id: row.get(start),
        kind: row.get(start + 1),
        subject_kind: row.get(start + 2),
        subject: row.get(start + 3),
        project: row.get(start + 4),
        engine: row.get(start + 5),
        payload: row.get(start + 6),
        priority: row.get::<_, i16>(start + 7).into(),
        state: row.get(start + 8),
        due_at: row.get(start + 9),
        fence: row.get(start + 10),
        incarnation: row.get(start + 11),
        lease_until: row.get(start + 12),
        stop: row.get(start + 13),
        failures: row.get::<_, i32>(start + 14).into(),
        max_failures: row.get::<_, i32>(start + 15).into(),
        crashes: row.get::<_, i32>(start + 16).into(),
        error: row.get(start + 17),
        created_at: row.get(start + 18),
        finished_at: row.get(start + 19),
    }
    .try_into()
}

impl PostgresStore {
    pub(crate) async fn find_task(&self, id: &TaskId) -> Result<Option<Task>, StoreError> {
        let row = self.read_opt(&format!("SELECT {TASK_COLUMNS} FROM tasks WHERE id = $1"), &[&id.as_str()]).await?;
        row.map(|row| task(&row, 0)).transpose()
    }

    pub(crate) async fn list_tasks(&self, query: &TaskQuery) -> Result<Vec<Task>, StoreError> {
        if query.limit > rules::MAX_PAGE {
            return Err(rules::rejected(format!("a page holds at most {} rows", rules::MAX_PAGE)));
        }
        let kinds: Vec<&str> = query.kinds.iter().copied().map(TaskKind::as_str).collect();
        let after = query.after.as_ref().map(TaskId::as_str);
        let text = format!(
            "SELECT {TASK_COLUMNS} FROM tasks
             WHERE ($1::text IS NULL OR id < $1) AND (cardinality($2::text[]) = 0 OR state = ANY($2))
               AND (cardinality($3::text[]) = 0 OR kind = ANY($3))
             ORDER BY id DESC LIMIT $4"
        );
        let limit = i64::from(rules::page(query.limit));
        let rows = self.read(&text, &[&after, &query.states, &kinds, &limit]).await?;
        rows.iter().map(|row| task(row, 0)).collect()
    }

    pub(crate) async fn count_tasks(&self) -> Result<QueueCounts, StoreError> {
        let by_state = self.read(COUNT_TASKS, &[]).await?;
        let oldest = self.read(OLDEST_READY, &[]).await?;
        Ok(QueueCounts {
            by_state: by_state.iter().map(|row| (row.get(0), row.get(1))).collect(),
            oldest_ready_at: oldest.first().and_then(|row| row.get::<_, Option<i64>>(0)).map(Timestamp::from_micros),
        })
    }

    /// Rows of a statement that is prepared once for each connection.
    pub(super) async fn read(
        &self,
        text: &str,
        params: &[&(dyn tokio_postgres::types::ToSql + Sync)],
    ) -> Result<Vec<Row>, StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(text).await.map_err(|error| fault::of(&error))?;
        client.query(&statement, params).await.map_err(|error| fault::of(&error))
    }

    pub(super) async fn read_opt(
        &self,
        text: &str,
        params: &[&(dyn tokio_postgres::types::ToSql + Sync)],
    ) -> Result<Option<Row>, StoreError> {
        Ok(self.read(text, params).await?.into_iter().next())
    }
}
