//! Pages of events, and the cursor that cannot skip one.
//!
//! A transaction draws the ids of its events before it commits, so a reader by id could pass an event that becomes
//! visible later. Readers therefore stay below the oldest transaction that still runs, and page by (transaction, id):
//! whatever commits later has a transaction at or above that bound. A row holds several events (see `told`), so that a
//! cursor may point into one.

use domain::{
    commit::{Subject, SubjectKind},
    time::Timestamp,
};
use tokio_postgres::{Row, types::ToSql};

use crate::{
    StoreError,
    postgres::{
        PostgresStore,
        told::{self, SPAN},
    },
    query::{EventPage, EventQuery, Order, StoredEvent},
    rules,
};

/// A place in the order of events: behind this transaction and id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Position {
    txid: i64,
    id: i64,
}

impl Position {
    const START: Self = Self { txid: 0, id: 0 };

    /// Opaque to everybody else; a database restored elsewhere gets another epoch and so refuses old cursors.
    fn cursor(self, epoch: &str) -> String {
        format!("{epoch}.{:x}.{:x}", self.txid, self.id)
    }

    fn parse(cursor: &str, epoch: &str) -> Result<Self, StoreError> {
        let number = |text: Option<&str>| i64::from_str_radix(text?, 16).ok().filter(|number| *number >= 0);
        let mut parts = cursor.split('.').skip(1);
        let (Some(txid), Some(id)) = (number(parts.next()), number(parts.next())) else {
            return Err(StoreError::BadCursor);
        };
        let position = Self { txid, id };
        // One spelling each: whatever we would not have written ourselves is not ours.
        if position.cursor(epoch) == cursor { Ok(position) } else { Err(StoreError::BadCursor) }
    }
}

impl PostgresStore {
    pub(crate) async fn list_events(&self, query: &EventQuery) -> Result<EventPage, StoreError> {
        let epoch = self.inner.epoch.as_str();
        let limit = usize::try_from(rules::page(query.limit)).unwrap_or(1);
        if query.limit > rules::MAX_PAGE {
            return Err(rules::rejected(format!("a page holds at most {} events", rules::MAX_PAGE)));
        }
        let after = match (&query.after, query.order) {
            (None, _) => Position::START,
            (Some(cursor), Order::Ascending) => Position::parse(cursor, epoch)?,
            (Some(_), Order::Descending) => return Err(StoreError::BadCursor),
        };
        // One row may lie before the cursor but for its end, or even wholly; one more tells whether there is more.
        let rows = i64::try_from(limit).unwrap_or(i64::MAX - 2) + 2;
        // A row is wanted until those before it hold the page and one event more, besides what lies before the cursor.
        let ahead = rows + i64::try_from(SPAN).unwrap_or(0);
        let mut params: Vec<&(dyn ToSql + Sync)> = vec![&rows, &ahead];
        let mut conditions = vec!["true".to_owned()];
        let after_txid = after.txid.to_string();
        let before_row = after.id - i64::try_from(SPAN).unwrap_or(0);
        if query.order == Order::Ascending {
            params.push(&after_txid);
            params.push(&before_row);
            conditions.push("(e.txid, e.id) > ($3::text::xid8, $4::bigint) AND e.txid < h.oldest".to_owned());
        }
        let subject_kind = query.subject.as_ref().map(|subject| subject.kind.as_str());
        if let (Some(subject), Some(kind)) = (&query.subject, &subject_kind) {
            params.push(kind);
            params.push(&subject.id);
            conditions.push(format!("e.subject_kind = ${} AND e.subject = ${}", params.len() - 1, params.len()));
        }
        if let Some(project) = &query.project {
            params.push(project);
            conditions.push(format!("e.project = ${}", params.len()));
        }
        if let Some(step) = &query.step {
            params.push(step);
            conditions.push(format!("e.step = ${}", params.len()));
        }
        let kinds: Vec<&str> = query.kinds.iter().copied().map(SubjectKind::as_str).collect();
        if !kinds.is_empty() {
            params.push(&kinds);
            conditions.push(format!("e.subject_kind = ANY(${}::text[])", params.len()));
        }
        let direction = match query.order {
            Order::Ascending => "ASC",
            Order::Descending => "DESC",
        };
        let text = format!(
            "WITH h AS MATERIALIZED (SELECT pg_snapshot_xmin(pg_current_snapshot()) AS oldest)
             SELECT h.oldest::text::bigint, page.* FROM h LEFT JOIN LATERAL
                 (SELECT e.txid::text::bigint AS txid, e.id, e.subject_kind, e.subject, e.version, e.place, e.at,
                         e.actor, e.project, e.step, e.told,
                         sum(e.facts) OVER (ORDER BY e.txid {direction}, e.id {direction}) - e.facts AS ahead
                  FROM event_batches e WHERE {}
                  ORDER BY e.txid {direction}, e.id {direction} LIMIT $1) page ON page.ahead <= $2
             ORDER BY page.txid {direction}, page.id {direction}",
            conditions.join(" AND ")
        );
        let rows = self.read(&text, &params).await?;
        // Nothing below this can appear any more.
        let oldest = rows.first().map_or(after.txid, |row| row.get(0));
        let mut events = Vec::with_capacity(rows.len());
        for row in rows.iter().filter(|row| row.get::<_, Option<i64>>(1).is_some()) {
            let told = read_row(row, epoch)?;
            match query.order {
                Order::Ascending => events.extend(told.into_iter().filter(|(position, _)| *position > after)),
                Order::Descending => events.extend(told.into_iter().rev()),
            }
        }
        let mut events: Vec<StoredEvent> = events.into_iter().map(|(_, event)| event).collect();
        let more = events.len() > limit;
        events.truncate(limit);
        let next = match (query.order, more) {
            (Order::Ascending, true) => events.last().map_or_else(|| after.cursor(epoch), |event| event.cursor.clone()),
            // Read to the end: continue there, wherever the last event that matched lies.
            (Order::Ascending, false) => {
                let end = Position { txid: oldest, id: 0 };
                let end = if (end.txid, end.id) > (after.txid, after.id) { end } else { after };
                end.cursor(epoch)
            }
            // A follower that starts here may see some of these again, and misses none.
            (Order::Descending, _) => Position { txid: oldest, id: 0 }.cursor(epoch),
        };
        Ok(EventPage { events, next, more })
    }
}

