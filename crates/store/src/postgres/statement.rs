//! One statement for any number of commits: a data-modifying WITH over arrays.
//!
//! The text holds exactly the parts that its commits need, put together from constant pieces, so that equal shapes share
//! one prepared statement; every value is bound. First what the commits believe is looked at (tasks and expects are
//! locked, each in order of its key; new heads must not be there yet, nor dedup keys when they are looked up). What fits
//! changes its heads, each at the version it believes in, and what has changed them is applied, all in one snapshot and
//! one transaction. A row that another node adds or changes meanwhile fails the statement or leaves its commit out.
//! Commits of one statement share no row (see `batch`). Answers the places of the applied.

mod queue;

use domain::commit::{At, Commit, Row, SubjectKind, Table};

use crate::{
    postgres::{
        parameters::{Parameter, Parameters},
        records::Records,
        told,
    },
    rules,
};

/// A statement's text and the values it binds.
#[derive(Debug)]
pub(super) struct Composed<'a> {
    pub(super) text: String,
    pub(super) parameters: Parameters<'a>,
}

/// What becomes of a commit whose dedup key is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repeats {
    /// It fails the statement, which spares all others a look.
    Fail,
    /// It is looked for, and left out.
    AreLeftOut,
}

/// Puts the statement for these commits together. They were validated: the head row comes first, integer ids are
/// integers. The statement answers one row: an array with the place, counted from 0, of each commit that was applied.
pub(super) fn compose<'a>(commits: &[&'a Commit], repeats: Repeats) -> Composed<'a> {
    let numbered: Vec<(i32, &'a Commit)> = (0i32..).zip(commits.iter().copied()).collect();
    let mut parts =
        Parts { parameters: Parameters::default(), with: Vec::new(), conditions: Vec::new(), changed: Vec::new() };
    parts.operations(&numbered);
    parts.held(&numbered);
    parts.new_heads(&numbered);
    parts.expected(&numbered);
    if repeats == Repeats::AreLeftOut {
        parts.taken_keys(&numbered);
    }
    parts.fitting();
    parts.changed_heads(&numbered);
    parts.applied();
    parts.keys(&numbered);
    parts.rows(&numbered);
    parts.events(&numbered);
    parts.tasks(&numbered);
    parts.withdrawals(&numbered);
    parts.acknowledgements(&numbered);
    Composed {
        text: format!("WITH {}\nSELECT array_agg(ord) FROM applied", parts.with.join(",\n")),
        parameters: parts.parameters,
    }
}

/// The places of the commits that were applied, from the statement's answer.
pub(super) fn places(answer: &tokio_postgres::Row) -> impl Iterator<Item = usize> {
    // Nothing to aggregate is NULL.
    let places: Option<Vec<i32>> = answer.get(0);
    places.into_iter().flatten().filter_map(|ord| usize::try_from(ord).ok())
}

/// What a commit believes of its subject, as one number: that there is none, that it is new, or its version.
fn believed(commit: &Commit) -> i64 {
    match commit.subject {
        None => -1,
        Some((_, At::New)) => 0,
        // Versions begin at 1; what is below is no version of anything, and must not look like a new subject.
        Some((_, At::Version(version))) if version < 1 => i64::MAX,
        Some((_, At::Version(version))) => version,
    }
}

type Numbered<'a> = (i32, &'a Commit);

struct Parts<'a> {
    parameters: Parameters<'a>,
    with: Vec<String>,
    /// What must hold of a commit before it changes anything.
    conditions: Vec<String>,
    /// The parts that change heads; each gives the places of the commits whose heads were at their versions.
    changed: Vec<String>,
}

