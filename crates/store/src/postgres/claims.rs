//! Claims: completing what was done and leasing what is due, in one commit.
//!
//! The fast lane is one statement; claims run side by side and skip what others are about to take. The engine lane has
//! caps over all nodes: its claims take turns under one advisory lock and count what is leased under it, so that no
//! counter can drift; each of its tasks is a claim of its own, because they live for so long.

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
        lease::{ACKED, ACKED_TELLS, COUNTED, NOW, Outcome, SLICE, is_open, leased_columns, leases_of, waiting_again},
        parameters::{Parameter, Parameters},
        patience::Lent,
        records::Records,
        tasks::task,
    },
    queue::{Claim, Worked},
    rules,
};

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
    if lost.is_empty() && asked(&done).len() == done.len() {
        return Vec::new();
    }
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

/// The parts of a statement that apply acknowledgements: `acked`, and `lost`, the places of those that did not count.
fn acknowledging<'a>(parameters: &mut Parameters<'a>, asked: &[Asked<'a>], now: i64) -> Vec<String> {
    let mut records = Records::default();
    let (mut ends, mut again) = (false, false);
    for (place, ack) in (0i32..).zip(asked) {
        match Outcome::of(ack.then, now) {
            Some(outcome) => {
                ends = true;
                again |= !outcome.is_final();
                outcome.write(&mut records, place, ack.task, ack.fence);
            }
            None => {
                let record = records.record().int(place).text(ack.task.as_str()).big(ack.fence.0);
                record.maybe_text(None).maybe_big(None).maybe_big(None).int(0).maybe_text(None);
            }
        }
    }
    let ids = parameters.bind(Parameter::Texts(asked.iter().map(|ack| ack.task.as_str()).collect()));
    let source = parameters.rows("ack_in", records);
    let mut with = vec![
        format!("x AS MATERIALIZED (SELECT * FROM {source})"),
        // Put together with nothing, an array is unpacked once and not for each of its tasks.
        "given AS MATERIALIZED (SELECT number, tasks || '{}'::text[] AS tasks FROM claims
                                WHERE number = ANY(ARRAY(SELECT DISTINCT claim_of(fence) FROM x)))"
            .to_owned(),
        format!(
            "acked AS (UPDATE task_rows t SET {ACKED}
                       FROM x JOIN given g ON g.number = claim_of(x.fence) AND g.tasks[place_of(x.fence)] = x.id
                       WHERE t.id = x.id AND t.id = ANY({ids}) AND {} RETURNING {ACKED_TELLS})",
            is_open("x.fence")
        ),
        "lost AS MATERIALIZED (
             SELECT CASE WHEN (SELECT count(*) FROM acked) < (SELECT count(*) FROM x)
                         THEN ARRAY(SELECT ord FROM x WHERE NOT (ord IN (SELECT ord FROM acked))) END AS places)"
            .to_owned(),
    ];
    if again {
        with.extend(waiting_again());
    }
    if ends {
        with.push(COUNTED.to_owned());
    }
    with
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
            "WITH acked AS (UPDATE task_rows t SET past_fence = $2::bigint FROM claims c
                            WHERE t.id = $1::text AND {} AND c.number = claim_of($2::bigint)
                              AND c.tasks[place_of($2::bigint)] = $1::text
                            RETURNING $2::bigint AS fence, 'leased' AS after, t.*),
                  {},
                  taken AS (INSERT INTO claims (number, lane, incarnation, lease_until, tasks, size)
                            SELECT nextval('fences'), lane, $3::text, {NOW} + $4::bigint, ARRAY[id::text], 1 FROM acked
                            RETURNING number, incarnation, lease_until)
             SELECT {} FROM acked t, taken n",
            is_open("$2::bigint"),
            COUNTED,
            leased_columns("fence_of(n.number, 1)", "n.incarnation", "n.lease_until"),
        );
        let row = self.read_opt(&text, &[&id.as_str(), &old.0, &incarnation, &micros(lease)]).await?;
        row.map(|row| task(&row, 0)).transpose()
    }

    pub(crate) async fn list_leases(&self, except_incarnation: &str) -> Result<Vec<Task>, StoreError> {
        let text = format!(
            "SELECT {} FROM {} WHERE c.incarnation <> $1 ORDER BY t.id",
            leased_columns("fence_of(c.number, u.place)", "c.incarnation", "c.lease_until"),
            leases_of("claims c"),
        );
        let rows = self.read(&text, &[&except_incarnation]).await?;
        rows.iter().map(|row| task(row, 0)).collect()
    }
}

