//! Commits with guards or entries: what crosses subjects goes alone, in a transaction of a few statements.
//!
//! The one-commit statement goes first, so that locks are taken in the same order as everywhere (task, expects, subject,
//! dedup key, then guards) and a repeat or a stale belief is found before anything is refused. Guards are locked in order
//! of their keys and judged in the order of the commit.

use deadpool_postgres::Transaction;
use domain::commit::{Commit, Committed, Entry, Guard};
use tokio_postgres::error::SqlState;

use crate::{
    postgres::{
        batch::Answer,
        fault::Fault,
        outcome,
        statement::{self, Repeats},
    },
    rules, sql,
};

type Driven<T> = Result<T, tokio_postgres::Error>;

/// Whether a commit has to go alone.
pub(super) fn is_guarded(commit: &Commit) -> bool {
    !commit.guards.is_empty() || !commit.entries.is_empty()
}

/// Carries out one commit in a transaction of its own.
pub(super) async fn commit(client: &mut deadpool_postgres::Client, commit: &Commit) -> Answer {
    match attempt(client, commit).await {
        Ok(Some(committed)) => Ok(committed),
        Ok(None) => outcome::refusal(client, commit).await,
        // Its rows come before its guards: where another has taken a key and a row with it, the row is met first.
        Err(error) if error.code() == Some(&SqlState::CHECK_VIOLATION) => {
            let taken = find_taken(client, commit).await.map_err(|error| Fault::of(&error))?;
            taken.map_or_else(|| Err(Fault::of(&error)), Ok)
        }
        Err(error) => Err(Fault::of(&error)),
    }
}

/// The first guard whose key somebody else holds.
async fn find_taken(client: &deadpool_postgres::Client, commit: &Commit) -> Driven<Option<Committed>> {
    for guard in &commit.guards {
        if let Guard::Unique { key, .. } = guard {
            let statement = client.prepare_cached("SELECT holder FROM unique_keys WHERE key = $1").await?;
            if let Some(row) = client.query_opt(&statement, &[key]).await? {
                return Ok(Some(Committed::Refused { guard: guard.clone(), current: row.get(0) }));
            }
        }
    }
    Ok(None)
}

/// `None`: not applied, and rolled back; the reason is to be looked up.
async fn attempt(client: &mut deadpool_postgres::Client, commit: &Commit) -> Driven<Option<Committed>> {
    let tx = client.transaction().await?;
    let composed = statement::compose(&[commit], Repeats::AreLeftOut);
    let prepared = tx.prepare_cached(&composed.text).await?;
    let answer = tx.query_one(&prepared, &composed.parameters.as_sql()).await?;
    if statement::places(&answer).next().is_none() {
        tx.rollback().await?;
        return Ok(None);
    }
    lock(&tx, commit).await?;
    for guard in &commit.guards {
        if let Some(current) = take(&tx, guard).await? {
            tx.rollback().await?;
            return Ok(Some(Committed::Refused { guard: guard.clone(), current }));
        }
    }
    for entry in &commit.entries {
        record(&tx, entry, commit.cause.now.as_micros()).await?;
    }
    tx.commit().await?;
    Ok(Some(outcome::applied(commit)))
}

/// Locks what the guards and entries count on, each kind in order of its keys.
async fn lock(tx: &Transaction<'_>, commit: &Commit) -> Driven<()> {
    let mut locks: Vec<&str> = Vec::new();
    let mut budgets: Vec<&str> = Vec::new();
    for guard in &commit.guards {
        match guard {
            Guard::Unique { .. } => {}
            Guard::Hold { lock, .. } => locks.push(lock),
            Guard::Reserve { budget, .. } => budgets.push(budget),
        }
    }
    for entry in &commit.entries {
        match entry {
            Entry::Release { lock, .. } => locks.push(lock),
            Entry::Limit { budget, .. } | Entry::Charge { budget, .. } | Entry::Settle { budget, .. } => {
                budgets.push(budget);
            }
        }
    }
    locks.sort_unstable();
    locks.dedup();
    for lock in locks {
        // Two names with one hash wait for each other without need, which harms nobody.
        let statement = tx
            .prepare_cached("SELECT pg_advisory_xact_lock(hashtextextended('pilothouse lock ' || $1::text, 0))")
            .await?;
        tx.execute(&statement, &[&lock]).await?;
    }
    if !budgets.is_empty() {
        let statement = tx
            .prepare_cached("SELECT id FROM budgets WHERE id = ANY($1::text[]) ORDER BY id FOR NO KEY UPDATE")
            .await?;
        tx.execute(&statement, &[&budgets]).await?;
    }
    Ok(())
}

