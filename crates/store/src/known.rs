//! What this process has read of tables that every request asks and that hardly ever change: people, tokens, the
//! catalog, projects.
//!
//! A commit of this process that writes such a table forgets what was read of it, before anybody is told that it is
//! durable. On SQLite nobody else writes, so what is found here is what a read would find. On PostgreSQL others do: there
//! a row is believed for [`FRESH`], one that is missing is not believed at all, and lists are always read. Nothing that a
//! commit rests on comes from here; its versions and guards are checked where it is made.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use domain::commit::{Row, Table};

use crate::query::{RowQuery, StoredRow};

/// How long a row is believed that another process may change.
const FRESH: Duration = Duration::from_secs(1);
/// The most rows that are kept.
const MAX_ROWS: usize = 4096;
/// A longer list is read each time.
const MAX_LIST: usize = 100;

/// What was asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Question {
    Row(Table, String),
    Name(Table, String),
    List(RowQuery),
}

/// Clones share what is known.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    /// Whether other processes write the same tables.
    is_shared: bool,
    /// How often each table was changed by this process.
    changes: Arc<[AtomicU64; Table::ALL.len()]>,
    answers: Arc<Mutex<Answers>>,
}

#[derive(Debug, Default)]
struct Answers {
    of: HashMap<Question, Answer>,
    rows: usize,
}

#[derive(Debug)]
struct Answer {
    rows: Arc<[StoredRow]>,
    since: Since,
}

/// The state of a table before it was read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Since {
    changes: u64,
    at: Instant,
}

/// Tables that a commit writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tables(u16);

impl Tables {
    pub(crate) fn of(rows: &[Row]) -> Self {
        Self(rows.iter().fold(0, |tables, row| tables | 1 << place(row.table)))
    }

    pub(crate) fn join(&mut self, others: Self) {
        self.0 |= others.0;
    }
}

fn place(table: Table) -> usize {
    Table::ALL.iter().position(|one| *one == table).unwrap_or(0)
}

impl Question {
    fn table(&self) -> Table {
        match self {
            Self::Row(table, _) | Self::Name(table, _) => *table,
            Self::List(query) => query.table,
        }
    }
}

impl Known {
    /// Of a ledger that only this process writes.
    pub(crate) fn alone() -> Self {
        Self { is_shared: false, changes: Arc::default(), answers: Arc::default() }
    }

    pub(crate) fn shared() -> Self {
        Self { is_shared: true, ..Self::alone() }
    }

    /// To be taken before the question is put to the database.
    pub(crate) fn since(&self, question: &Question) -> Since {
        let changes = self.changes[place(question.table())].load(Ordering::SeqCst);
        Since { changes, at: host::clock::monotonic() }
    }

    /// What was answered, if it still holds `now`.
    pub(crate) fn find(&self, question: &Question, now: Since) -> Option<Arc<[StoredRow]>> {
        let answers = self.lock();
        let Answer { rows, since } = answers.of.get(question)?;
        let is_fresh = !self.is_shared || now.at.saturating_duration_since(since.at) < FRESH;
        (since.changes == now.changes && is_fresh).then(|| Arc::clone(rows))
    }

    pub(crate) fn remember(&self, question: Question, since: Since, rows: &Arc<[StoredRow]>) {
        let is_worth_it = match (&question, self.is_shared) {
            (Question::List(_), false) => rows.len() <= MAX_LIST,
            (Question::List(_), true) => false,
            (Question::Row(..) | Question::Name(..), is_shared) => !(is_shared && rows.is_empty()),
        };
        if !is_worth_it {
            return;
        }
        let mut answers = self.lock();
        // What is asked for is soon known again.
        if answers.rows >= MAX_ROWS {
            *answers = Answers::default();
        }
        answers.rows += rows.len().max(1);
        if let Some(old) = answers.of.insert(question, Answer { rows: Arc::clone(rows), since }) {
            answers.rows -= old.rows.len().max(1);
        }
    }

    /// After a commit may have become durable, and before anybody is told so.
    pub(crate) fn forget(&self, tables: Tables) {
        for (place, changes) in self.changes.iter().enumerate() {
            if tables.0 & 1 << place != 0 {
                changes.fetch_add(1, Ordering::SeqCst);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Answers> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use domain::time::Timestamp;

    use super::*;

    fn person(id: &str) -> (Question, Arc<[StoredRow]>) {
        let row = StoredRow {
            table: Table::People,
            id: id.to_owned(),
            version: 1,
            status: "active".to_owned(),
            parent: None,
            ordinal: 0,
            name: None,
            body: "{}".to_owned(),
            created_at: Timestamp::default(),
            updated_at: Timestamp::default(),
        };
        (Question::Row(Table::People, id.to_owned()), Arc::new([row]))
    }

    fn written(table: Table) -> Tables {
        Tables(1 << place(table))
    }

    #[test]
    fn a_commit_forgets_what_was_read_of_its_tables_also_while_it_was_made() {
        let known = Known::alone();
        let (ada, rows) = person("ada");
        known.remember(ada.clone(), known.since(&ada), &rows);
        known.forget(written(Table::Tokens));
        assert_eq!(known.find(&ada, known.since(&ada)), Some(rows.clone()));

        let before = known.since(&ada);
        known.forget(written(Table::People));
        assert_eq!(known.find(&ada, known.since(&ada)), None);

        known.remember(ada.clone(), before, &rows);
        assert_eq!(known.find(&ada, known.since(&ada)), None);
    }

    #[test]
    fn what_others_may_change_is_believed_for_a_moment_and_what_is_missing_not_at_all() {
        let known = Known::shared();
        let ((ada, rows), (bob, _)) = (person("ada"), person("bob"));
        let now = known.since(&ada);
        known.remember(ada.clone(), now, &rows);
        known.remember(bob.clone(), now, &Vec::new().into());

        let later = |span| Since { at: now.at + span, ..now };
        assert!(known.find(&ada, later(FRESH / 2)).is_some());
        assert!(known.find(&ada, later(FRESH)).is_none());
        assert!(known.find(&bob, now).is_none());
    }

    #[test]
    fn only_so_many_rows_are_kept() {
        let known = Known::alone();
        for n in 0..3 * MAX_ROWS {
            let (question, rows) = person(&n.to_string());
            known.remember(question.clone(), known.since(&question), &rows);
        }

        let answers = known.lock();
        assert!(answers.rows <= MAX_ROWS && answers.of.len() == answers.rows);
    }
}
