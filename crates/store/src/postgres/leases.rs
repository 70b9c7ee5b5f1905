//! Leases over time, by the database's clock: kept by heartbeats, ended by the reaper; and tasks whose time has come.
//!
//! All of these take task rows in order of their ids and skip what another transaction has locked, so that none of them
//! can wait, or make another wait, behind a slow commit.

use std::time::Duration;

use domain::{ids::TaskId, time::Timestamp};
use tokio::sync::Mutex;
use tokio_postgres::Statement;

use crate::{
    StoreError,
    postgres::{
        PostgresStore,
        connect::{Connected, Connector, Role},
        fault,
    },
    queue::{Beat, Heartbeat, Reaped},
};

/// The database's clock in microseconds. It moves within a statement; leases only grow by that.
pub(super) const NOW: &str = "(extract(epoch from clock_timestamp()) * 1000000)::bigint";

/// The one connection that keeps leases: whatever else is slow, this is not behind it.
#[derive(Debug)]
pub(super) struct HeartbeatConnection {
    connector: Connector,
    session: Mutex<Option<(Connected, Statement)>>,
}

impl HeartbeatConnection {
    pub(super) fn new(connector: Connector) -> Self {
        Self { connector, session: Mutex::new(None) }
    }

    async fn beat(&self, beats: &[Beat], lease: i64) -> Result<Vec<tokio_postgres::Row>, StoreError> {
        host::failpoint!("postgres.heartbeat.sent");
        let mut session = self.session.lock().await;
        let (client, statement) = match session.take() {
            Some(open) if !open.0.is_closed() => open,
            _ => {
                let client = self.connector.connect(Role::Keyed).await?;
                let statement = client.prepare(&beat_text()).await.map_err(|error| fault::of(&error))?;
                (client, statement)
            }
        };
        let ids: Vec<&str> = beats.iter().map(|beat| beat.task.as_str()).collect();
        let fences: Vec<i64> = beats.iter().map(|beat| beat.fence.0).collect();
        // The session was taken out of its place: a caller that gives up half-way loses it instead of confusing it.
        let rows = client.query(&statement, &[&ids, &fences, &lease]).await.map_err(|error| fault::of(&error))?;
        *session = Some((client, statement));
        Ok(rows)
    }
}

/// One row for each beat: whether its lease was kept, whether it is to stop, whether it still held when we looked.
fn beat_text() -> String {
    format!(
        "WITH beat AS MATERIALIZED (SELECT * FROM unnest($1::text[], $2::bigint[]) WITH ORDINALITY AS b(id, fence, place)),
              free AS MATERIALIZED (SELECT id, fence FROM tasks WHERE id = ANY($1::text[]) AND state = 'leased'
                                    ORDER BY id FOR NO KEY UPDATE SKIP LOCKED),
              kept AS (UPDATE tasks t SET lease_until = {NOW} + $3::bigint
                       FROM beat b JOIN free f ON f.id = b.id AND f.fence = b.fence
                       WHERE t.id = b.id AND t.id = ANY($1::text[])
                       RETURNING b.place, t.stop),
              seen AS MATERIALIZED (SELECT id, fence FROM tasks WHERE id = ANY($1::text[]) AND state = 'leased')
         SELECT b.place - 1, k.place IS NOT NULL, coalesce(k.stop, false), (b.id, b.fence) IN (SELECT id, fence FROM seen),
                {NOW}
         FROM beat b LEFT JOIN kept k ON k.place = b.place ORDER BY b.place"
    )
}

impl PostgresStore {
    pub(crate) async fn heartbeat(
        &self,
        beats: &[Beat],
        lease: Duration,
        now: Timestamp,
    ) -> Result<Heartbeat, StoreError> {
        let micros = i64::try_from(lease.as_micros()).unwrap_or(i64::MAX / 4).min(i64::MAX / 4);
        let mut answer = Heartbeat { fenced: Vec::new(), stop: Vec::new(), skipped: Vec::new(), now };
        if beats.is_empty() {
            let row = self.read_opt(&format!("SELECT {NOW}"), &[]).await?;
            answer.now = row.map_or(now, |row| Timestamp::from_micros(row.get(0)));
            return Ok(answer);
        }
        let beat = self.inner.heartbeat.beat(beats, micros);
        let rows = tokio::time::timeout(self.inner.patience.beat(lease), beat).await;
        for row in rows.unwrap_or_else(|_| Err(fault::silent()))? {
            let place = usize::try_from(row.get::<_, i64>(0)).unwrap_or(usize::MAX);
            let Some(beat) = beats.get(place) else { continue };
            answer.now = Timestamp::from_micros(row.get(4));
            match (row.get(1), row.get(2), row.get(3)) {
                (true, true, _) => answer.stop.push(beat.task.clone()),
                (true, false, _) => {}
                // Held as of this statement, but somebody has the row: neither kept nor lost.
                (false, _, true) => answer.skipped.push(beat.task.clone()),
                (false, _, false) => answer.fenced.push(beat.task.clone()),
            }
        }
        Ok(answer)
    }

    pub(crate) async fn reap(&self, _incarnation: &str, limit: u32) -> Result<Reaped, StoreError> {
        let text = format!(
            "WITH ended AS MATERIALIZED (SELECT id FROM tasks WHERE state = 'leased' AND lease_until < {NOW}
                                         ORDER BY id LIMIT $1 FOR NO KEY UPDATE SKIP LOCKED)
             UPDATE tasks SET state = 'ready', due_at = {NOW}, crashes = least(crashes + 1, 65535), fence = NULL,
                              incarnation = NULL, lease_until = NULL
             WHERE id = ANY(ARRAY(SELECT id FROM ended)) RETURNING id"
        );
        let rows = self.read(&text, &[&i64::from(limit)]).await?;
        let mut tasks: Vec<TaskId> = rows.iter().map(|row| TaskId(row.get(0))).collect();
        tasks.sort();
        if !tasks.is_empty() {
            self.tasks_ready();
        }
        Ok(Reaped { tasks })
    }

    pub(crate) async fn promote(&self, now: Timestamp, limit: u32) -> Result<(u32, Option<Timestamp>), StoreError> {
        let rows = self
            .read(
                "WITH due AS MATERIALIZED (SELECT id FROM tasks WHERE state = 'scheduled' AND due_at <= $1
                                           ORDER BY due_at, id LIMIT $2 FOR NO KEY UPDATE SKIP LOCKED),
                      promoted AS (UPDATE tasks SET state = 'ready' WHERE id = ANY(ARRAY(SELECT id FROM due)) RETURNING id)
                 SELECT (SELECT count(*) FROM promoted),
                        (SELECT due_at FROM tasks WHERE state = 'scheduled' AND NOT (id IN (SELECT id FROM due))
                         ORDER BY due_at, id LIMIT 1)",
                &[&now.as_micros(), &i64::from(limit)],
            )
            .await?;
        let Some(row) = rows.first() else { return Ok((0, None)) };
        let promoted = u32::try_from(row.get::<_, i64>(0)).unwrap_or(u32::MAX);
        if promoted > 0 {
            self.tasks_ready();
        }
        Ok((promoted, row.get::<_, Option<i64>>(1).map(Timestamp::from_micros)))
    }
}
