//! The timeline: as the inherited array, as pages, as a stream. All are read from the ledger; nothing is kept here.

use std::{collections::BTreeMap, time::Duration};

use api::{
    Page, ProblemBody,
    events::{EventList, EventView, InheritedEvent, message_of, shown_data},
    problem::{INVALID_CURSOR, INVALID_QUERY, UNKNOWN_STEP, UNKNOWN_SUBJECT},
};
use axum::{
    Json,
    extract::State,
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use domain::{
    commit::{Subject, SubjectKind, Table},
    reference::Ref,
};
use serde::Deserialize;
use store::{EventQuery, Order, Store, StoredEvent};

use crate::{
    app::App,
    asked::{Queried, page_limit},
    auth::Reader,
    problem::{Problem, typed},
    sight::{ProjectKey, Sight},
    stream::{Feed, Gone, respond},
};

/// What has a timeline that readers see. People, tokens and messages have none.
const SHOWN: [SubjectKind; 3] = [SubjectKind::Project, SubjectKind::Protocol, SubjectKind::Run];
/// Begins a stream behind what there is already.
const LATEST: &str = "latest";
const STREAM_PAGE: u32 = 100;
const POLL: Duration = Duration::from_secs(1);

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EventsQuery {
    subject: Option<String>,
    after: Option<String>,
    project_id: Option<i64>,
    limit: Option<i64>,
}

/// List events
///
/// Without `subject` and `after`: the inherited array, newest first. With either: `items` and `next_cursor`, oldest
/// first; the cursor is always there, so that a follower can wait behind it.
#[utoipa::path(get, path = "/events", tag = "events", security(("bearer" = ["read"])),
    params(("subject" = Option<String>, Query, description = "run:7Q4K2MA, protocol:3, step:12 or project:1"),
        ("after" = Option<String>, Query, description = "A cursor; empty for the beginning"),
        ("project_id" = Option<i64>, Query, description = "Only events of this project"),
        ("limit" = Option<i64>, Query, description = "1 to 500, 50 when missing")),
    responses((status = 200, body = EventList), (status = "4XX", body = ProblemBody)))]
pub(crate) async fn list_events(
    State(app): State<App>,
    reader: Reader,
    key: ProjectKey,
    Queried(query): Queried<EventsQuery>,
) -> Result<Response, Problem> {
    let store = app.control.store();
    let mut sight = Sight::of(&reader.0, key, store);
    check_sight(&sight, &query).await?;
    if query.subject.is_none() && query.after.is_none() {
        let newest = EventQuery {
            project: query.project_id,
            kinds: SHOWN.to_vec(),
            ..events(Order::Descending, page_limit(query.limit))
        };
        let events = seen(&mut sight, store.list_events(&newest).await?.events).await?;
        return Ok(Json(inherited(store, &events).await?).into_response());
    }
    let limit = page_limit(query.limit);
    let page = store.list_events(&oldest_first(&app, &query, limit).await?).await?;
    let items = seen(&mut sight, page.events).await?.iter().map(view).collect();
    Ok(Json(Page { items, next_cursor: Some(page.next) }).into_response())
}

/// Follow events
///
/// Server-sent events with one event each; the event id is its cursor. Begins behind `Last-Event-ID`, else behind
/// `after`, else at the beginning; `after=latest` begins with what comes next.
#[utoipa::path(get, path = "/events/stream", tag = "events", security(("bearer" = ["read"])),
    params(("subject" = Option<String>, Query, description = "run:7Q4K2MA, protocol:3, step:12 or project:1"),
        ("after" = Option<String>, Query), ("project_id" = Option<i64>, Query),
        ("Last-Event-ID" = Option<String>, Header)),
    responses((status = 200, body = EventView, content_type = "text/event-stream"),
        (status = "4XX", body = ProblemBody)))]
pub(crate) async fn stream_events(
    State(app): State<App>,
    reader: Reader,
    key: ProjectKey,
    headers: HeaderMap,
    Queried(mut query): Queried<EventsQuery>,
) -> Result<Response, Problem> {
    let sight = Sight::of(&reader.0, key, app.control.store());
    check_sight(&sight, &query).await?;
    if let Some(last) = headers.get("last-event-id") {
        let last = last.to_str().map_err(|_| Problem::new(INVALID_CURSOR, "Last-Event-ID is not plain text"))?;
        query.after = Some(last.to_owned());
    }
    if query.after.as_deref() == Some(LATEST) {
        query.after = latest(app.control.store()).await?;
    }
    let first = oldest_first(&app, &query, STREAM_PAGE).await?;
    // A cursor that is not ours is refused before the stream begins.
    app.control.store().list_events(&EventQuery { limit: 1, ..first.clone() }).await?;
    let store = app.control.store().clone();
    respond(&app, &reader.0, move |feed| follow(store, sight, first, feed))
}

async fn follow(store: Store, mut sight: Sight, mut query: EventQuery, feed: Feed) -> Result<(), Gone> {
    let wake = store.wake();
    loop {
        match store.list_events(&query).await {
            Ok(page) => {
                let Ok(events) = seen(&mut sight, page.events).await else { return Ok(()) };
                for event in &events {
                    feed.send(&event.cursor, None, &view(event)).await?;
                }
                query.after = Some(page.next);
                if page.more {
                    continue;
                }
            }
            // The reader need not know: nothing is skipped.
            Err(error) if error.is_transient() => {}
            Err(error) => {
                tracing::error!(%error, "Ended an event stream: {error}");
                return Ok(());
            }
        }
        // What was committed since the page was read is a hint already; the poll is the truth.
        let _ = tokio::time::timeout(POLL, wake.events()).await;
    }
}