/// One statement: whatever it answers is durable.
async fn work_fast(client: &deadpool_postgres::Client, done: &[Ack], claim: &Claim) -> Result<Claimed, Fault> {
    let asked = asked(done);
    let mut parameters = Parameters::default();
    let mut with = Vec::new();
    let (mut source, mut behind) = ("(SELECT NULL::integer[] AS places) lost", "");
    if !asked.is_empty() {
        with = acknowledging(&mut parameters, &asked, claim.now.as_micros());
        // Acknowledgements may wait for a row; whoever has it may wait for one that is about to be claimed.
        (source, behind) = ("lost", "AND (SELECT true FROM lost)");
    }
    let limit = parameters.bind(Parameter::Number(i64::from(claim.limit.min(SLICE))));
    let incarnation = parameters.bind(Parameter::Text(&claim.incarnation));
    let lease = parameters.bind(Parameter::Number(micros(claim.lease)));
    with.push(format!(
        "due AS MATERIALIZED (SELECT ctid AS row, id FROM tasks_ready WHERE lane = 'fast' {behind}
                              ORDER BY priority, due_at, id LIMIT {limit} FOR UPDATE SKIP LOCKED),
         taken AS (DELETE FROM tasks_ready WHERE ctid = ANY(ARRAY(SELECT row FROM due))),
         claim AS MATERIALIZED (SELECT nextval('fences') AS number, {NOW} + {lease} AS until, ids
                                FROM (SELECT array_agg(id::text) AS ids FROM due) d WHERE ids IS NOT NULL),
         kept AS (INSERT INTO claims (number, lane, incarnation, lease_until, tasks, size)
                  SELECT number, 'fast', {incarnation}, until, ids, cardinality(ids) FROM claim),
         claimed AS (SELECT {} FROM claim CROSS JOIN LATERAL unnest(claim.ids) WITH ORDINALITY p (id, place)
                     JOIN task_rows t ON t.id = p.id WHERE t.id = ANY((SELECT ids FROM claim)::text[]))",
        leased_columns("fence_of(claim.number, p.place)", &incarnation, "claim.until")
    ));
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
            .prepare_cached(&format!("WITH {}\nSELECT places FROM lost", with.join(",\n")))
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
            "WITH taken AS (DELETE FROM tasks_ready r
                            USING unnest($1::text[]) WITH ORDINALITY d (id, place)
                            WHERE r.lane = 'engine' AND r.id = d.id RETURNING r.id, d.place),
                  claimed AS MATERIALIZED (SELECT id, nextval('fences') AS number
                                           FROM (SELECT * FROM taken ORDER BY place) o),
                  kept AS (INSERT INTO claims (number, lane, incarnation, lease_until, tasks, size)
                           SELECT number, 'engine', $2::text, {NOW} + $3::bigint, ARRAY[id::text], 1 FROM claimed
                           RETURNING number, incarnation, lease_until)
             SELECT {} FROM claimed c JOIN kept k ON k.number = c.number JOIN task_rows t ON t.id = c.id
             WHERE t.id = ANY($1::text[])",
            leased_columns("fence_of(c.number, 1)", "k.incarnation", "k.lease_until")
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
                   FROM tasks_ready WHERE lane = 'engine') ranked
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
        .prepare_cached(&format!(
            "SELECT t.project, t.engine, count(*) FROM {}
             WHERE c.lane = 'engine' AND t.id = ANY(ARRAY(SELECT tasks[1] FROM claims WHERE lane = 'engine'))
             GROUP BY 1, 2",
            leases_of("claims c")
        ))
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
