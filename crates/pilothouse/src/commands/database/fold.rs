//! fold(events) = rows: every subject is built again from its events and compared with its rows.

use std::time::Duration;

use domain::{
    aggregate,
    commit::{Subject, SubjectKind},
    current_catalog::CurrentCatalog,
    person::Person,
    project::Project,
    protocol::Protocol,
    run::Run,
    token::Token,
};
use store::{EventQuery, Order, RowQuery, Store, Stored, StoredEvent};

use crate::failure::Result;

const PAGE: u32 = 500;
/// PostgreSQL shows an event once every older transaction of its server has ended.
const PATIENCE: Duration = Duration::from_secs(30);

/// What folding everything brought.
#[derive(Debug, Default)]
pub(super) struct Folded {
    pub(super) findings: Vec<String>,
    pub(super) n_subjects: u64,
}

pub(super) async fn check(store: &Store) -> Result<Folded> {
    let mut folded = Folded::default();
    for kind in SubjectKind::ALL {
        match kind {
            SubjectKind::Run => fold_all::<Run>(store, &mut folded).await?,
            SubjectKind::Person => fold_all::<Person>(store, &mut folded).await?,
            SubjectKind::Token => fold_all::<Token>(store, &mut folded).await?,
            SubjectKind::Catalog => fold_all::<CurrentCatalog>(store, &mut folded).await?,
            SubjectKind::Project => fold_all::<Project>(store, &mut folded).await?,
            SubjectKind::Protocol => fold_all::<Protocol>(store, &mut folded).await?,
            // A message is made by the subject that asked for it: its first event is not its own.
            SubjectKind::Message => {}
        }
    }
    Ok(folded)
}

async fn fold_all<S: Stored>(store: &Store, folded: &mut Folded) -> Result {
    let mut query = RowQuery {
        table: S::KIND.head(),
        parent: None,
        statuses: Vec::new(),
        order: Order::Ascending,
        after: None,
        limit: PAGE,
    };
    loop {
        let rows = store.list_rows(&query).await?;
        let Some(last) = rows.last() else { return Ok(()) };
        query.after = Some((last.ordinal, last.id.clone()));
        for row in &rows {
            folded.n_subjects += 1;
            folded.findings.extend(fold_one::<S>(store, &row.id).await?);
        }
    }
}

/// Compares a subject with its events up to the version that its rows are at. Others may be at work: a subject that moves
/// on meanwhile is read again, and events that PostgreSQL still holds back are waited for.
async fn fold_one<S: Stored>(store: &Store, id: &str) -> Result<Option<String>> {
    let name = format!("{} {id}", S::KIND.as_str());
    let started = host::clock::monotonic();
    loop {
        let Some(stored) = store.find::<S>(id).await? else {
            return Ok(Some(format!("{name} is listed but cannot be loaded")));
        };
        let events = read_events::<S>(store, id).await?;
        let newest = events.last().map_or(0, |event| event.version);
        let is_late = newest < stored.version && store.backend_name() == "postgres";
        if (is_late || newest > stored.version) && started.elapsed() < PATIENCE {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        }
        if newest != stored.version {
            let version = stored.version;
            return Ok(Some(format!(
                "{name} is at version {version}, and its events that can be read end at {newest}"
            )));
        }
        let mut known = Vec::with_capacity(events.len());
        for event in &events {
            match serde_json::from_str::<S::Event>(&event.data) {
                Ok(event) => known.push(event),
                Err(error) => return Ok(Some(format!("event {} of {name} is not understood: {error}", event.id))),
            }
        }
        return Ok(match aggregate::fold::<S>(&known) {
            Some(subject) if subject == stored.subject => None,
            Some(_) => Some(format!("{name} differs from what its {} events make", known.len())),
            None => Some(format!("the first event of {name} does not make it")),
        });
    }
}

/// All events of a subject, in their order.
async fn read_events<S: Stored>(store: &Store, id: &str) -> Result<Vec<StoredEvent>> {
    let mut events = Vec::new();
    let mut query = EventQuery {
        subject: Some(Subject { kind: S::KIND, id: id.to_owned() }),
        project: None,
        step: None,
        kinds: Vec::new(),
        order: Order::Ascending,
        after: None,
        limit: PAGE,
    };
    loop {
        let page = store.list_events(&query).await?;
        let is_last = !page.more || page.events.is_empty();
        events.extend(page.events);
        if is_last {
            return Ok(events);
        }
        query.after = Some(page.next);
    }
}
