//! Rows of subjects as they are read: one subject in one snapshot, one row, a page of a table.

use domain::{
    commit::{StoredAnswer, Subject, Table},
    time::Timestamp,
};
use tokio_postgres::{Row, types::ToSql};

use crate::{
    StoreError,
    postgres::PostgresStore,
    query::{Loaded, Order, RowQuery, StoredRow},
    rules, sql,
};

/// The envelope in the order in which [`stored`] reads it; ids as text, as on the wire.
const COLUMNS: &str = "id::text, version, status, parent, ordinal, name, body, created_at, updated_at";

fn stored(table: Table, row: &Row) -> StoredRow {
    StoredRow {
        table,
        id: row.get(0),
        version: row.get(1),
        status: row.get(2),
        parent: row.get(3),
        ordinal: row.get(4),
        name: row.get(5),
        body: row.get(6),
        created_at: Timestamp::from_micros(row.get(7)),
        updated_at: Timestamp::from_micros(row.get(8)),
    }
}

/// The id as the table's key has it, or `None` when no row can have it.
fn key(table: Table, id: &str) -> Option<Box<dyn ToSql + Sync + Send>> {
    match table.has_integer_ids() {
        true => rules::integer_id(id).map(|id| Box::new(id) as Box<dyn ToSql + Sync + Send>),
        false if id.contains('\0') => None,
        false => Some(Box::new(id.to_owned())),
    }
}

impl PostgresStore {
    pub(crate) async fn load(&self, subject: &Subject) -> Result<Option<Loaded>, StoreError> {
        let table = subject.kind.head();
        let Some(id) = key(table, &subject.id) else { return Ok(None) };
        let children = rules::children(subject);
        // One statement sees one snapshot.
        let mut text = format!("SELECT {COLUMNS}, 0 AS part FROM {} WHERE id = $1", table.name());
        let mut params: Vec<&(dyn ToSql + Sync)> = vec![&*id];
        for (place, (child, parent)) in children.iter().enumerate() {
            params.push(parent);
            text.push_str(&format!(
                " UNION ALL SELECT {COLUMNS}, {} FROM {} WHERE parent = ${}",
                place + 1,
                child.name(),
                params.len()
            ));
        }
        let mut head = None;
        let mut found = Vec::new();
        for row in self.read(&text, &params).await? {
            let part = usize::try_from(row.get::<_, i32>(9)).unwrap_or(0);
            match part.checked_sub(1).and_then(|place| children.get(place)) {
                None => head = Some(stored(table, &row)),
                Some((child, _)) => found.push((part, stored(*child, &row))),
            }
        }
        // Integer ids sort as numbers, the others are no integers and sort as text.
        let number = |row: &StoredRow| row.table.has_integer_ids().then(|| rules::integer_id(&row.id)).flatten();
        found.sort_by(|(a_part, a), (b_part, b)| {
            (a_part, a.ordinal, number(a), &a.id).cmp(&(b_part, b.ordinal, number(b), &b.id))
        });
        Ok(head.map(|head| Loaded { head, children: found.into_iter().map(|(_, row)| row).collect() }))
    }

    pub(crate) async fn find_row(&self, table: Table, id: &str) -> Result<Option<StoredRow>, StoreError> {
        let Some(id) = key(table, id) else { return Ok(None) };
        let row = self.read_opt(&format!("SELECT {COLUMNS} FROM {} WHERE id = $1", table.name()), &[&*id]).await?;
        Ok(row.map(|row| stored(table, &row)))
    }

    pub(crate) async fn find_by_name(
        &self,
        table: Table,
        parent: Option<&str>,
        name: &str,
    ) -> Result<Option<StoredRow>, StoreError> {
        if name.contains('\0') || parent.is_some_and(|parent| parent.contains('\0')) {
            return Ok(None);
        }
        let newest = "ORDER BY t.ordinal DESC, t.id DESC LIMIT 1";
        let from = format!("SELECT {COLUMNS} FROM {} t WHERE name = $1", table.name());
        let row = match parent {
            None => self.read_opt(&format!("{from} {newest}"), &[&name]).await?,
            Some(parent) => self.read_opt(&format!("{from} AND parent = $2 {newest}"), &[&name, &parent]).await?,
        };
        Ok(row.map(|row| stored(table, &row)))
    }

    pub(crate) async fn list_rows(&self, query: &RowQuery) -> Result<Vec<StoredRow>, StoreError> {
        let limit = i64::from(rules::validate_list(query)?);
        let is_by_id = rules::is_by_id(query);
        let mut params: Vec<&(dyn ToSql + Sync)> = vec![&limit];
        let mut conditions = Vec::new();
        if let Some(parent) = &query.parent {
            params.push(parent);
            conditions.push(format!("t.parent = ${}", params.len()));
        }
        if !query.statuses.is_empty() {
            params.push(&query.statuses);
            conditions.push(format!("t.status = ANY(${}::text[])", params.len()));
        }
        let (direction, behind) = match query.order {
            Order::Ascending => ("", ">"),
            Order::Descending => (" DESC", "<"),
        };
        let after = match &query.after {
            None => None,
            Some((ordinal, id)) => match key(query.table, id) {
                Some(key) => Some((ordinal, key)),
                None => return Err(StoreError::BadCursor),
            },
        };
        if let Some((ordinal, id)) = &after {
            params.push(&**id);
            conditions.push(match is_by_id {
                true => format!("t.id {behind} ${}", params.len()),
                false => {
                    params.push(*ordinal);
                    format!("(t.ordinal, t.id) {behind} (${}, ${})", params.len(), params.len() - 1)
                }
            });
        }
        let conditions = match conditions.is_empty() {
            true => String::new(),
            false => format!("WHERE {}", conditions.join(" AND ")),
        };
        let ordinal = if is_by_id { String::new() } else { format!("t.ordinal{direction}, ") };
        let text = format!(
            "SELECT {COLUMNS} FROM {} t {conditions} ORDER BY {ordinal}t.id{direction} LIMIT $1",
            query.table.name()
        );
        Ok(self.read(&text, &params).await?.iter().map(|row| stored(query.table, row)).collect())
    }

    pub(crate) async fn next_number(&self, table: Table) -> Result<i64, StoreError> {
        if !table.has_integer_ids() {
            return Err(rules::rejected(format!("ids of {} are not numbers", table.name())));
        }
        // The sequence is named after the table, which is one of ours.
        let text = format!("SELECT nextval('{}_numbers')", table.name());
        match self.read_opt(&text, &[]).await? {
            Some(row) => Ok(row.get(0)),
            None => Err(StoreError::Unavailable { reason: "a sequence gave no number".to_owned() }),
        }
    }

    pub(crate) async fn find_answer(&self, scope: &str, key: &str) -> Result<Option<StoredAnswer>, StoreError> {
        if scope.contains('\0') || key.contains('\0') {
            return Ok(None);
        }
        let row = self.read_opt(sql::FIND_ANSWER.postgres, &[&scope, &key]).await?;
        Ok(row.map(|row| StoredAnswer {
            request_hash: row.get(0),
            answer: row.get(1),
            at: Timestamp::from_micros(row.get(2)),
        }))
    }

    pub(crate) async fn find_cause(&self, subject: &Subject, version: i64) -> Result<Option<String>, StoreError> {
        if subject.id.contains('\0') {
            return Ok(None);
        }
        let params: [&(dyn ToSql + Sync); 3] = [&subject.kind.as_str(), &subject.id, &version];
        let row = self.read_opt(sql::FIND_CAUSE.postgres, &params).await?;
        Ok(row.and_then(|row| row.get(0)))
    }
}
