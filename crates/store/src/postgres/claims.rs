//! Claims: completing what was done and leasing what is due, in one commit.
//!
//! The fast lane is one statement; claims run side by side and skip each other's rows. The engine lane has caps over all
//! nodes: its claims take turns under one advisory lock and count leased rows under it, so that no counter can drift.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Duration,
};

use deadpool_postgres::Transaction;
use domain::{
    commit::{Ack, Then},
    ids::{Fence, TaskId},
    task::{Lane, Task, TaskState},
    time::Timestamp,
};
use tokio_postgres::Row;

use crate::{
    StoreError,
    fairness::{Candidate, Leased, choose},
    postgres::{
        PostgresStore, batch,
        fault::Fault,
        leases::NOW,
        parameters::{Parameter, Parameters},
        patience::Lent,
        records::Records,
        statement::Outcome,
        tasks::task,
    },
    queue::{Claim, Worked},
    rules,
    task_row::TASK_COLUMNS,
};

/// The most tasks that one claim takes.
const SLICE: u32 = 500;
/// Claims of the engine lane, over all nodes, one at a time.
const ENGINE_LOCK: i64 = 0x5049_4c4f_5402;

/// What a batch of acknowledgements asks of each task: a task is acknowledged once, so the first word that ends the
/// lease counts, and whatever follows it is fenced.
struct Asked<'a> {
    task: &'a TaskId,
    fence: Fence,
    then: &'a Then,
}

fn asked(done: &[Ack]) -> Vec<Asked<'_>> {
    let mut places: HashMap<(&str, i64), usize> = HashMap::with_capacity(done.len());
    let mut asked: Vec<Asked<'_>> = Vec::with_capacity(done.len());
    for ack in done {
        let place = *places.entry((ack.task.as_str(), ack.fence.0)).or_insert(asked.len());
        match asked.get_mut(place) {
            None => asked.push(Asked { task: &ack.task, fence: ack.fence, then: &ack.then }),
            Some(first) if *first.then == Then::Keep => first.then = &ack.then,
            Some(_) => {}
        }
    }
    asked
}

/// The acknowledgements that did not count, in their order.
fn fenced(done: Vec<Ack>, lost: &HashSet<(String, i64)>) -> Vec<Ack> {
    let mut ended: HashSet<(String, i64)> = HashSet::new();
    done.into_iter()
        .filter(|ack| {
            let lease = (ack.task.0.clone(), ack.fence.0);
            let counts = !lost.contains(&lease) && !ended.contains(&lease);
            if counts && ack.then != Then::Keep {
                ended.insert(lease);
            }
            !counts
        })
        .collect()
}

/// Applies acknowledgements. A write in the middle of the work leaves its task as it is, but holds it until the end.
const ACKED: &str = "UPDATE tasks t
    SET state = coalesce(x.state, t.state), due_at = coalesce(x.due_at, t.due_at), finished_at = x.finished_at,
        failures = least(t.failures + x.failed, 65535), error = coalesce(x.error, t.error),
        fence = CASE WHEN x.state IS NULL THEN t.fence END,
        incarnation = CASE WHEN x.state IS NULL THEN t.incarnation END,
        lease_until = CASE WHEN x.state IS NULL THEN t.lease_until END, stop = t.stop AND x.finished_at IS NULL";

/// The parts of a statement that apply acknowledgements: `acked`, and `lost`, the places of those that did not count.
fn acknowledging<'a>(parameters: &mut Parameters<'a>, asked: &[Asked<'a>], now: i64) -> String {
    let mut records = Records::default();
    for (place, ack) in (0i32..).zip(asked) {
        match Outcome::of(ack.then, now) {
            Some(outcome) => outcome.write(&mut records, place, ack.task, ack.fence),
            None => {
                let record = records.record().int(place).text(ack.task.as_str()).big(ack.fence.0);
                record.maybe_text(None).maybe_big(None).maybe_big(None).int(0).maybe_text(None);
            }
        }
    }
    let ids = parameters.bind(Parameter::Texts(asked.iter().map(|ack| ack.task.as_str()).collect()));
    let source = parameters.rows("ack_in", records);
    format!(
        "x AS MATERIALIZED (SELECT * FROM {source}),
         acked AS ({ACKED} FROM x
                   WHERE t.id = x.id AND t.fence = x.fence AND t.id = ANY({ids})
                   RETURNING x.ord),
         lost AS MATERIALIZED (SELECT array_agg(ord) AS places FROM x WHERE NOT (ord IN (SELECT ord FROM acked)))"
    )
}

