//! What a long queue and a long history cost: draining in front of a backlog, reading pages of a large ledger.

use std::time::Duration;

use domain::{
    commit::{NewEvent, Row, Table},
    time::Timestamp,
};
use store::{
    Store, StoreError,
    query::{EventQuery, Order, RowQuery},
};

use crate::bench::{
    load::{self, median_ms},
    operation,
};

/// Rows that are written by one commit.
const SHARE: usize = 500;
/// The year 2200: scheduled for longer than any measurement lasts.
const FAR: Timestamp = Timestamp::from_micros(7_258_118_400_000_000);

/// Enqueues tasks that come after all others, half of them ready and half scheduled.
pub async fn enqueue_behind(store: &Store, tasks: usize) -> Result<(), StoreError> {
    for share in 0..tasks / SHARE {
        let mut commit = operation::enqueue(SHARE);
        for task in &mut commit.tasks {
            task.priority = 9;
            task.due_at = (share % 2 == 1).then_some(FAR);
        }
        load::applied(&store.commit(commit).await?)?;
    }
    Ok(())
}

/// The ledger that a page is compared with has so many rows, which are so many pages.
pub const SHORT_HISTORY: usize = 1_000;
const REACH: usize = SHORT_HISTORY / 50;

const CONVERSATION: &str = "dev:bench";

/// Writes so many messages of one conversation and so many events.
pub async fn write_history(store: &Store, rows: usize) -> Result<(), StoreError> {
    for _ in 0..rows.div_ceil(SHARE) {
        let mut commit = operation::create(&operation::draw_run());
        let now = commit.cause.now.as_micros();
        for place in 0..SHARE {
            let id = operation::draw_id();
            commit.events.push(NewEvent {
                kind: "RunCreated".to_owned(),
                schema: 1,
                data: operation::payload(&id, 1),
                project: None,
                step: None,
            });
            commit.rows.push(Row {
                table: Table::Messages,
                status: "queued".to_owned(),
                parent: Some(CONVERSATION.to_owned()),
                ordinal: now,
                name: Some(format!("history:{place}:{id}")),
                body: operation::payload(&id, 1),
                id,
            });
        }
        load::applied(&store.commit(commit).await?)?;
    }
    Ok(())
}

/// The middle time of a page of 50 messages and a page of 50 events, each read from where the last one ended; in
/// milliseconds. Everything is read once before, so that the size of the caches is not what is compared.
pub async fn read_pages(store: &Store, times: usize) -> Result<f64, StoreError> {
    walk(store, times).await?;
    Ok(median_ms(&mut walk(store, times).await?))
}

async fn walk(store: &Store, times: usize) -> Result<Vec<Duration>, StoreError> {
    let mut rows = RowQuery {
        table: Table::Messages,
        parent: Some(CONVERSATION.to_owned()),
        statuses: Vec::new(),
        order: Order::Ascending,
        after: None,
        limit: 50,
    };
    let mut events = EventQuery {
        subject: None,
        project: None,
        step: None,
        kinds: Vec::new(),
        order: Order::Ascending,
        after: None,
        limit: 50,
    };
    let mut latencies = Vec::new();
    for page in 0..times {
        // A long history is read as far as a short one reaches: what is compared is the way to a page, not how much of
        // what is read fits a processor's cache.
        if page % REACH == 0 {
            (rows.after, events.after) = (None, None);
        }
        let begun = host::clock::monotonic();
        let messages = store.list_rows(&rows).await?;
        let read = store.list_events(&events).await?;
        latencies.push(host::clock::monotonic() - begun);
        rows.after = messages.last().map(|row| (row.ordinal, row.id.clone()));
        events.after = Some(read.next);
    }
    Ok(latencies)
}
