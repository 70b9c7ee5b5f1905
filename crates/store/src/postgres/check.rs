//! What must hold of a whole ledger, asked as SQL. Read-only; every question has a bound on its answers.

use crate::{StoreError, postgres::PostgresStore};

/// A question whose rows are faults, and what they mean.
struct Invariant {
    means: &'static str,
    text: &'static str,
}

const INVARIANTS: [Invariant; 12] = [
    Invariant {
        means: "a subject's events do not cover every version of its head",
        // Heads whose every commit told something: as many distinct versions as the head has, none above it.
        text: "SELECT e.subject_kind || ':' || e.subject FROM
                 (SELECT subject_kind, subject, max(version) AS newest, count(DISTINCT version) AS told
                  FROM events GROUP BY subject_kind, subject) e
               LEFT JOIN (SELECT 'project' AS kind, id::text AS id, version FROM projects
                          UNION ALL SELECT 'protocol', id::text, version FROM protocols
                          UNION ALL SELECT 'run', id, version FROM runs
                          UNION ALL SELECT 'person', id, version FROM people
                          UNION ALL SELECT 'token', id, version FROM tokens
                          UNION ALL SELECT 'message', id, version FROM messages
                          UNION ALL SELECT 'catalog', id, version FROM catalogs) h
                 ON h.kind = e.subject_kind AND h.id = e.subject
               WHERE h.id IS NULL OR e.newest > h.version LIMIT 20",
    },
    Invariant {
        means: "the events of a commit are not numbered from 0 without a gap",
        text: "SELECT subject_kind || ':' || subject || ' version ' || version FROM events
               GROUP BY subject_kind, subject, version HAVING max(place) + 1 <> count(*) OR min(place) <> 0 LIMIT 20",
    },
    Invariant {
        means: "a task is held by two claims",
        text: "SELECT t.id FROM claims c CROSS JOIN LATERAL unnest(c.tasks) WITH ORDINALITY u (id, place)
               JOIN task_rows t ON t.id = u.id AND t.state = 'open' AND t.past_fence < fence_of(c.number, u.place)
               GROUP BY t.id HAVING count(*) > 1 LIMIT 20",
    },
    Invariant {
        means: "a claim has a number that was never given",
        text: "SELECT number::text FROM claims WHERE number > (SELECT last_value FROM fences) LIMIT 20",
    },
    Invariant {
        means: "a task has a fence that was never given",
        text: "SELECT id FROM task_rows WHERE claim_of(past_fence) > (SELECT last_value FROM fences) LIMIT 20",
    },
    Invariant {
        means: "a task neither waits, nor is held, nor has ended",
        text: "SELECT id FROM tasks WHERE state = 'leased' AND fence IS NULL LIMIT 20",
    },
    Invariant {
        means: "a task waits that is held, or waits twice, or has ended",
        text: "SELECT w.id FROM (SELECT id, due_at, lane, priority, project, engine, false AS later FROM tasks_ready
                                 UNION ALL SELECT id, due_at, NULL, NULL, NULL, NULL, true FROM tasks_scheduled) w
               LEFT JOIN task_rows t ON t.id = w.id AND t.state = 'open' AND t.due_at = w.due_at
                 AND (w.later OR (t.lane, t.priority) = (w.lane, w.priority)
                                 AND (t.project, t.engine) IS NOT DISTINCT FROM (w.project, w.engine))
               LEFT JOIN (SELECT u.id, max(fence_of(c.number, u.place)) AS fence
                          FROM claims c CROSS JOIN LATERAL unnest(c.tasks) WITH ORDINALITY u (id, place)
                          GROUP BY u.id) h ON h.id = w.id
               GROUP BY w.id HAVING count(*) > 1 OR bool_or(t.id IS NULL OR h.fence > t.past_fence) LIMIT 20",
    },
    Invariant {
        means: "a task is in a state its columns contradict",
        text: "SELECT id FROM task_rows WHERE (state = 'open') <> (finished_at IS NULL) LIMIT 20",
    },
    Invariant {
        means: "an attempt is under way, and no task is left that could end it",
        text: "SELECT a.id FROM attempts a
               JOIN task_rows t ON t.id = CASE WHEN a.status = 'running' THEN (a.body::json)->>'task' END
               WHERE t.finished_at IS NOT NULL LIMIT 20",
    },
    Invariant {
        means: "a budget's spending is not the sum of its charges",
        text: "SELECT coalesce(b.id, c.budget) FROM budgets b
               FULL JOIN (SELECT budget, sum(amount) AS amount FROM charges GROUP BY budget) c ON c.budget = b.id
               WHERE coalesce(b.spent, 0) <> coalesce(c.amount, 0) LIMIT 20",
    },
    Invariant {
        means: "a budget's reserved amount is not the sum of its reservations",
        text: "SELECT coalesce(b.id, r.budget) FROM budgets b
               FULL JOIN (SELECT budget, sum(amount) AS amount FROM reservations GROUP BY budget) r ON r.budget = b.id
               WHERE coalesce(b.reserved, 0) <> coalesce(r.amount, 0) LIMIT 20",
    },
    Invariant {
        means: "a row's id is above what its sequence gave",
        text: "SELECT 'events ' || id FROM event_batches
               WHERE id > (SELECT last_value FROM event_batches_id_seq) ORDER BY id LIMIT 20",
    },
];

impl PostgresStore {
    pub(crate) async fn check(&self) -> Result<Vec<String>, StoreError> {
        let mut faults = Vec::new();
        for invariant in INVARIANTS {
            for row in self.read(invariant.text, &[]).await? {
                faults.push(format!("{}: {}", invariant.means, row.get::<_, Option<String>>(0).unwrap_or_default()));
            }
        }
        Ok(faults)
    }
}