/// Leases the tasks that `due` lists in the order of their fences.
fn leasing(incarnation: &str, lease: &str) -> String {
    format!(
        "fenced AS MATERIALIZED (SELECT id, nextval('fences') AS fence FROM due),
         claimed AS (UPDATE tasks t SET state = 'leased', fence = f.fence, incarnation = {incarnation},
                            lease_until = {NOW} + {lease}
                     FROM fenced f
                     WHERE t.id = f.id AND t.state = 'ready' AND t.id = ANY(ARRAY(SELECT id FROM due))
                     RETURNING {})",
        qualified("t")
    )
}

/// [`TASK_COLUMNS`] of a table that has an alias.
fn qualified(alias: &str) -> String {
    TASK_COLUMNS.split(", ").map(|column| format!("{alias}.{column}")).collect::<Vec<_>>().join(", ")
}

/// What a claim brought: the leases whose acknowledgement did not count, and the tasks.
type Claimed = (HashSet<(String, i64)>, Vec<Task>);

fn lost(places: Option<Vec<i32>>, asked: &[Asked<'_>]) -> HashSet<(String, i64)> {
    let places = places.unwrap_or_default().into_iter();
    places
        .filter_map(|place| usize::try_from(place).ok().and_then(|place| asked.get(place)))
        .map(|ack| (ack.task.0.clone(), ack.fence.0))
        .collect()
}

fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX / 4).min(i64::MAX / 4)
}

impl PostgresStore {
    pub(crate) async fn work(&self, done: Vec<Ack>, claim: Claim) -> Result<Worked, StoreError> {
        done.iter().try_for_each(|ack| rules::validate_ack(&ack.then))?;
        let mut client = Lent::of(&self.inner.writers, self.inner.patience).await?;
        let mut tries = 1;
        let (lost, tasks) = loop {
            let claimed = async {
                match claim.lane {
                    Lane::Fast => work_fast(&client, &done, &claim).await,
                    Lane::Engine => work_engine(&mut client, &done, &claim).await,
                }
            };
            let claimed = tokio::time::timeout(self.inner.patience.answer(), claimed).await;
            match claimed.unwrap_or_else(|_| Err(Fault::silent())) {
                Ok(claimed) => break claimed,
                // The tasks may be leased and the acknowledgements may count; nobody here holds the leases.
                Err(Fault::Lost(error)) => {
                    let commit = format!("of a claim by {}", claim.incarnation);
                    return Err(StoreError::UnknownOutcome { commit, reason: error.to_string() });
                }
                Err(Fault::Contended(_)) if tries < batch::TRIES => {
                    tokio::time::sleep(batch::jitter(Duration::from_millis(5 << tries))).await;
                    tries += 1;
                }
                Err(fault) => return Err(fault.into_error()),
            }
        };
        drop(client);
        if done.iter().any(|ack| matches!(ack.then, Then::Again { .. })) {
            self.tasks_ready();
        }
        Ok(Worked { fenced: fenced(done, &lost), tasks })
    }

    pub(crate) async fn adopt(
        &self,
        id: &TaskId,
        old: Fence,
        incarnation: &str,
        lease: Duration,
    ) -> Result<Option<Task>, StoreError> {
        let text = format!(
            "UPDATE tasks SET fence = nextval('fences'), incarnation = $3, lease_until = {NOW} + $4
             WHERE id = $1 AND fence = $2 AND state = 'leased' RETURNING {TASK_COLUMNS}"
        );
        let row = self.read_opt(&text, &[&id.as_str(), &old.0, &incarnation, &micros(lease)]).await?;
        row.map(|row| task(&row, 0)).transpose()
    }

