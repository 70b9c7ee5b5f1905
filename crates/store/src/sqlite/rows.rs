//! Reads of subjects, answers and tasks.

use domain::{
    commit::{StoredAnswer, Subject, Table},
    ids::TaskId,
    task::Task,
    time::Timestamp,
};
use rusqlite::{Connection, OptionalExtension, Row, params, types::Value};

use crate::{
    StoreError,
    query::{Loaded, Order, RowQuery, StoredRow},
    queue::{QueueCounts, TaskQuery},
    rules, sql,
    sqlite::{SqliteStore, queue::read_task, read::Failure, tables::Key},
    task_row::{TASK_COLUMNS, TaskRow},
};

/// The columns that [`read_row`] reads, in its order. Ids are text for the caller whatever the table has.
const COLUMNS: &str = "CAST(id AS TEXT), version, status, parent, ordinal, name, body, created_at, updated_at";
const COUNT_TASKS: &str = "SELECT state, count(*) FROM tasks GROUP BY state ORDER BY state";
const OLDEST_READY: &str = "SELECT min(due_at) FROM tasks WHERE state = 'ready'";
/// Leases are few; a process that finds more takes the rest in the next turn.
const MAX_LEASES: u32 = 1000;

impl SqliteStore {
    pub async fn load(&self, subject: &Subject) -> Result<Option<Loaded>, StoreError> {
        let subject = subject.clone();
        self.inner
            .readers
            .read(move |conn| {
                let Some(head) = find_row(conn, subject.kind.head(), &subject.id)? else { return Ok(None) };
                let mut children = Vec::new();
                for (table, parent) in rules::children(&subject) {
                    let text = format!(
                        "SELECT {COLUMNS} FROM {table} WHERE parent = ?1 ORDER BY ordinal, {table}.id",
                        table = table.name()
                    );
                    let mut statement = conn.prepare_cached(&text)?;
                    let rows = statement.query_map([parent], |row| read_row(table, row))?;
                    for row in rows {
                        children.push(row?);
                    }
                }
                Ok(Some(Loaded { head, children }))
            })
            .await
    }

    pub async fn find_row(&self, table: Table, id: &str) -> Result<Option<StoredRow>, StoreError> {
        let id = id.to_owned();
        self.inner.readers.read(move |conn| Ok(find_row(conn, table, &id)?)).await
    }

    pub async fn find_by_name(
        &self,
        table: Table,
        parent: Option<&str>,
        name: &str,
    ) -> Result<Option<StoredRow>, StoreError> {
        let (parent, name) = (parent.map(str::to_owned), name.to_owned());
        self.inner
            .readers
            .read(move |conn| {
                let text = format!(
                    "SELECT {COLUMNS} FROM {table} WHERE name = ?2 AND (?1 IS NULL OR parent = ?1)
                     ORDER BY ordinal DESC, {table}.id DESC LIMIT 1",
                    table = table.name()
                );
                let mut statement = conn.prepare_cached(&text)?;
                Ok(statement.query_row(params![parent, name], |row| read_row(table, row)).optional()?)
            })
            .await
    }

    pub async fn list_rows(&self, query: &RowQuery) -> Result<Vec<StoredRow>, StoreError> {
        let limit = rules::validate_list(query)?;
        let query = query.clone();
        self.inner.readers.read(move |conn| Ok(list_rows(conn, &query, limit)?)).await
    }

    pub async fn next_number(&self, table: Table) -> Result<i64, StoreError> {
        if !table.has_integer_ids() {
            return Err(rules::rejected(format!("ids of {} are not numbers", table.name())));
        }
        self.inner
            .writer
            .call(move |ledger| {
                let number = ledger
                    .conn
                    .prepare_cached("UPDATE counters SET value = value + 1 WHERE name = ?1 RETURNING value")?
                    .query_row([table.name()], |row| row.get(0))?;
                Ok(super::writer::Done::keep(number))
            })
            .await
    }

    pub async fn find_answer(&self, scope: &str, key: &str) -> Result<Option<StoredAnswer>, StoreError> {
        let (scope, key) = (scope.to_owned(), key.to_owned());
        self.inner
            .readers
            .read(move |conn| {
                let mut statement = conn.prepare_cached(sql::FIND_ANSWER.sqlite())?;
                let found = statement.query_row([scope, key], |row| {
                    Ok(StoredAnswer {
                        request_hash: row.get(0)?,
                        answer: row.get(1)?,
                        at: Timestamp::from_micros(row.get(2)?),
                    })
                });
                Ok(found.optional()?)
            })
            .await
    }

    pub async fn list_leases(&self, except_incarnation: &str) -> Result<Vec<Task>, StoreError> {
        let except = except_incarnation.to_owned();
        let text = format!(
            "SELECT {TASK_COLUMNS} FROM tasks WHERE state = 'leased' AND incarnation <> ?1 ORDER BY id LIMIT {MAX_LEASES}"
        );
        self.tasks(text, vec![Value::from(except)]).await
    }

    pub async fn find_task(&self, id: &TaskId) -> Result<Option<Task>, StoreError> {
        let text = format!("SELECT {TASK_COLUMNS} FROM tasks WHERE id = ?1");
        Ok(self.tasks(text, vec![Value::from(id.as_str().to_owned())]).await?.pop())
    }