/// Events of whatever subject, to be narrowed.
pub(crate) fn events(order: Order, limit: u32) -> EventQuery {
    EventQuery { subject: None, project: None, step: None, kinds: Vec::new(), order, after: None, limit }
}

async fn latest(store: &Store) -> Result<Option<String>, Problem> {
    Ok(store.list_events(&events(Order::Descending, 1)).await?.events.into_iter().next().map(|event| event.cursor))
}

/// The page that a query asks for, its subject known to exist.
async fn oldest_first(app: &App, query: &EventsQuery, limit: u32) -> Result<EventQuery, Problem> {
    let (subject, step) = match query.subject.as_deref() {
        None => (None, None),
        Some(text) => find_subject(app.control.store(), text).await?,
    };
    Ok(EventQuery {
        kinds: if subject.is_none() { SHOWN.to_vec() } else { Vec::new() },
        subject,
        step,
        project: query.project_id,
        order: Order::Ascending,
        after: query.after.clone().filter(|after| !after.is_empty()),
        limit,
    })
}

/// The subject or the step of a timeline.
async fn find_subject(store: &Store, text: &str) -> Result<(Option<Subject>, Option<i64>), Problem> {
    let unknown = |code| Problem::new(code, format!("there is no {}", typed(text)));
    let (kind, id) = text.split_once(':').ok_or_else(|| unknown(UNKNOWN_SUBJECT))?;
    if kind == "step" {
        let step: i64 = id.parse().map_err(|_| unknown(UNKNOWN_STEP))?;
        let found = store.find_row(Table::Steps, &step.to_string()).await?;
        return found.map(|_| (None, Some(step))).ok_or_else(|| unknown(UNKNOWN_STEP));
    }
    let kind = SubjectKind::parse(kind).filter(|kind| SHOWN.contains(kind)).ok_or_else(|| unknown(UNKNOWN_SUBJECT))?;
    let id = match kind {
        SubjectKind::Run => Ref::parse(id).map(|id| id.to_string()).map_err(|_| unknown(UNKNOWN_SUBJECT))?,
        _ => id.parse::<i64>().map(|id| id.to_string()).map_err(|_| unknown(UNKNOWN_SUBJECT))?,
    };
    match store.find_row(kind.head(), &id).await? {
        Some(_) => Ok((Some(Subject { kind, id }), None)),
        None => Err(unknown(UNKNOWN_SUBJECT)),
    }
}

async fn check_sight(sight: &Sight, query: &EventsQuery) -> Result<(), Problem> {
    match query.project_id {
        Some(id) if id < 1 => return Err(Problem::new(INVALID_QUERY, "project_id: expected a whole number from 1 on")),
        Some(id) => sight.check_number(id).await?,
        None => {}
    }
    match query.subject.as_deref() {
        Some(subject) => sight.check_subject(subject).await,
        None => Ok(()),
    }
}

/// Only what the caller sees. Cursors pass over what is left out.
async fn seen(sight: &mut Sight, events: Vec<StoredEvent>) -> Result<Vec<StoredEvent>, Problem> {
    let mut seen = Vec::with_capacity(events.len());
    for event in events {
        if sight.sees_event(&event).await? {
            seen.push(event);
        }
    }
    Ok(seen)
}

pub(crate) fn view(event: &StoredEvent) -> EventView {
    let data = shown_data(&event.data);
    EventView {
        id: event.id,
        cursor: event.cursor.clone(),
        subject: event.subject.to_string(),
        version: event.version,
        place: event.place,
        message: message_of(&event.kind, &data),
        kind: event.kind.clone(),
        at: event.at.to_string(),
        actor: event.actor.clone(),
        project_id: event.project,
        step_id: event.step,
        data,
    }
}

/// Events in the inherited shape, with the names of what they are about.
pub(crate) async fn inherited(store: &Store, events: &[StoredEvent]) -> Result<Vec<InheritedEvent>, Problem> {
    let mut names = Names { store, known: BTreeMap::new() };
    let mut views = Vec::with_capacity(events.len());
    for event in events {
        let data = shown_data(&event.data);
        let protocol = match event.subject.kind {
            SubjectKind::Protocol => event.subject.id.parse::<i64>().ok(),
            _ => None,
        };
        let project = match event.subject.kind {
            SubjectKind::Project => event.subject.id.parse::<i64>().ok(),
            _ => event.project,
        };
        views.push(InheritedEvent {
            id: event.id,
            protocol_run_id: protocol,
            step_run_id: event.step,
            event_type: event.kind.clone(),
            message: message_of(&event.kind, &data),
            metadata: data,
            created_at: event.at.to_plain_string(),
            protocol_name: names.of(Table::Protocols, protocol).await?,
            project_id: project,
            project_name: names.of(Table::Projects, project).await?,
            subject: event.subject.to_string(),
            actor: event.actor.clone(),
        });
    }
    Ok(views)
}

struct Names<'s> {
    store: &'s Store,
    known: BTreeMap<(Table, i64), Option<String>>,
}

impl Names<'_> {
    async fn of(&mut self, table: Table, id: Option<i64>) -> Result<Option<String>, Problem> {
        let Some(id) = id else { return Ok(None) };
        if let Some(known) = self.known.get(&(table, id)) {
            return Ok(known.clone());
        }
        let name = self.store.find_row(table, &id.to_string()).await?.and_then(|row| row.name);
        self.known.insert((table, id), name.clone());
        Ok(name)
    }
}
