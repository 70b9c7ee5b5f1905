//! Texts that both dialects allow, written with `$N` as PostgreSQL has them.
//!
//! rusqlite numbers `$N` by first appearance and would bind the wrong values silently, so SQLite is given `?N`, rewritten
//! once.

use std::sync::OnceLock;

/// One text for both databases.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) postgres: &'static str,
    sqlite: OnceLock<String>,
}

impl Shared {
    const fn new(text: &'static str) -> Self {
        Self { postgres: text, sqlite: OnceLock::new() }
    }

    pub(crate) fn sqlite(&self) -> &str {
        self.sqlite.get_or_init(|| numbered(self.postgres))
    }
}

/// The same text with `?N`. None of our texts has a `$` in a literal.
pub(crate) fn numbered(text: &str) -> String {
    text.replace('$', "?")
}

/// The answer kept for a key.
pub(crate) static FIND_ANSWER: Shared =
    Shared::new("SELECT request_hash, answer, at FROM dedup WHERE scope = $1 AND key = $2");

/// The cause kept with a commit's first event.
pub(crate) static FIND_CAUSE: Shared =
    Shared::new("SELECT cause FROM events WHERE subject_kind = $1 AND subject = $2 AND version = $3 AND place = 0");

/// Creates a budget or changes its limit.
pub(crate) static LIMIT_BUDGET: Shared = Shared::new(
    "INSERT INTO budgets (id, limit_amount) VALUES ($1, $2)
     ON CONFLICT (id) DO UPDATE SET limit_amount = excluded.limit_amount",
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_keep_their_numbers_on_sqlite() {
        assert_eq!(
            numbered("UPDATE t SET a = $3 WHERE id = $1 AND b = $12"),
            "UPDATE t SET a = ?3 WHERE id = ?1 AND b = ?12"
        );
    }
}