    pub(crate) async fn list_leases(&self, except_incarnation: &str) -> Result<Vec<Task>, StoreError> {
        let text = format!("SELECT {TASK_COLUMNS} FROM tasks WHERE state = 'leased' AND incarnation <> $1 ORDER BY id");
        let rows = self.read(&text, &[&except_incarnation]).await?;
        rows.iter().map(|row| task(row, 0)).collect()
    }
}

/// One statement: whatever it answers is durable.
async fn work_fast(client: &deadpool_postgres::Client, done: &[Ack], claim: &Claim) -> Result<Claimed, Fault> {
    let asked = asked(done);
    let mut parameters = Parameters::default();
    let mut with = Vec::new();
    let mut source = "(SELECT NULL::integer[] AS places) lost";
    if !asked.is_empty() {
        with.push(acknowledging(&mut parameters, &asked, claim.now.as_micros()));
        source = "lost";
    }
    let limit = parameters.bind(Parameter::Number(i64::from(claim.limit.min(SLICE))));
    let incarnation = parameters.bind(Parameter::Text(&claim.incarnation));
    let lease = parameters.bind(Parameter::Number(micros(claim.lease)));
    with.push(format!(
        "due AS MATERIALIZED (SELECT id FROM tasks WHERE lane = 'fast' AND state = 'ready'
                              ORDER BY priority, due_at, id LIMIT {limit} FOR NO KEY UPDATE SKIP LOCKED)"
    ));
    with.push(leasing(&incarnation, &lease));
    let text = format!("WITH {}\nSELECT lost.places, c.* FROM {source} LEFT JOIN claimed c ON true", with.join(",\n"));
    let statement = client.prepare_cached(&text).await.map_err(|error| Fault::of(&error))?;
    let rows = client.query(&statement, &parameters.as_sql()).await.map_err(|error| Fault::of(&error))?;
    host::failpoint!("postgres.fast-claim.committed");
    let lost = lost(rows.first().and_then(|row| row.get(0)), &asked);
    Ok((lost, in_order_of_fences(&rows, 1)?))
}

/// Tasks from rows that may be empty to the right of `start`.
fn in_order_of_fences(rows: &[Row], start: usize) -> Result<Vec<Task>, Fault> {
    let mut tasks = Vec::with_capacity(rows.len());
    for row in rows.iter().filter(|row| row.get::<_, Option<&str>>(start).is_some()) {
        tasks.push(task(row, start).map_err(Fault::Refused)?);
    }
    tasks.sort_by_key(fence_of);
    Ok(tasks)
}

fn fence_of(task: &Task) -> i64 {
    match &task.state {
        TaskState::Leased { fence, .. } => fence.0,
        _ => 0,
    }
}

