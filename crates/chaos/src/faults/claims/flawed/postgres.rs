//! The flawed queue on PostgreSQL, where what waits is a row that a claim deletes.

use anyhow::Result;
use domain::commit::Ack;
use store::{Claim, Worked};
use tokio_postgres::Client;

use super::{Flaw, state_after, task};

const READY: &str = "SELECT id FROM tasks_ready ORDER BY priority, due_at, id LIMIT $1";

/// One connection.
pub(super) struct Postgres {
    client: Client,
    flaw: Flaw,
}

impl Postgres {
    pub(super) async fn connect(url: &str, flaw: Flaw) -> Result<Self> {
        Ok(Self { client: testkit::database::connect(url).await?, flaw })
    }

    /// Ends a lease; `$3` is the state. Whoever names a task may end it, or only who has its last fence.
    fn end(&self) -> String {
        let asks = if self.flaw == Flaw::NoFence { "$2::bigint > 0" } else { "past_fence < $2::bigint" };
        format!(
            "WITH ended AS (UPDATE task_rows
                            SET state = CASE WHEN $3::text = 'done' THEN 'done' ELSE 'open' END,
                                finished_at = CASE WHEN $3::text = 'done' THEN due_at END,
                                past_fence = greatest(past_fence, $2::bigint)
                            WHERE id = $1 AND state = 'open' AND {asks}
                            RETURNING lane, priority, due_at, id, project, engine),
                  again AS (INSERT INTO tasks_ready (lane, priority, due_at, id, project, engine)
                            SELECT * FROM ended WHERE $3::text = 'ready' ON CONFLICT DO NOTHING)
             SELECT count(*) FROM ended"
        )
    }

    /// Takes a task that was ready, whether it still is or not, or only if it is.
    fn lease(&self) -> String {
        let from = if self.flaw == Flaw::NoLock { "task_rows WHERE id = $1 AND state = 'open'" } else { "gone" };
        format!(
            "WITH gone AS (DELETE FROM tasks_ready WHERE id = $1 RETURNING id)
             INSERT INTO claims (number, lane, incarnation, lease_until, tasks, size)
             SELECT nextval('fences'), 'fast', $2, $3, ARRAY[id::text], 1 FROM {from}
             RETURNING fence_of(number, 1)"
        )
    }

    /// As the store's own function.
    pub(super) async fn work(&self, done: Vec<Ack>, claim: &Claim) -> Result<Worked> {
        let mut fenced = Vec::new();
        let end = self.end();
        for ack in done {
            let state = state_after(&ack.then);
            let row = self.client.query_one(&end, &[&ack.task.as_str(), &ack.fence.0, &state]).await?;
            if row.get::<_, i64>(0) == 0 {
                fenced.push(ack);
            }
        }
        let ready = self.client.query(READY, &[&i64::from(claim.limit)]).await?;
        let until = claim.now.after(claim.lease);
        let mut tasks = Vec::new();
        let lease = self.lease();
        for row in ready {
            let id: String = row.get(0);
            if let Some(row) = self.client.query_opt(&lease, &[&id, &claim.incarnation, &until.as_micros()]).await? {
                tasks.push(task(id, row.get(0), claim, until));
            }
        }
        Ok(Worked { fenced, tasks })
    }
}
