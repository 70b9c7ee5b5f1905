//! One statement for any number of commits: a data-modifying WITH over arrays.
//!
//! The text holds exactly the parts that its commits need, put together from constant pieces, so that equal shapes share
//! one prepared statement; every value is bound. First rows are locked (tasks, heads, expects, each in order of its key)
//! and compared with what was believed; what survives takes its dedup keys; what then is left is applied, all in one
//! snapshot and one transaction. Commits of one statement share no row (see `batch`). Answers the places of the applied.

use domain::commit::{At, Commit, Row, SubjectKind, Table, Then};

use crate::{
    postgres::columns::{Column, Columns},
    rules,
};

/// A statement's text and the values it binds.
#[derive(Debug)]
pub(super) struct Composed<'a> {
    pub(super) text: String,
    pub(super) columns: Columns<'a>,
}

/// Puts the statement for these commits together. They were validated: the head row comes first, integer ids are
/// integers. The statement answers one `ord`, counted from 0, for each commit that was applied.
pub(super) fn compose<'a>(commits: &[&'a Commit]) -> Composed<'a> {
    let numbered: Vec<(i64, &'a Commit)> = (0i64..).zip(commits.iter().copied()).collect();
    let mut parts = Parts { columns: Columns::default(), with: Vec::new(), conditions: Vec::new() };
    parts.operations(&numbered);
    parts.held(&numbered);
    parts.heads(&numbered);
    parts.expected(&numbered);
    parts.fitting(&numbered);
    parts.rows(&numbered);
    parts.events(&numbered);
    parts.tasks(&numbered);
    parts.withdrawals(&numbered);
    parts.acknowledgements(&numbered);
    Composed { text: format!("WITH {}\nSELECT ord FROM applied", parts.with.join(",\n")), columns: parts.columns }
}

/// What a commit believes of its subject, as one number: that there is none, that it is new, or its version.
fn believed(commit: &Commit) -> i64 {
    match commit.subject {
        None => -1,
        Some((_, At::New)) => 0,
        Some((_, At::Version(version))) => version,
    }
}

type Numbered<'a> = (i64, &'a Commit);

struct Parts<'a> {
    columns: Columns<'a>,
    with: Vec<String>,
    conditions: Vec<String>,
}