/// The events of a row, oldest first.
fn read_row(row: &Row, epoch: &str) -> Result<Vec<(Position, StoredEvent)>, StoreError> {
    let first = Position { txid: row.get(1), id: row.get(2) };
    let corrupt = |reason: String| StoreError::Corrupt { table: "event_batches", id: first.id.to_string(), reason };
    let kind: &str = row.get(3);
    let kind = SubjectKind::parse(kind).ok_or_else(|| corrupt(format!("column subject_kind holds {kind}")))?;
    let subject = Subject { kind, id: row.get(4) };
    let facts = told::read(row.get(11)).map_err(|error| corrupt(format!("column told: {error}")))?;
    let event = |(place, fact): (i16, told::Fact<'_>)| {
        let position = Position { id: first.id + i64::from(place), ..first };
        let event = StoredEvent {
            id: position.id,
            subject: subject.clone(),
            version: row.get(5),
            place: row.get::<_, i16>(6) + place,
            kind: fact.kind.into_owned(),
            schema: fact.schema,
            at: Timestamp::from_micros(row.get(7)),
            actor: row.get(8),
            project: row.get(9),
            step: row.get(10),
            data: fact.data.get().to_owned(),
            cursor: position.cursor(epoch),
        };
        (position, event)
    };
    Ok((0i16..).zip(facts).map(event).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_names_its_database() {
        let position = Position { txid: 4711, id: 12 };

        assert_eq!(Position::parse(&position.cursor("abc"), "abc").unwrap(), position);
        for cursor in
            [position.cursor("abd").as_str(), "", "abc", "abc.1", "abc.1.2.3", "abc.-1.2", "abc.x.2", "abc.+1.2"]
        {
            assert!(matches!(Position::parse(cursor, "abc"), Err(StoreError::BadCursor)), "{cursor}");
        }
    }
}