impl<'a> Parts<'a> {
    /// One row for each commit.
    fn operations(&mut self, commits: &[Numbered<'a>]) {
        let mut records = Records::of(commits.len());
        for (ord, commit) in commits {
            let subject = commit.subject.as_ref().map(|(subject, _)| subject);
            let dedup = commit.cause.dedup.as_ref();
            records
                .record()
                .int(*ord)
                .text(commit.id.as_str())
                .maybe_text(subject.map(|subject| subject.kind.as_str()))
                .maybe_text(subject.map(|subject| subject.id.as_str()))
                .big(believed(commit))
                .text(&commit.cause.actor)
                .big(commit.cause.now.as_micros())
                .maybe_text(commit.ack.as_ref().map(|ack| ack.task.as_str()))
                .maybe_big(commit.ack.as_ref().map(|ack| ack.fence.0))
                .maybe_text(dedup.map(|dedup| dedup.scope.as_str()))
                .maybe_text(dedup.map(|dedup| dedup.key.as_str()))
                .maybe_text(dedup.map(|dedup| dedup.request_hash.as_str()))
                .maybe_text(dedup.map(|dedup| dedup.answer.as_str()));
        }
        let source = self.parameters.rows("commit_in", records);
        self.with.push(format!("op AS (SELECT * FROM {source})"));
    }

    /// The heads that must not exist yet.
    fn new_heads(&mut self, commits: &[Numbered<'a>]) {
        let mut matches = Vec::new();
        for kind in SubjectKind::ALL {
            let new = new_heads(commits, kind);
            if new.is_empty() {
                continue;
            }
            // A head that another transaction creates meanwhile is found by its primary key: the statement fails and
            // each commit runs again alone.
            let ids = self.ids(kind.head(), &new);
            let (table, name) = (kind.head().name(), kind.as_str());
            self.with.push(format!(
                "present_{table} AS MATERIALIZED (SELECT id::text AS id FROM {table} WHERE id = ANY({ids}))"
            ));
            matches.push(format!(
                "WHEN op.believed = 0 AND op.subject_kind = '{name}' \
                 THEN NOT (op.subject IN (SELECT id FROM present_{table}))"
            ));
        }
        if !matches.is_empty() {
            self.conditions.push(format!("CASE {} ELSE true END", matches.join(" ")));
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
            let ids: Vec<&str> = expects.iter().map(|(_, expect)| expect.id.as_str()).collect();
            let ids = self.ids(table, &ids);
            self.with.push(format!(
                "as_is_{name} AS MATERIALIZED (SELECT id::text AS id, version FROM {name} WHERE id = ANY({ids})
                                               ORDER BY {name}.id FOR SHARE)"
            ));
            let mut records = Records::default();
            for (ord, expect) in &expects {
                records.record().int(*ord).text(&expect.id).big(expect.version);
            }
            let source = self.parameters.rows("expect_in", records);
            self.conditions.push(format!(
                "NOT (op.ord IN (SELECT x.ord FROM {source}
                                 WHERE NOT ((x.id, x.version) IN (SELECT id, version FROM as_is_{name}))))"
            ));
        }
    }

    /// The dedup keys that are there already. One that another transaction adds meanwhile is found by its primary key,
    /// like a new head, and so are all when nobody looks them up.
    fn taken_keys(&mut self, commits: &[Numbered<'a>]) {
        let keys: Vec<&str> =
            commits.iter().filter_map(|(_, c)| c.cause.dedup.as_ref()).map(|dedup| dedup.key.as_str()).collect();
        if keys.is_empty() {
            return;
        }
        let keys = self.parameters.bind(Parameter::Texts(keys));
        self.with.push(format!("taken AS MATERIALIZED (SELECT scope, key FROM dedup WHERE key = ANY({keys}))"));
        self.conditions
            .push("(op.scope IS NULL OR NOT ((op.scope, op.key) IN (SELECT scope, key FROM taken)))".to_owned());
    }

    fn fitting(&mut self) {
        let conditions = match self.conditions.is_empty() {
            true => String::new(),
            false => format!(" WHERE {}", self.conditions.join("\n AND ")),
        };
        self.with.push(format!("fit AS MATERIALIZED (SELECT * FROM op{conditions})"));
    }

    /// Changes the heads that are at the version that is believed of them.
    fn changed_heads(&mut self, commits: &[Numbered<'a>]) {
        for kind in SubjectKind::ALL {
            let rows: Vec<(i32, &'a Row)> = commits
                .iter()
                .filter(|(_, c)| matches!(&c.subject, Some((s, At::Version(_))) if s.kind == kind))
                .filter_map(|(ord, c)| Some((*ord, c.rows.first()?)))
                .collect();
            if rows.is_empty() {
                continue;
            }
            let (table, name, key) = (kind.head(), kind.head().name(), row_key(kind.head()));
            let ids: Vec<&str> = rows.iter().map(|(_, row)| row.id.as_str()).collect();
            let ids = self.ids(table, &ids);
            let source = self.row_source(&rows);
            self.with.push(format!(
                "changed_{name} AS (UPDATE {name} t
                   SET version = a.believed + 1, status = x.status, parent = x.parent, ordinal = x.ordinal,
                       name = x.name, body = x.body, commit_id = a.commit_id, updated_at = a.now
                   FROM {source} JOIN fit a ON a.ord = x.ord
                   WHERE t.id = {key} AND t.id = ANY({ids}) AND t.version = a.believed RETURNING a.ord)"
            ));
            self.changed.push(format!("SELECT ord FROM changed_{name}"));
        }
    }

    /// What fits and has changed its head, if it has an old one.
    fn applied(&mut self) {
        let changed = match self.changed.is_empty() {
            true => String::new(),
            false => format!(" WHERE fit.believed <= 0 OR fit.ord IN ({})", self.changed.join(" UNION ALL ")),
        };
        self.with.push(format!("applied AS MATERIALIZED (SELECT * FROM fit{changed})"));
    }

    fn keys(&mut self, commits: &[Numbered<'a>]) {
        if commits.iter().any(|(_, c)| c.cause.dedup.is_some()) {
            self.with.push(
                "named AS (INSERT INTO dedup (scope, key, request_hash, answer, commit_id, at)
                           SELECT scope, key, request_hash, answer, commit_id, now FROM applied
                           WHERE scope IS NOT NULL ORDER BY scope, key)"
                    .to_owned(),
            );
        }
    }

    fn rows(&mut self, commits: &[Numbered<'a>]) {
        for table in Table::ALL {
            let (mut created, mut children) = (Vec::new(), Vec::new());
            for (ord, commit) in commits {
                for (place, row) in commit.rows.iter().enumerate().filter(|(_, row)| row.table == table) {
                    match (place, &commit.subject) {
                        (0, Some((_, At::New))) => created.push((*ord, row)),
                        (0, Some((_, At::Version(_)))) => {}
                        (_, _) => children.push((*ord, row)),
                    }
                }
            }
            let (name, key) = (table.name(), row_key(table));
            if !created.is_empty() {
                let source = self.row_source(&created);
                self.with.push(format!("created_{name} AS ({})", insert_rows(table, &source)));
            }
            if !children.is_empty() {
                let source = self.row_source(&children);
                // A message is stored once; a taken id is an error. A child stays under its parent: a row of
                // another subject gets version 0, which its table refuses, and with it the whole commit.
                let repeated = match table {
                    Table::Messages => String::new(),
                    _ => format!(
                        "ORDER BY {key} ON CONFLICT (id) DO UPDATE
                         SET version = CASE WHEN {name}.parent IS NOT DISTINCT FROM excluded.parent
                                            THEN excluded.version ELSE 0 END,
                             status = excluded.status, ordinal = excluded.ordinal, name = excluded.name,
                             body = excluded.body, commit_id = excluded.commit_id, updated_at = excluded.updated_at"
                    ),
                };
                self.with.push(format!("children_{name} AS ({} {repeated})", insert_rows(table, &source)));
            }
        }
    }

    fn events(&mut self, commits: &[Numbered<'a>]) {
        let count = commits.iter().map(|(_, commit)| commit.events.len()).sum();
        if count == 0 {
            return;
        }
        let mut records = Records::of(count);
        let mut text = String::new();
        for (ord, commit) in commits {
            for (place, row) in told::rows(&commit.events) {
                told::write(row, &mut text);
                records
                    .record()
                    .int(*ord)
                    .small(i16::try_from(place).unwrap_or(i16::MAX))
                    .maybe_big(row.first().and_then(|event| event.project))
                    .maybe_big(row.first().and_then(|event| event.step))
                    .small(i16::try_from(row.len()).unwrap_or(i16::MAX))
                    .text(&text)
                    .maybe_text((place == 0).then(|| rules::cause_text(commit)).as_deref());
            }
        }
        let source = self.parameters.rows("event_in", records);
        self.with.push(format!(
            "told AS (INSERT INTO event_batches (subject_kind, subject, version, place, at, actor, project, step, facts, told,
                                         cause)
               SELECT a.subject_kind, a.subject, a.believed + 1, x.place, a.now, a.actor, x.project, x.step, x.facts,
                      x.told, x.cause
               FROM {source} JOIN applied a ON a.ord = x.ord ORDER BY x.ord, x.place)"
        ));
    }

    /// Ids as the table's key has them.
    fn ids(&mut self, table: Table, ids: &[&'a str]) -> String {
        self.parameters.bind(match table.has_integer_ids() {
            // Validated before; an id that is no number would find no row.
            true => Parameter::Numbers(ids.iter().map(|id| id.parse().unwrap_or(-1)).collect()),
            false => Parameter::Texts(ids.to_vec()),
        })
    }

    fn row_source(&mut self, rows: &[(i32, &'a Row)]) -> String {
        let mut records = Records::of(rows.len());
        for (ord, row) in rows {
            records
                .record()
                .int(*ord)
                .text(&row.id)
                .text(&row.status)
                .maybe_text(row.parent.as_deref())
                .big(row.ordinal)
                .maybe_text(row.name.as_deref())
                .text(&row.body);
        }
        self.parameters.rows("row_in", records)
    }
}

/// The ids of this kind's heads that are new.
fn new_heads<'a>(commits: &[Numbered<'a>], kind: SubjectKind) -> Vec<&'a str> {
    commits
        .iter()
        .filter_map(|(_, c)| c.subject.as_ref())
        .filter(|(subject, at)| subject.kind == kind && matches!(at, At::New))
        .map(|(subject, _)| subject.id.as_str())
        .collect()
}

/// The id of a record `x` as the table's key has it.
fn row_key(table: Table) -> &'static str {
    if table.has_integer_ids() { "x.id::bigint" } else { "x.id" }
}

fn insert_rows(table: Table, source: &str) -> String {
    format!(
        "INSERT INTO {} (id, version, status, parent, ordinal, name, body, commit_id, created_at, updated_at)
           SELECT {}, greatest(a.believed + 1, 1), x.status, x.parent, x.ordinal, x.name, x.body, a.commit_id, a.now,
                  a.now
           FROM {source} JOIN applied a ON a.ord = x.ord",
        table.name(),
        row_key(table)
    )
}