impl<'a> Parts<'a> {
    /// One row for each commit.
    fn operations(&mut self, commits: &[Numbered<'a>]) {
        let mut columns = vec![
            ("ord", Column::Big(commits.iter().map(|(ord, _)| *ord).collect())),
            ("commit_id", Column::Text(commits.iter().map(|(_, c)| c.id.as_str()).collect())),
            ("subject_kind", maybe_text(commits, |c| c.subject.as_ref().map(|(subject, _)| subject.kind.as_str()))),
            ("subject", maybe_text(commits, |c| c.subject.as_ref().map(|(subject, _)| subject.id.as_str()))),
            ("believed", Column::Big(commits.iter().map(|(_, c)| believed(c)).collect())),
            ("actor", Column::Text(commits.iter().map(|(_, c)| c.cause.actor.as_str()).collect())),
            ("now", Column::Big(commits.iter().map(|(_, c)| c.cause.now.as_micros()).collect())),
        ];
        if commits.iter().any(|(_, c)| c.ack.is_some()) {
            columns.push(("task", maybe_text(commits, |c| c.ack.as_ref().map(|ack| ack.task.as_str()))));
            let fences = commits.iter().map(|(_, c)| c.ack.as_ref().map(|ack| ack.fence.0)).collect();
            columns.push(("fence", Column::MaybeBig(fences)));
        }
        if commits.iter().any(|(_, c)| c.cause.dedup.is_some()) {
            columns.push(("scope", maybe_text(commits, |c| c.cause.dedup.as_ref().map(|dedup| dedup.scope.as_str()))));
            columns.push(("key", maybe_text(commits, |c| c.cause.dedup.as_ref().map(|dedup| dedup.key.as_str()))));
            columns.push((
                "request_hash",
                maybe_text(commits, |c| c.cause.dedup.as_ref().map(|dedup| dedup.request_hash.as_str())),
            ));
            columns
                .push(("answer", maybe_text(commits, |c| c.cause.dedup.as_ref().map(|dedup| dedup.answer.as_str()))));
        }
        let source = self.columns.unnest("o", columns);
        self.with.push(format!("op AS MATERIALIZED (SELECT * FROM {source})"));
    }

    /// The acknowledged tasks that are still leased under the fence.
    fn held(&mut self, commits: &[Numbered<'a>]) {
        let tasks: Vec<&str> =
            commits.iter().filter_map(|(_, c)| c.ack.as_ref()).map(|ack| ack.task.as_str()).collect();
        if tasks.is_empty() {
            return;
        }
        let tasks = self.columns.bind(Column::Text(tasks));
        self.with.push(format!(
            "held AS MATERIALIZED (SELECT id, fence FROM tasks WHERE id = ANY({tasks}) AND state = 'leased'
                                   ORDER BY id FOR NO KEY UPDATE)"
        ));
        self.conditions.push("(op.task IS NULL OR (op.task, op.fence) IN (SELECT id, fence FROM held))".to_owned());
    }

    /// The heads that are at a version, and those that must not exist yet.
    fn heads(&mut self, commits: &[Numbered<'a>]) {
        let mut matches = Vec::new();
        for kind in SubjectKind::ALL {
            let (old, new): (Vec<&str>, Vec<&str>) = ids_of_heads(commits, kind);
            let (table, name) = (kind.head().name(), kind.as_str());
            // A head that another transaction creates meanwhile is found by its primary key: the statement fails and
            // each commit runs again alone.
            if !new.is_empty() {
                let ids = self.ids(kind.head(), new);
                self.with.push(format!(
                    "present_{table} AS MATERIALIZED (SELECT id::text AS id FROM {table} WHERE id = ANY({ids}))"
                ));
                matches.push(format!(
                    "WHEN op.believed = 0 AND op.subject_kind = '{name}' \
                     THEN NOT (op.subject IN (SELECT id FROM present_{table}))"
                ));
            }
            if !old.is_empty() {
                let ids = self.ids(kind.head(), old);
                self.with.push(format!(
                    "head_{table} AS MATERIALIZED (SELECT id::text AS id, version FROM {table} WHERE id = ANY({ids})
                                                   ORDER BY {table}.id FOR NO KEY UPDATE)"
                ));
                matches.push(format!(
                    "WHEN op.subject_kind = '{name}' \
                     THEN (op.subject, op.believed) IN (SELECT id, version FROM head_{table})"
                ));
            }
        }
        if !matches.is_empty() {
            self.conditions.push(format!("CASE {} ELSE op.subject_kind IS NULL END", matches.join(" ")));
        }
    }

    /// Rows of other subjects that the decisions relied on; shared locks, so that they stay as they are until the end.
    fn expected(&mut self, commits: &[Numbered<'a>]) {
        for table in Table::ALL {
            let expects: Vec<_> = commits
                .iter()
                .flat_map(|(ord, c)| c.expects.iter().map(move |expect| (*ord, expect)))
                .filter(|(_, expect)| expect.table == table)
                .collect();
            if expects.is_empty() {
                continue;
            }
            let name = table.name();
            let ids = self.ids(table, expects.iter().map(|(_, expect)| expect.id.as_str()).collect());
            self.with.push(format!(
                "as_is_{name} AS MATERIALIZED (SELECT id::text AS id, version FROM {name} WHERE id = ANY({ids})
                                               ORDER BY {name}.id FOR SHARE)"
            ));
            let source = self.columns.unnest(
                "x",
                [
                    ("ord", Column::Big(expects.iter().map(|(ord, _)| *ord).collect())),
                    ("id", Column::Text(expects.iter().map(|(_, expect)| expect.id.as_str()).collect())),
                    ("version", Column::Big(expects.iter().map(|(_, expect)| expect.version).collect())),
                ],
            );
            self.conditions.push(format!(
                "NOT (op.ord IN (SELECT x.ord FROM {source}
                                 WHERE NOT ((x.id, x.version) IN (SELECT id, version FROM as_is_{name}))))"
            ));
        }
    }

    /// What holds of all this takes its dedup keys; whoever finds a key taken is not applied.
    fn fitting(&mut self, commits: &[Numbered<'a>]) {
        let conditions = match self.conditions.is_empty() {
            true => String::new(),
            false => format!(" WHERE {}", self.conditions.join("\n AND ")),
        };
        if commits.iter().all(|(_, c)| c.cause.dedup.is_none()) {
            self.with.push(format!("applied AS MATERIALIZED (SELECT * FROM op{conditions})"));
            return;
        }
        self.with.push(format!("fit AS MATERIALIZED (SELECT * FROM op{conditions})"));
        self.with.push(
            "named AS (INSERT INTO dedup (scope, key, request_hash, answer, commit_id, at)
                       SELECT scope, key, request_hash, answer, commit_id, now FROM fit WHERE scope IS NOT NULL
                       ORDER BY scope, key
                       ON CONFLICT DO NOTHING RETURNING commit_id)"
                .to_owned(),
        );
        self.with.push(
            "applied AS MATERIALIZED (SELECT * FROM fit
                                      WHERE scope IS NULL OR commit_id IN (SELECT commit_id FROM named))"
                .to_owned(),
        );
    }

    fn rows(&mut self, commits: &[Numbered<'a>]) {
        for table in Table::ALL {
            let (mut changed, mut created, mut children) = (Vec::new(), Vec::new(), Vec::new());
            for (ord, commit) in commits {
                for (place, row) in commit.rows.iter().enumerate().filter(|(_, row)| row.table == table) {
                    match (place, &commit.subject) {
                        (0, Some((_, At::New))) => created.push((*ord, row)),
                        (0, Some((_, At::Version(_)))) => changed.push((*ord, row)),
                        (_, _) => children.push((*ord, row)),
                    }
                }
            }
            let name = table.name();
            if !changed.is_empty() {
                let ids = self.ids(table, changed.iter().map(|(_, row)| row.id.as_str()).collect());
                let source = self.row_source(table, &changed);
                self.with.push(format!(
                    "changed_{name} AS (UPDATE {name} t
                       SET version = a.believed + 1, status = x.status, parent = x.parent, ordinal = x.ordinal,
                           name = x.name, body = x.body, commit_id = a.commit_id, updated_at = a.now
                       FROM {source} JOIN applied a ON a.ord = x.ord
                       WHERE t.id = x.id AND t.id = ANY({ids}))"
                ));
            }
            if !created.is_empty() {
                let source = self.row_source(table, &created);
                self.with.push(format!("created_{name} AS ({})", insert_rows(name, &source)));
            }
            if !children.is_empty() {
                let source = self.row_source(table, &children);
                // A message is stored once; a taken id or name is an error. A child stays under its parent: a row of
                // another subject gets version 0, which its table refuses, and with it the whole commit.
                let repeated = match table {
                    Table::Messages => String::new(),
                    _ => format!(
                        "ON CONFLICT (id) DO UPDATE
                         SET version = CASE WHEN {name}.parent IS NOT DISTINCT FROM excluded.parent
                                            THEN excluded.version ELSE 0 END,
                             status = excluded.status, ordinal = excluded.ordinal, name = excluded.name,
                             body = excluded.body, commit_id = excluded.commit_id, updated_at = excluded.updated_at"
                    ),
                };
                self.with.push(format!("children_{name} AS ({} ORDER BY x.id {repeated})", insert_rows(name, &source)));
            }
        }
    }

    fn events(&mut self, commits: &[Numbered<'a>]) {
        let events: Vec<_> = commits
            .iter()
            .flat_map(|(ord, c)| (0i16..).zip(&c.events).map(move |(place, event)| (*ord, *c, place, event)))
            .collect();
        if events.is_empty() {
            return;
        }
        let source = self.columns.unnest(
            "x",
            [
                ("ord", Column::Big(events.iter().map(|(ord, ..)| *ord).collect())),
                ("place", Column::Small(events.iter().map(|(_, _, place, _)| *place).collect())),
                ("kind", Column::Text(events.iter().map(|(.., event)| event.kind.as_str()).collect())),
                ("schema", Column::Small(events.iter().map(|(.., event)| event.schema).collect())),
                ("project", Column::MaybeBig(events.iter().map(|(.., event)| event.project).collect())),
                ("step", Column::MaybeBig(events.iter().map(|(.., event)| event.step).collect())),
                ("data", Column::Text(events.iter().map(|(.., event)| event.data.as_str()).collect())),
                (
                    "cause",
                    Column::MaybeOwned(
                        events.iter().map(|(_, c, place, _)| (*place == 0).then(|| rules::cause_text(c))).collect(),
                    ),
                ),
            ],
        );
        self.with.push(format!(
            "told AS (INSERT INTO events (subject_kind, subject, version, place, kind, schema, at, actor, project, step,
                                          data, cause)
               SELECT a.subject_kind, a.subject, a.believed + 1, x.place, x.kind, x.schema, a.now, a.actor, x.project,
                      x.step, x.data, x.cause
               FROM {source} JOIN applied a ON a.ord = x.ord ORDER BY x.ord, x.place)"
        ));
    }

    fn tasks(&mut self, commits: &[Numbered<'a>]) {
        let tasks: Vec<_> =
            commits.iter().flat_map(|(ord, c)| c.tasks.iter().map(move |task| (*ord, c.cause.now, task))).collect();
        if tasks.is_empty() {
            return;
        }
        let due: Vec<_> = tasks.iter().map(|(_, now, task)| (task.due_at.unwrap_or(*now), *now)).collect();
        let source = self.columns.unnest(
            "x",
            [
                ("ord", Column::Big(tasks.iter().map(|(ord, ..)| *ord).collect())),
                ("id", Column::Text(tasks.iter().map(|(.., task)| task.id.as_str()).collect())),
                ("kind", Column::Text(tasks.iter().map(|(.., task)| task.kind.as_str()).collect())),
                ("lane", Column::Text(tasks.iter().map(|(.., task)| task.kind.lane().as_str()).collect())),
                ("subject_kind", Column::Text(tasks.iter().map(|(.., task)| task.subject.kind.as_str()).collect())),
                ("subject", Column::Text(tasks.iter().map(|(.., task)| task.subject.id.as_str()).collect())),
                ("project", Column::MaybeBig(tasks.iter().map(|(.., task)| task.project).collect())),
                ("engine", Column::MaybeText(tasks.iter().map(|(.., task)| task.engine.as_deref()).collect())),
                ("payload", Column::Text(tasks.iter().map(|(.., task)| task.payload.as_str()).collect())),
                ("priority", Column::Small(tasks.iter().map(|(.., task)| task.priority).collect())),
                (
                    "state",
                    Column::Text(due.iter().map(|(due, now)| if due > now { "scheduled" } else { "ready" }).collect()),
                ),
                ("due_at", Column::Big(due.iter().map(|(due, _)| due.as_micros()).collect())),
                ("max_failures", Column::Int(tasks.iter().map(|(.., task)| i32::from(task.max_failures)).collect())),
            ],
        );
        self.with.push(format!(
            "asked AS (INSERT INTO tasks (id, kind, lane, subject_kind, subject, project, engine, payload, priority, state,
                                          due_at, max_failures, created_at)
               SELECT x.id, x.kind, x.lane, x.subject_kind, x.subject, x.project, x.engine, x.payload, x.priority,
                      x.state, x.due_at, x.max_failures, a.now
               FROM {source} JOIN applied a ON a.ord = x.ord ORDER BY x.ord)"
        ));
    }

    /// Takes waiting tasks back. Those that these commits add are not seen, those they acknowledge are left alone.
    fn withdrawals(&mut self, commits: &[Numbered<'a>]) {
        let mut wanted: Vec<(i64, &'a str, &'a str, Option<&'static str>)> = Vec::new();
        for (ord, commit) in commits {
            for withdraw in &commit.withdraw {
                let subject = (withdraw.subject.kind.as_str(), withdraw.subject.id.as_str());
                match withdraw.kinds.is_empty() {
                    true => wanted.push((*ord, subject.0, subject.1, None)),
                    false => {
                        wanted.extend(
                            withdraw.kinds.iter().map(|kind| (*ord, subject.0, subject.1, Some(kind.as_str()))),
                        );
                    }
                }
            }
        }
        if wanted.is_empty() {
            return;
        }
        let acked = commits.iter().filter_map(|(_, c)| c.ack.as_ref()).map(|ack| ack.task.as_str()).collect();
        let acked = self.columns.bind(Column::Text(acked));
        let kinds = self.columns.bind(Column::Text(wanted.iter().map(|(_, kind, ..)| *kind).collect()));
        let subjects = self.columns.bind(Column::Text(wanted.iter().map(|(_, _, subject, _)| *subject).collect()));
        let source = self.columns.unnest(
            "x",
            [
                ("ord", Column::Big(wanted.iter().map(|(ord, ..)| *ord).collect())),
                ("subject_kind", Column::Text(wanted.iter().map(|(_, kind, ..)| *kind).collect())),
                ("subject", Column::Text(wanted.iter().map(|(_, _, subject, _)| *subject).collect())),
                ("kind", Column::MaybeText(wanted.iter().map(|(.., kind)| *kind).collect())),
            ],
        );
        self.with.push(format!(
            "withdrawn AS (UPDATE tasks t
               SET state = CASE t.state WHEN 'leased' THEN 'leased' ELSE 'withdrawn' END, stop = t.state = 'leased',
                   finished_at = CASE t.state WHEN 'leased' THEN NULL ELSE a.now END
               FROM {source} JOIN applied a ON a.ord = x.ord
               WHERE t.subject_kind = ANY({kinds}) AND t.subject = ANY({subjects})
                 AND t.subject_kind = x.subject_kind AND t.subject = x.subject AND (x.kind IS NULL OR t.kind = x.kind)
                 AND t.state IN ('scheduled', 'ready', 'leased') AND t.id <> ALL({acked}))"
        ));
    }

    /// What becomes of the tasks the commits were made for; they are locked since `held`.
    fn acknowledgements(&mut self, commits: &[Numbered<'a>]) {
        let acks: Vec<_> = commits
            .iter()
            .filter_map(|(ord, c)| {
                c.ack.as_ref().map(|ack| (*ord, ack, Outcome::of(&ack.then, c.cause.now.as_micros())))
            })
            .filter_map(|(ord, ack, outcome)| outcome.map(|outcome| (ord, ack, outcome)))
            .collect();
        if acks.is_empty() {
            return;
        }
        let ids = self.columns.bind(Column::Text(acks.iter().map(|(_, ack, _)| ack.task.as_str()).collect()));
        let source = self.columns.unnest(
            "x",
            [
                ("ord", Column::Big(acks.iter().map(|(ord, ..)| *ord).collect())),
                ("id", Column::Text(acks.iter().map(|(_, ack, _)| ack.task.as_str()).collect())),
                ("state", Column::Text(acks.iter().map(|(.., outcome)| outcome.state).collect())),
                ("due_at", Column::MaybeBig(acks.iter().map(|(.., outcome)| outcome.due_at).collect())),
                ("finished_at", Column::MaybeBig(acks.iter().map(|(.., outcome)| outcome.finished_at).collect())),
                ("failed", Column::Int(acks.iter().map(|(.., outcome)| outcome.failed).collect())),
                ("error", Column::MaybeText(acks.iter().map(|(.., outcome)| outcome.error).collect())),
            ],
        );
        self.with.push(format!(
            "acked AS (UPDATE tasks t
               SET state = x.state, due_at = coalesce(x.due_at, t.due_at), finished_at = x.finished_at,
                   failures = least(t.failures + x.failed, 65535), error = coalesce(x.error, t.error),
                   fence = NULL, incarnation = NULL, lease_until = NULL, stop = false
               FROM {source} JOIN applied a ON a.ord = x.ord
               WHERE t.id = x.id AND t.id = ANY({ids}))"
        ));
    }

    /// Ids as the table's key has them.
    fn ids(&mut self, table: Table, ids: Vec<&'a str>) -> String {
        let column = ids_column(table, ids);
        self.columns.bind(column)
    }

    fn row_source(&mut self, table: Table, rows: &[(i64, &'a Row)]) -> String {
        self.columns.unnest(
            "x",
            [
                ("ord", Column::Big(rows.iter().map(|(ord, _)| *ord).collect())),
                ("id", ids_column(table, rows.iter().map(|(_, row)| row.id.as_str()).collect())),
                ("status", Column::Text(rows.iter().map(|(_, row)| row.status.as_str()).collect())),
                ("parent", Column::MaybeText(rows.iter().map(|(_, row)| row.parent.as_deref()).collect())),
                ("ordinal", Column::Big(rows.iter().map(|(_, row)| row.ordinal).collect())),
                ("name", Column::MaybeText(rows.iter().map(|(_, row)| row.name.as_deref()).collect())),
                ("body", Column::Text(rows.iter().map(|(_, row)| row.body.as_str()).collect())),
            ],
        )
    }
}

/// The columns of a task after its acknowledgement, as `domain::task::Task::acknowledge` says.
#[derive(Debug)]
pub(super) struct Outcome<'a> {
    pub(super) state: &'static str,
    pub(super) due_at: Option<i64>,
    pub(super) finished_at: Option<i64>,
    pub(super) failed: i32,
    pub(super) error: Option<&'a str>,
}

impl<'a> Outcome<'a> {
    /// `None`: still leased.
    pub(super) fn of(then: &'a Then, now: i64) -> Option<Self> {
        match then {
            Then::Keep => None,
            Then::Done => Some(Self { state: "done", due_at: None, finished_at: Some(now), failed: 0, error: None }),
            Then::Dead { error } => {
                Some(Self { state: "dead", due_at: None, finished_at: Some(now), failed: 0, error: Some(error) })
            }
            Then::Again { due_at, failed } => Some(Self {
                state: if due_at.as_micros() > now { "scheduled" } else { "ready" },
                due_at: Some(due_at.as_micros()),
                finished_at: None,
                failed: i32::from(failed.is_some()),
                error: failed.as_deref(),
            }),
        }
    }
}

fn maybe_text<'a>(commits: &[Numbered<'a>], value: impl Fn(&'a Commit) -> Option<&'a str>) -> Column<'a> {
    Column::MaybeText(commits.iter().map(|(_, commit)| value(commit)).collect())
}

