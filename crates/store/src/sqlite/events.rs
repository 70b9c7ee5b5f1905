//! The timeline: pages of events behind a cursor. One thread commits them in the order of their ids, so none can appear
//! behind a reader.

use domain::{
    commit::{Subject, SubjectKind},
    time::Timestamp,
};
use rusqlite::{OptionalExtension, Row, params};

use crate::{
    StoreError,
    query::{EventPage, EventQuery, Order, StoredEvent},
    rules, sql,
    sqlite::SqliteStore,
};

const COLUMNS: &str = "id, subject_kind, subject, version, place, kind, schema, at, actor, project, step, data";

impl SqliteStore {
    pub async fn list_events(&self, query: &EventQuery) -> Result<EventPage, StoreError> {
        let after = match (&query.after, query.order) {
            (None, _) => 0,
            (Some(cursor), Order::Ascending) => self.position(cursor)?,
            (Some(_), Order::Descending) => return Err(StoreError::BadCursor),
        };
        if query.limit > rules::MAX_PAGE {
            return Err(rules::rejected(format!("a page holds at most {} events", rules::MAX_PAGE)));
        }
        let (query, epoch) = (query.clone(), self.inner.epoch.clone());
        self.inner
            .readers
            .read(move |conn| {
                let limit = usize::try_from(rules::page(query.limit)).unwrap_or(usize::MAX);
                let newest: i64 =
                    conn.prepare_cached("SELECT coalesce(max(id), 0) FROM events")?.query_row((), |row| row.get(0))?;
                let text = text(&query);
                let mut statement = conn.prepare_cached(&text)?;
                statement.raw_bind_parameter(1, after)?;
                statement.raw_bind_parameter(2, i64::try_from(limit + 1).unwrap_or(i64::MAX))?;
                let kinds = query.kinds.iter().fold(",".to_owned(), |kinds, kind| kinds + kind.as_str() + ",");
                statement.raw_bind_parameter(3, (!query.kinds.is_empty()).then_some(kinds))?;
                if let Some(subject) = &query.subject {
                    statement.raw_bind_parameter(5, subject.kind.as_str())?;
                    statement.raw_bind_parameter(4, &subject.id)?;
                }
                if let Some(project) = query.project {
                    statement.raw_bind_parameter(6, project)?;
                }
                if let Some(step) = query.step {
                    statement.raw_bind_parameter(7, step)?;
                }
                let mut rows = statement.raw_query();
                let mut events = Vec::new();
                let mut more = false;
                while let Some(row) = rows.next()? {
                    if events.len() == limit {
                        more = true;
                        break;
                    }
                    events.push(read_event(row, &epoch)?);
                }
                let next = match (query.order, events.last()) {
                    (Order::Ascending, Some(last)) if more => last.id,
                    // All there is was seen, whatever the filter left out.
                    (Order::Ascending | Order::Descending, _) => newest.max(after),
                };
                Ok(EventPage { events, next: cursor(&epoch, next), more })
            })
            .await
    }

    pub async fn find_cause(&self, subject: &Subject, version: i64) -> Result<Option<String>, StoreError> {
        let subject = subject.clone();
        self.inner
            .readers
            .read(move |conn| {
                let mut statement = conn.prepare_cached(sql::FIND_CAUSE.sqlite())?;
                Ok(statement
                    .query_row(params![subject.kind.as_str(), subject.id, version], |row| row.get(0))
                    .optional()?)
            })
            .await
    }

    fn position(&self, cursor: &str) -> Result<i64, StoreError> {
        let (epoch, id) = cursor.split_once('.').ok_or(StoreError::BadCursor)?;
        let id: i64 = id.parse().map_err(|_| StoreError::BadCursor)?;
        if epoch != self.inner.epoch || id < 0 {
            return Err(StoreError::BadCursor);
        }
        Ok(id)
    }
}

fn cursor(epoch: &str, id: i64) -> String {
    format!("{epoch}.{id}")
}

/// Parameters: ?1 behind this id, ?2 at most, ?3 kinds, ?4 and ?5 the subject, ?6 the project, ?7 the step.
fn text(query: &EventQuery) -> String {
    let mut text = format!(
        "SELECT {COLUMNS} FROM events WHERE id > ?1 AND (?3 IS NULL OR instr(?3, ',' || subject_kind || ',') > 0)"
    );
    if query.subject.is_some() {
        text.push_str(" AND subject_kind = ?5 AND subject = ?4");
    }
    if query.project.is_some() {
        text.push_str(" AND project = ?6");
    }
    if query.step.is_some() {
        text.push_str(" AND step = ?7");
    }
    let order = match query.order {
        Order::Ascending => "ASC",
        Order::Descending => "DESC",
    };
    match (&query.subject, query.project, query.step) {
        // Within one subject this is the order of ids too, and an index has it.
        (Some(_), None, None) => text.push_str(&format!(" ORDER BY version {order}, place {order} LIMIT ?2")),
        _ => text.push_str(&format!(" ORDER BY id {order} LIMIT ?2")),
    }
    text
}

fn read_event(row: &Row<'_>, epoch: &str) -> Result<StoredEvent, crate::sqlite::read::Failure> {
    let id: i64 = row.get(0)?;
    let kind: String = row.get(1)?;
    let kind = SubjectKind::parse(&kind).ok_or_else(|| StoreError::Corrupt {
        table: "events",
        id: id.to_string(),
        reason: format!("column subject_kind holds {kind}"),
    })?;
    Ok(StoredEvent {
        id,
        subject: Subject { kind, id: row.get(2)? },
        version: row.get(3)?,
        place: row.get(4)?,
        kind: row.get(5)?,
        schema: row.get(6)?,
        at: Timestamp::from_micros(row.get(7)?),
        actor: row.get(8)?,
        project: row.get(9)?,
        step: row.get(10)?,
        data: row.get(11)?,
        cursor: cursor(epoch, id),
    })
}