async fn work_engine(client: &mut deadpool_postgres::Client, done: &[Ack], claim: &Claim) -> Result<Claimed, Fault> {
    let asked = asked(done);
    let tx = client.transaction().await.map_err(|error| Fault::of(&error))?;
    let statement = tx.prepare_cached("SELECT pg_advisory_xact_lock($1)").await.map_err(|error| Fault::of(&error))?;
    tx.execute(&statement, &[&ENGINE_LOCK]).await.map_err(|error| Fault::of(&error))?;
    let mut not_counted = HashSet::new();
    if !asked.is_empty() {
        let mut parameters = Parameters::default();
        let with = acknowledging(&mut parameters, &asked, claim.now.as_micros());
        let statement = tx
            .prepare_cached(&format!("WITH {with}\nSELECT places FROM lost"))
            .await
            .map_err(|error| Fault::of(&error))?;
        let row = tx.query_one(&statement, &parameters.as_sql()).await.map_err(|error| Fault::of(&error))?;
        not_counted = lost(row.get(0), &asked);
    }
    // Every statement sees what was committed before it began; these begin after the lock was granted.
    let limit = claim.limit.min(SLICE);
    let chosen = choose(candidates(&tx, limit).await?, &leased(&tx).await?, &claim.caps, limit);
    let mut tasks = Vec::new();
    if !chosen.is_empty() {
        let ids: Vec<&str> = chosen.iter().map(|candidate| candidate.id.as_str()).collect();
        let text = format!(
            "WITH due AS MATERIALIZED (SELECT id FROM unnest($1::text[]) WITH ORDINALITY AS d(id, place) ORDER BY place),
             {} SELECT * FROM claimed",
            leasing("$2::text", "$3::bigint")
        );
        let statement = tx.prepare_cached(&text).await.map_err(|error| Fault::of(&error))?;
        let rows = tx
            .query(&statement, &[&ids, &claim.incarnation, &micros(claim.lease)])
            .await
            .map_err(|error| Fault::of(&error))?;
        tasks = in_order_of_fences(&rows, 0)?;
        let turns: BTreeMap<i64, i64> = tasks.iter().map(|task| (task.project.unwrap_or(0), fence_of(task))).collect();
        let (projects, fences): (Vec<i64>, Vec<i64>) = turns.into_iter().unzip();
        let statement = tx
            .prepare_cached(
                "INSERT INTO turns (project, fence) SELECT * FROM unnest($1::bigint[], $2::bigint[])
                 ON CONFLICT (project) DO UPDATE SET fence = excluded.fence",
            )
            .await
            .map_err(|error| Fault::of(&error))?;
        tx.execute(&statement, &[&projects, &fences]).await.map_err(|error| Fault::of(&error))?;
    }
    host::failpoint!("postgres.engine-claim.before-commit");
    tx.commit().await.map_err(|error| Fault::of(&error))?;
    host::failpoint!("postgres.engine-claim.after-commit");
    Ok((not_counted, tasks))
}

async fn candidates(tx: &Transaction<'_>, limit: u32) -> Result<Vec<Candidate>, Fault> {
    let statement = tx
        .prepare_cached(
            "SELECT id, project, engine, priority, due_at
             FROM (SELECT id, project, engine, priority, due_at,
                          row_number() OVER (PARTITION BY project, engine ORDER BY priority, due_at, id) AS place
                   FROM tasks WHERE state = 'ready' AND lane = 'engine') ranked
             WHERE place <= $1",
        )
        .await
        .map_err(|error| Fault::of(&error))?;
    let rows = tx.query(&statement, &[&i64::from(limit)]).await.map_err(|error| Fault::of(&error))?;
    Ok(rows
        .iter()
        .map(|row| Candidate {
            id: row.get(0),
            project: row.get(1),
            engine: row.get(2),
            priority: row.get(3),
            due_at: Timestamp::from_micros(row.get(4)),
        })
        .collect())
}

async fn leased(tx: &Transaction<'_>) -> Result<Leased, Fault> {
    let statement = tx
        .prepare_cached(
            "SELECT project, engine, count(*) FROM tasks WHERE state = 'leased' AND lane = 'engine' GROUP BY 1, 2",
        )
        .await
        .map_err(|error| Fault::of(&error))?;
    let counts = tx.query(&statement, &[]).await.map_err(|error| Fault::of(&error))?;
    let statement = tx.prepare_cached("SELECT project, fence FROM turns").await.map_err(|error| Fault::of(&error))?;
    let turns = tx.query(&statement, &[]).await.map_err(|error| Fault::of(&error))?;
    Ok(Leased {
        counts: counts
            .iter()
            .map(|row| (row.get(0), row.get(1), u32::try_from(row.get::<_, i64>(2)).unwrap_or(u32::MAX)))
            .collect(),
        turns: turns.iter().map(|row| (row.get(0), row.get(1))).collect(),
    })
}
