//! What crosses subjects: held places, budgets, reservations and charges.

use domain::{commit::Entry, time::Timestamp};
use rusqlite::{OptionalExtension, params};

use crate::{rules, sql, sqlite::writer::Ledger};

/// ?1 budget, ?2 amount. A budget that nobody limited is unlimited.
const RESERVE: &str = "INSERT INTO budgets (id, reserved) VALUES (?1, ?2)
    ON CONFLICT (id) DO UPDATE SET reserved = reserved + ?2
    WHERE limit_amount IS NULL OR spent + reserved + ?2 <= limit_amount";

const RESERVATION: &str = "INSERT INTO reservations (budget, holder, amount) VALUES (?1, ?2, ?3)
    ON CONFLICT (budget, holder) DO UPDATE SET amount = amount + excluded.amount";

/// ?4 is the budget, so that no parameter is where a habit would look for it.
const CHARGE: &str = "INSERT INTO charges (session, ordinal, budget, amount, at) VALUES (?1, ?2, ?4, ?3, ?5)
    ON CONFLICT DO NOTHING";

const SPEND: &str = "INSERT INTO budgets (id, spent) VALUES (?1, ?2)
    ON CONFLICT (id) DO UPDATE SET spent = spent + excluded.spent";

impl Ledger {
    /// Takes a place of a lock; `Some` names who has them all.
    pub(super) fn hold(&self, lock: &str, holder: &str, slots: u32) -> rusqlite::Result<Option<String>> {
        let holders: Vec<String> = self
            .conn
            .prepare_cached("SELECT holder FROM holds WHERE lock_name = ?1 ORDER BY holder")?
            .query_map([lock], |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?;
        if holders.iter().any(|held| held == holder) {
            return Ok(None);
        }
        if holders.len() >= usize::try_from(slots).unwrap_or(usize::MAX) {
            return Ok(Some(rules::held_by(holders)));
        }
        self.conn.prepare_cached("INSERT INTO holds (lock_name, holder) VALUES (?1, ?2)")?.execute([lock, holder])?;
        Ok(None)
    }

    /// Reserves an amount; `Some` says what the budget's limit is used up by.
    pub(super) fn reserve(&self, budget: &str, holder: &str, amount: i64) -> rusqlite::Result<Option<String>> {
        if self.conn.prepare_cached(RESERVE)?.execute(params![budget, amount])? == 1 {
            self.conn.prepare_cached(RESERVATION)?.execute(params![budget, holder, amount])?;
            return Ok(None);
        }
        self.conn
            .prepare_cached("SELECT spent, reserved, limit_amount FROM budgets WHERE id = ?1")?
            .query_row([budget], |row| Ok(rules::budget_state(row.get(0)?, row.get(1)?, row.get(2)?)))
            .optional()
    }

    pub(super) fn enter(&self, entry: &Entry, now: Timestamp) -> rusqlite::Result<()> {
        match entry {
            Entry::Release { lock, holder } => {
                self.conn
                    .prepare_cached("DELETE FROM holds WHERE lock_name = ?1 AND holder = ?2")?
                    .execute([lock, holder])?;
            }
            Entry::Limit { budget, limit } => {
                self.conn.prepare_cached(sql::LIMIT_BUDGET.sqlite())?.execute(params![budget, limit])?;
            }
            Entry::Charge { budget, session, ordinal, amount } => {
                let charged = self.conn.prepare_cached(CHARGE)?.execute(params![
                    session,
                    ordinal,
                    amount,
                    budget,
                    now.as_micros()
                ])?;
                if charged == 1 {
                    self.conn.prepare_cached(SPEND)?.execute(params![budget, amount])?;
                }
            }
            Entry::Settle { budget, holder } => {
                let settled: Option<i64> = self
                    .conn
                    .prepare_cached("DELETE FROM reservations WHERE budget = ?1 AND holder = ?2 RETURNING amount")?
                    .query_row([budget, holder], |row| row.get(0))
                    .optional()?;
                if let Some(amount) = settled {
                    self.conn
                        .prepare_cached("UPDATE budgets SET reserved = reserved - ?2 WHERE id = ?1")?
                        .execute(params![budget, amount])?;
                }
            }
        }
        Ok(())
    }
}
