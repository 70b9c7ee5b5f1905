//! Leases over time, by the database's clock: kept by heartbeats, ended by the reaper; and tasks whose time has come.
//!
//! All of these skip what another transaction has locked, so that none of them can wait behind a slow commit.

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
        lease::{NOW, PUT_AWAY, READY, is_open, leases_of},
    },
    queue::{Beat, Heartbeat, Reaped},
};

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

/// One row for each beat: whether its claim's lease was kept, whether it is to stop, whether it still counts.
fn beat_text() -> String {
    format!(
        "WITH beat AS MATERIALIZED (SELECT * FROM unnest($1::text[], $2::bigint[]) WITH ORDINALITY AS b(id, fence, place)),
              seen AS MATERIALIZED (SELECT b.place, claim_of(b.fence) AS number, t.stop
                                    FROM beat b JOIN claims c ON c.number = claim_of(b.fence)
                                    JOIN task_rows t ON t.id = b.id AND {}
                                    WHERE t.id = ANY($1::text[]) AND c.tasks[place_of(b.fence)] = b.id),
              free AS MATERIALIZED (SELECT number FROM claims WHERE number = ANY(ARRAY(SELECT number FROM seen))
                                    FOR NO KEY UPDATE SKIP LOCKED),
              kept AS (UPDATE claims SET lease_until = {NOW} + $3::bigint
                       WHERE number = ANY(ARRAY(SELECT number FROM free)) RETURNING number)
         SELECT b.place - 1, k.number IS NOT NULL, coalesce(s.stop, false), s.place IS NOT NULL, {NOW}
         FROM beat b LEFT JOIN seen s ON s.place = b.place LEFT JOIN kept k ON k.number = s.number ORDER BY b.place",
        is_open("b.fence")
    )
}

/// How many claims whose time is over one look takes.
const CLAIMS: u32 = 200;

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
        // A claim stays while one of its tasks is held by somebody's row lock: the next time will tell.
        let text = format!(
            "WITH past AS MATERIALIZED (SELECT number FROM claims WHERE lease_until < {NOW}
                                        ORDER BY number LIMIT {CLAIMS} FOR UPDATE SKIP LOCKED),
                  held AS MATERIALIZED (SELECT t.id, c.number, fence_of(c.number, u.place) AS fence FROM {}
                                        WHERE c.number = ANY(ARRAY(SELECT number FROM past))),
                  free AS MATERIALIZED (SELECT t.id, h.number, h.fence FROM held h JOIN task_rows t ON t.id = h.id AND {}
                                        ORDER BY t.id LIMIT $1 FOR NO KEY UPDATE OF t SKIP LOCKED),
                  ended AS (UPDATE task_rows t
                            SET past_fence = f.fence, due_at = {NOW}, crashes = least(t.crashes + 1, 65535)
                            FROM free f WHERE t.id = f.id RETURNING t.*),
                  again AS (INSERT INTO tasks_ready ({READY}) SELECT {READY} FROM ended),
                  counted AS (INSERT INTO claim_ends (number, ended) SELECT number, count(*) FROM free GROUP BY 1),
                  gone AS (DELETE FROM claims WHERE number IN (SELECT number FROM past) AND NOT (number IN (
                               SELECT number FROM held WHERE NOT (id IN (SELECT id FROM free)))))
             SELECT id FROM ended",
            leases_of("claims c"),
            is_open("h.fence")
        );
        let rows = self.read(&text, &[&i64::from(limit)]).await?;
        let mut tasks: Vec<TaskId> = rows.iter().map(|row| TaskId(row.get(0))).collect();
        tasks.sort();
        if !tasks.is_empty() {
            self.tasks_ready();
        }
        if let Err(error) = self.read(PUT_AWAY, &[]).await {
            // What was reaped is told all the same; the next time puts away what is left of this one.
            tracing::warn!(%error, "Claims that are over could not be put away");
        }
        Ok(Reaped { tasks })
    }

    pub(crate) async fn promote(&self, now: Timestamp, limit: u32) -> Result<(u32, Option<Timestamp>), StoreError> {
        let rows = self
            .read(
                &format!(
                    "WITH due AS MATERIALIZED (SELECT ctid AS row, id FROM tasks_scheduled WHERE due_at <= $1
                                               ORDER BY due_at, id LIMIT $2 FOR UPDATE SKIP LOCKED),
                          gone AS (DELETE FROM tasks_scheduled WHERE ctid = ANY(ARRAY(SELECT row FROM due))),
                          promoted AS (INSERT INTO tasks_ready ({READY})
                                       SELECT {READY} FROM task_rows WHERE id = ANY(ARRAY(SELECT id FROM due))
                                       RETURNING id)
                     SELECT (SELECT count(*) FROM promoted),
                            (SELECT due_at FROM tasks_scheduled WHERE NOT (id IN (SELECT id FROM due))
                             ORDER BY due_at, id LIMIT 1)"
                ),
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