/// Takes what a guard asks for; `Some`: refused, with what stands against it.
async fn take(tx: &Transaction<'_>, guard: &Guard) -> Driven<Option<String>> {
    match guard {
        Guard::Unique { key, holder } => {
            let statement = tx
                .prepare_cached("INSERT INTO unique_keys (key, holder) VALUES ($1, $2) ON CONFLICT DO NOTHING")
                .await?;
            if tx.execute(&statement, &[key, holder]).await? == 1 {
                return Ok(None);
            }
            let statement = tx.prepare_cached("SELECT holder FROM unique_keys WHERE key = $1").await?;
            Ok(Some(tx.query_one(&statement, &[key]).await?.get(0)))
        }
        Guard::Hold { lock, holder, slots } => {
            let statement = tx.prepare_cached("SELECT holder FROM holds WHERE lock_name = $1").await?;
            let holders: Vec<String> = tx.query(&statement, &[lock]).await?.iter().map(|row| row.get(0)).collect();
            if holders.contains(holder) {
                return Ok(None);
            }
            if holders.len() >= usize::try_from(*slots).unwrap_or(usize::MAX) {
                return Ok(Some(rules::held_by(holders)));
            }
            let statement = tx.prepare_cached("INSERT INTO holds (lock_name, holder) VALUES ($1, $2)").await?;
            tx.execute(&statement, &[lock, holder]).await?;
            Ok(None)
        }
        Guard::Reserve { budget, holder, amount } => reserve(tx, budget, holder, *amount).await,
    }
}

async fn reserve(tx: &Transaction<'_>, budget: &str, holder: &str, amount: i64) -> Driven<Option<String>> {
    // A budget nobody has limited is unlimited, and exists from its first reservation.
    let statement = tx.prepare_cached("INSERT INTO budgets (id) VALUES ($1) ON CONFLICT DO NOTHING").await?;
    tx.execute(&statement, &[&budget]).await?;
    let statement =
        tx.prepare_cached("SELECT limit_amount, spent, reserved FROM budgets WHERE id = $1 FOR NO KEY UPDATE").await?;
    let row = tx.query_one(&statement, &[&budget]).await?;
    let (limit, spent, reserved): (Option<i64>, i64, i64) = (row.get(0), row.get(1), row.get(2));
    if let Some(limit) = limit
        && spent.saturating_add(reserved).saturating_add(amount) > limit
    {
        return Ok(Some(rules::budget_state(spent, reserved, limit)));
    }
    let statement = tx
        .prepare_cached(
            "INSERT INTO reservations (budget, holder, amount) VALUES ($1, $2, $3)
             ON CONFLICT (budget, holder) DO UPDATE SET amount = reservations.amount + excluded.amount",
        )
        .await?;
    tx.execute(&statement, &[&budget, &holder, &amount]).await?;
    let statement = tx.prepare_cached("UPDATE budgets SET reserved = reserved + $2 WHERE id = $1").await?;
    tx.execute(&statement, &[&budget, &amount]).await?;
    Ok(None)
}

async fn record(tx: &Transaction<'_>, entry: &Entry, now: i64) -> Driven<()> {
    match entry {
        Entry::Release { lock, holder } => {
            let statement = tx.prepare_cached("DELETE FROM holds WHERE lock_name = $1 AND holder = $2").await?;
            tx.execute(&statement, &[lock, holder]).await?;
        }
        Entry::Limit { budget, limit } => {
            let statement = tx.prepare_cached(sql::LIMIT_BUDGET.postgres).await?;
            tx.execute(&statement, &[budget, limit]).await?;
        }
        Entry::Charge { budget, session, ordinal, amount } => {
            let statement = tx
                .prepare_cached(
                    "WITH charged AS (INSERT INTO charges (session, ordinal, budget, amount, at)
                                      VALUES ($2, $3, $1, $4, $5) ON CONFLICT DO NOTHING RETURNING amount)
                     INSERT INTO budgets (id, spent) SELECT $1, amount FROM charged
                     ON CONFLICT (id) DO UPDATE SET spent = budgets.spent + excluded.spent",
                )
                .await?;
            tx.execute(&statement, &[budget, session, ordinal, amount, &now]).await?;
        }
        Entry::Settle { budget, holder } => {
            let statement = tx
                .prepare_cached(
                    "WITH settled AS (DELETE FROM reservations WHERE budget = $1 AND holder = $2 RETURNING amount)
                     UPDATE budgets SET reserved = reserved - settled.amount FROM settled WHERE id = $1",
                )
                .await?;
            tx.execute(&statement, &[budget, holder]).await?;
        }
    }
    Ok(())
}

/// Whether a failed attempt is worth another one, alone as before.
pub(super) fn is_worth_another(fault: &Fault, tries: u32) -> bool {
    match fault {
        Fault::Contended(error) => error.is_transient() || tries < 2,
        Fault::Lost(_) | Fault::Refused(_) => false,
    }
}