/// The ids of this kind's heads that are at a version, and of those that are new.
fn ids_of_heads<'a>(commits: &[Numbered<'a>], kind: SubjectKind) -> (Vec<&'a str>, Vec<&'a str>) {
    let (mut old, mut new) = (Vec::new(), Vec::new());
    for (subject, at) in commits.iter().filter_map(|(_, c)| c.subject.as_ref()) {
        match at {
            _ if subject.kind != kind => {}
            At::Version(_) => old.push(subject.id.as_str()),
            At::New => new.push(subject.id.as_str()),
        }
    }
    (old, new)
}

fn ids_column(table: Table, ids: Vec<&str>) -> Column<'_> {
    match table.has_integer_ids() {
        // Validated before; an id that is no number would find no row.
        true => Column::Big(ids.iter().map(|id| id.parse().unwrap_or(-1)).collect()),
        false => Column::Text(ids),
    }
}

fn insert_rows(name: &str, source: &str) -> String {
    format!(
        "INSERT INTO {name} (id, version, status, parent, ordinal, name, body, commit_id, created_at, updated_at)
           SELECT x.id, greatest(a.believed + 1, 1), x.status, x.parent, x.ordinal, x.name, x.body, a.commit_id, a.now, a.now
           FROM {source} JOIN applied a ON a.ord = x.ord"
    )
}