    pub async fn list_tasks(&self, query: &TaskQuery) -> Result<Vec<Task>, StoreError> {
        let among = |names: Vec<&str>| match names.is_empty() {
            true => Value::Null,
            false => Value::from(format!(",{},", names.join(","))),
        };
        let text = format!(
            "SELECT {TASK_COLUMNS} FROM tasks
             WHERE (?1 IS NULL OR id < ?1) AND (?3 IS NULL OR instr(?3, ',' || state || ',') > 0)
               AND (?2 IS NULL OR instr(?2, ',' || kind || ',') > 0)
             ORDER BY id DESC LIMIT ?4"
        );
        let values = vec![
            query.after.as_ref().map_or(Value::Null, |id| Value::from(id.as_str().to_owned())),
            among(query.kinds.iter().map(|kind| kind.as_str()).collect()),
            among(query.states.iter().map(String::as_str).collect()),
            Value::from(i64::from(rules::page(query.limit))),
        ];
        self.tasks(text, values).await
    }

    pub async fn count_tasks(&self) -> Result<QueueCounts, StoreError> {
        self.inner
            .readers
            .read(|conn| {
                let by_state = conn
                    .prepare_cached(COUNT_TASKS)?
                    .query_map((), |row| Ok((row.get(0)?, row.get(1)?)))?
                    .collect::<rusqlite::Result<_>>()?;
                let oldest: Option<i64> = conn.prepare_cached(OLDEST_READY)?.query_row((), |row| row.get(0))?;
                Ok(QueueCounts { by_state, oldest_ready_at: oldest.map(Timestamp::from_micros) })
            })
            .await
    }

    async fn tasks(&self, text: String, values: Vec<Value>) -> Result<Vec<Task>, StoreError> {
        self.inner
            .readers
            .read(move |conn| {
                let rows: Vec<TaskRow> = conn
                    .prepare_cached(&text)?
                    .query_map(rusqlite::params_from_iter(values), read_task)?
                    .collect::<rusqlite::Result<_>>()?;
                rows.into_iter().map(|row| Task::try_from(row).map_err(Failure::from)).collect()
            })
            .await
    }
}

fn find_row(conn: &Connection, table: Table, id: &str) -> rusqlite::Result<Option<StoredRow>> {
    let Some(key) = Key::of(table, id) else { return Ok(None) };
    let text = format!("SELECT {COLUMNS} FROM {} WHERE id = ?1", table.name());
    conn.prepare_cached(&text)?.query_row([key], |row| read_row(table, row)).optional()
}

fn list_rows(conn: &Connection, query: &RowQuery, limit: u32) -> rusqlite::Result<Vec<StoredRow>> {
    let table = query.table.name();
    let (order, behind) = match query.order {
        Order::Ascending => ("ASC", ">"),
        Order::Descending => ("DESC", "<"),
    };
    let parent = if query.parent.is_some() { "AND parent = ?1" } else { "" };
    let is_by_id = rules::is_by_id(query);
    let after = match &query.after {
        Some(_) if is_by_id => format!("AND {table}.id {behind} ?2"),
        Some(_) => format!("AND (ordinal, {table}.id) {behind} (?3, ?2)"),
        None => String::new(),
    };
    let ordinal = if is_by_id { String::new() } else { format!("ordinal {order}, ") };
    let text = format!(
        "SELECT {COLUMNS} FROM {table}
         WHERE (?5 IS NULL OR instr(?5, ',' || status || ',') > 0) {parent} {after}
         ORDER BY {ordinal}{table}.id {order} LIMIT ?4"
    );
    let mut statement = conn.prepare_cached(&text)?;
    let statuses = (!query.statuses.is_empty()).then(|| format!(",{},", query.statuses.join(",")));
    // Parameters that a variant of the text does not name are not bound.
    statement.raw_bind_parameter(5, statuses)?;
    statement.raw_bind_parameter(4, limit)?;
    if let Some(parent) = &query.parent {
        statement.raw_bind_parameter(1, parent)?;
    }
    if let Some((ordinal, id)) = &query.after {
        if !is_by_id {
            statement.raw_bind_parameter(3, ordinal)?;
        }
        match query.table.has_integer_ids() {
            true => statement.raw_bind_parameter(2, id.parse::<i64>().unwrap_or(0))?,
            false => statement.raw_bind_parameter(2, id)?,
        }
    }
    let mut rows = statement.raw_query();
    let mut page = Vec::new();
    while let Some(row) = rows.next()? {
        page.push(read_row(query.table, row)?);
    }
    Ok(page)
}

fn read_row(table: Table, row: &Row<'_>) -> rusqlite::Result<StoredRow> {
    Ok(StoredRow {
        table,
        id: row.get(0)?,
        version: row.get(1)?,
        status: row.get(2)?,
        parent: row.get(3)?,
        ordinal: row.get(4)?,
        name: row.get(5)?,
        body: row.get(6)?,
        created_at: Timestamp::from_micros(row.get(7)?),
        updated_at: Timestamp::from_micros(row.get(8)?),
    })
}
