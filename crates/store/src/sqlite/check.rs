//! Whether the ledger is sound: what SQLite itself finds, and what must be true of our rows.

use crate::{StoreError, sqlite::SqliteStore};

/// The most findings that are listed of each kind.
const LISTED: u32 = 20;

/// Each gives one sentence for each violation.
const INVARIANTS: [&str; 14] = [
    "SELECT 'task ' || id || ' is leased under fence ' || fence || ', which was never given'
     FROM tasks WHERE fence > (SELECT value FROM counters WHERE name = 'fences')",
    "SELECT 'fence ' || fence || ' is held by ' || count(*) || ' tasks'
     FROM tasks WHERE fence IS NOT NULL GROUP BY fence HAVING count(*) > 1",
    "SELECT 'attempt ' || attempts.id || ' is under way, and task ' || tasks.id || ', which carries it, is ' || state
     FROM attempts JOIN tasks ON tasks.id = json_extract(body, '$.task')
     WHERE status = 'running' AND finished_at IS NOT NULL",
    // Every commit that changes a subject stores events; a message may have been stored by the subject that asked for it.
    "SELECT kind || ' ' || id || ' is at version ' || version || ', its events cover '
         || coalesce(lowest || ' to ' || highest || ' (' || versions || ' versions)', 'nothing')
     FROM (SELECT 'project' AS kind, CAST(id AS TEXT) AS id, version FROM projects
           UNION ALL SELECT 'protocol', CAST(id AS TEXT), version FROM protocols
           UNION ALL SELECT 'run', id, version FROM runs
           UNION ALL SELECT 'person', id, version FROM people
           UNION ALL SELECT 'token', id, version FROM tokens
           UNION ALL SELECT 'catalog', id, version FROM catalogs) AS heads
     LEFT JOIN (SELECT subject_kind, subject, min(version) AS lowest, max(version) AS highest,
                       count(DISTINCT version) AS versions FROM events GROUP BY subject_kind, subject) AS told
       ON told.subject_kind = heads.kind AND told.subject = heads.id
     WHERE lowest IS NOT 1 OR highest IS NOT version OR versions IS NOT version",
    "SELECT 'message ' || id || ' is at version ' || version || ', its events end at ' || highest
     FROM messages JOIN (SELECT subject, min(version) AS lowest, max(version) AS highest,
                                count(DISTINCT version) AS versions
                         FROM events WHERE subject_kind = 'message' GROUP BY subject) AS told ON told.subject = id
     WHERE highest <> version OR versions <> highest - lowest + 1",
    "SELECT 'events of ' || subject_kind || ' ' || subject || ' at version ' || version || ' have a gap'
     FROM events GROUP BY subject_kind, subject, version HAVING max(place) + 1 <> count(*)",
    "SELECT 'events of ' || subject_kind || ' ' || subject || ' have no row' FROM events
     WHERE place = 0 AND NOT CASE subject_kind
         WHEN 'project' THEN EXISTS (SELECT 1 FROM projects WHERE id = CAST(subject AS INTEGER))
         WHEN 'protocol' THEN EXISTS (SELECT 1 FROM protocols WHERE id = CAST(subject AS INTEGER))
         WHEN 'run' THEN EXISTS (SELECT 1 FROM runs WHERE id = subject)
         WHEN 'person' THEN EXISTS (SELECT 1 FROM people WHERE id = subject)
         WHEN 'token' THEN EXISTS (SELECT 1 FROM tokens WHERE id = subject)
         WHEN 'message' THEN EXISTS (SELECT 1 FROM messages WHERE id = subject)
         ELSE EXISTS (SELECT 1 FROM catalogs WHERE id = subject) END
     GROUP BY subject_kind, subject",
    "SELECT 'event ' || id || ' holds no JSON' FROM events
     WHERE NOT json_valid(data) OR (cause IS NOT NULL AND NOT json_valid(cause))",
    "SELECT kind || ' ' || id || ' holds no JSON'
     FROM (SELECT 'project' AS kind, CAST(id AS TEXT) AS id, body FROM projects
           UNION ALL SELECT 'protocol', CAST(id AS TEXT), body FROM protocols
           UNION ALL SELECT 'step', CAST(id AS TEXT), body FROM steps
           UNION ALL SELECT 'run', id, body FROM runs
           UNION ALL SELECT 'gate', id, body FROM gates
           UNION ALL SELECT 'attempt', id, body FROM attempts
           UNION ALL SELECT 'person', id, body FROM people
           UNION ALL SELECT 'identity', id, body FROM identities
           UNION ALL SELECT 'token', id, body FROM tokens
           UNION ALL SELECT 'message', id, body FROM messages
           UNION ALL SELECT 'catalog', id, body FROM catalogs)
     WHERE NOT json_valid(body)",
    "SELECT 'gate ' || id || ' belongs to ' || coalesce(parent, 'nothing') || ', which does not exist' FROM gates
     WHERE NOT EXISTS (SELECT 1 FROM runs WHERE id = substr(gates.parent, 5) AND gates.parent LIKE 'run:%')
       AND NOT EXISTS (SELECT 1 FROM protocols
                       WHERE id = CAST(substr(gates.parent, 10) AS INTEGER) AND gates.parent LIKE 'protocol:%')",
    "SELECT 'step ' || id || ' belongs to ' || coalesce(parent, 'nothing') || ', which does not exist' FROM steps
     WHERE NOT EXISTS (SELECT 1 FROM protocols WHERE id = CAST(steps.parent AS INTEGER))",
    "SELECT 'identity ' || id || ' belongs to ' || coalesce(parent, 'nothing') || ', which does not exist'
     FROM identities
     WHERE NOT EXISTS (SELECT 1 FROM people WHERE id = substr(identities.parent, 8) AND identities.parent LIKE 'person:%')",
    "SELECT 'budget ' || id || ' has spent ' || spent || ', its charges are ' || coalesce(charged, 0)
     FROM budgets LEFT JOIN (SELECT budget, sum(amount) AS charged FROM charges GROUP BY budget) AS c ON c.budget = id
     WHERE spent <> coalesce(charged, 0)",
    "SELECT 'budget ' || id || ' has reserved ' || reserved || ', its reservations are ' || coalesce(held, 0)
     FROM budgets LEFT JOIN (SELECT budget, sum(amount) AS held FROM reservations GROUP BY budget) AS r ON r.budget = id
     WHERE reserved <> coalesce(held, 0)",
];

impl SqliteStore {
    pub async fn check(&self) -> Result<Vec<String>, StoreError> {
        self.inner
            .readers
            .read(|conn| {
                let mut findings: Vec<String> = conn
                    .prepare(&format!("PRAGMA integrity_check({LISTED})"))?
                    .query_map((), |row| row.get(0))?
                    .collect::<rusqlite::Result<_>>()?;
                findings.retain(|finding| finding != "ok");
                for invariant in INVARIANTS {
                    let found: Vec<String> = conn
                        .prepare(&format!("{invariant} LIMIT {LISTED}"))?
                        .query_map((), |row| row.get(0))?
                        .collect::<rusqlite::Result<_>>()?;
                    findings.extend(found);
                }
                Ok(findings)
            })
            .await
    }
}
