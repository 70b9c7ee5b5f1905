//! Protocols, on their inherited routes.

use api::{
    ProblemBody, RowCursor,
    events::InheritedEvent,
    health::NoBody,
    problem::{INVALID_PROTOCOL, INVALID_QUERY},
    protocols::{ActionView, AdvanceBody, NewProtocolBody, ProtocolSpecView, ProtocolView},
};
use axum::{Json, extract::State, http::HeaderMap, response::Response};
use control::{Cause, Changed, CommandError, Control, ledger::Rendered, protocols::CreateProtocol, tokens::Session};
use domain::{
    commit::{Subject, SubjectKind},
    ids::ProtocolId,
    protocol::{Advance, Protocol, ProtocolEvent, ProtocolState},
    task::NewTask,
    time::Timestamp,
};
use serde::Deserialize;
use store::{EventQuery, Order, protocols::ListedProtocol};

use crate::{
    app::App,
    asked::{Act, Asked, Id, Once, PageQuery, Queried, plain_limit, row_cursor},
    auth::{Reader, Steerer},
    events,
    perform::{kept, with_tasks},
    problem::{Problem, typed},
    queue::next_link,
    sight::{ProjectKey, Sight},
};

/// Create a protocol
///
/// It begins with its start action.
#[utoipa::path(post, path = "/projects/{id}/protocols", tag = "protocols",
    security(("bearer" = ["protocols:write"])), request_body = NewProtocolBody,
    params(("id" = i64, Path), ("X-Project-Token" = Option<String>, Header),
        ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, body = ProtocolView), (status = "4XX", body = ProblemBody)))]
pub(crate) async fn create_protocol(
    State(app): State<App>,
    steerer: Steerer,
    key: ProjectKey,
    id: Id,
    Asked { body, once }: Asked<NewProtocolBody>,
) -> Result<Response, Problem> {
    let session = &steerer.0;
    let project = Sight::of(session, key, app.control.store()).project(&id).await?.project.id;
    let chosen = [("worktree_path", &body.worktree_path), ("protocol_root", &body.protocol_root)];
    let problems: Vec<String> = chosen
        .iter()
        .filter(|(_, value)| value.is_some())
        .map(|(name, _)| format!("{name}: cannot be chosen, leave it out"))
        .collect();
    if !problems.is_empty() {
        return Err(Problem::new(INVALID_PROTOCOL, problems.join("; ")).listing(problems));
    }
    let request = CreateProtocol {
        project,
        name: body.protocol_name,
        status: body.status,
        base_branch: body.base_branch,
        description: body.description,
        advance: match body.advance {
            Some(AdvanceBody::Auto) => Advance::Auto,
            Some(AdvanceBody::Manual) | None => Advance::Manual,
        },
        template_config: body.template_config,
        template_source: body.template_source,
        spec: body.spec,
        created_by: Some(session.person.id.clone()),
        requester: session.person.name.clone(),
    };
    app.perform(session, once, move |control, cause| async move {
        let view = |protocol: &Protocol| ProtocolView::of(protocol, protocol.created_at);
        let changed = control.create_protocol(request, &cause, |protocol| kept(&view(protocol))).await?;
        Ok(view(&changed.subject))
    })
    .await
}

/// List a project's protocols
///
/// Newest first.
#[utoipa::path(get, path = "/projects/{id}/protocols", tag = "protocols", security(("bearer" = ["read"])),
    params(("id" = i64, Path), ("X-Project-Token" = Option<String>, Header),
        ("limit" = Option<i64>, Query, description = "1 to 500, 500 when missing"),
        ("after" = Option<String>, Query, description = "From the Link header")),
    responses((status = 200, body = Vec<ProtocolView>), (status = "4XX", body = ProblemBody)))]
pub(crate) async fn list_project_protocols(
    State(app): State<App>,
    reader: Reader,
    key: ProjectKey,
    id: Id,
    Queried(query): Queried<PageQuery>,
) -> Result<(HeaderMap, Json<Vec<ProtocolView>>), Problem> {
    let store = app.control.store();
    let project = Sight::of(&reader.0, key, store).project(&id).await?.project.id;
    let limit = plain_limit(query.limit);
    let after = row_cursor(query.after.as_deref())?;
    let listed = store.list_protocols(Some(project.0), &[], after, limit).await?;
    let link = next_link(&format!("/projects/{project}/protocols"), &[], limit, next(&listed, limit).as_deref());
    Ok((link, Json(listed.iter().map(view_of_row).collect())))
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProtocolsQuery {
    status: Option<String>,
    limit: Option<i64>,
    after: Option<String>,
}

/// List protocols
///
/// Of all projects, newest first.
#[utoipa::path(get, path = "/protocols", tag = "protocols", security(("bearer" = ["read"])),
    params(("status" = Option<String>, Query, description = "Only protocols in this state; several are separated by commas"),
        ("limit" = Option<i64>, Query, description = "1 to 500, 500 when missing"),
        ("after" = Option<String>, Query, description = "From the Link header")),
    responses((status = 200, body = Vec<ProtocolView>), (status = "4XX", body = ProblemBody)))]
pub(crate) async fn list_protocols(
    State(app): State<App>,
    reader: Reader,
    key: ProjectKey,
    Queried(query): Queried<ProtocolsQuery>,
) -> Result<(HeaderMap, Json<Vec<ProtocolView>>), Problem> {
    let statuses = query.status.as_deref().map_or(Ok(Vec::new()), parse_statuses)?;
    let limit = plain_limit(query.limit);
    let store = app.control.store();
    let listed = store.list_protocols(None, &statuses, row_cursor(query.after.as_deref())?, limit).await?;
    let mut sight = Sight::of(&reader.0, key, store);
    let mut views = Vec::with_capacity(listed.len());
    for one in &listed {
        if sight.sees_owner(&Subject::new(SubjectKind::Project, &one.protocol.project)).await? {
            views.push(view_of_row(one));
        }
    }
    let filters: Vec<_> = (!statuses.is_empty()).then(|| ("status", statuses.join(","))).into_iter().collect();
    Ok((next_link("/protocols", &filters, limit, next(&listed, limit).as_deref()), Json(views)))
}

fn parse_statuses(text: &str) -> Result<Vec<String>, Problem> {
    let names = ProtocolState::NAMES;
    text.split(',')
        .map(|name| match names.iter().find(|known| **known == name.trim()) {
            Some(known) => Ok((*known).to_owned()),
            None => {
                let detail = format!("{} is no status of a protocol; there are {}", typed(name), names.join(", "));
                Err(Problem::new(INVALID_QUERY, detail))
            }
        })
        .collect()
}

fn next(listed: &[ListedProtocol], limit: u32) -> Option<String> {
    let last = listed.last().filter(|_| listed.len() == limit as usize)?;
    Some(RowCursor { ordinal: last.protocol.id.0, id: last.protocol.id.to_string() }.to_text())
}

fn view_of_row(listed: &ListedProtocol) -> ProtocolView {
    ProtocolView::of(&listed.protocol, listed.updated_at)
}

/// Get a protocol
#[utoipa::path(get, path = "/protocols/{id}", tag = "protocols", security(("bearer" = ["read"])),
    params(("id" = i64, Path), ("X-Project-Token" = Option<String>, Header)),
    responses((status = 200, body = ProtocolView), (status = "4XX", body = ProblemBody)))]
pub(crate) async fn get_protocol(
    State(app): State<App>,
    reader: Reader,
    key: ProjectKey,
    id: Id,
) -> Result<Json<ProtocolView>, Problem> {
    let store = app.control.store();
    let listed = Sight::of(&reader.0, key, store).protocol(&id).await?;
    // With its gates, so that the one that is open shows.
    let whole = store.find::<Protocol>(&listed.protocol.id.to_string()).await?;
    let protocol = whole.map_or(listed.protocol, |whole| whole.subject);
    Ok(Json(ProtocolView::of(&protocol, listed.updated_at)))
}

/// Get the spec of a protocol
#[utoipa::path(get, path = "/protocols/{id}/spec", tag = "protocols", security(("bearer" = ["read"])),
    params(("id" = i64, Path), ("X-Project-Token" = Option<String>, Header)),
    responses((status = 200, body = ProtocolSpecView), (status = "4XX", body = ProblemBody)))]
pub(crate) async fn get_protocol_spec(
    State(app): State<App>,
    reader: Reader,
    key: ProjectKey,
    id: Id,
) -> Result<Json<ProtocolSpecView>, Problem> {
    let listed = Sight::of(&reader.0, key, app.control.store()).protocol(&id).await?;
    Ok(Json(ProtocolSpecView::from(&listed.protocol)))
}

/// List the events of a protocol
///
/// Newest first, in the inherited shape. `/events?subject=protocol:{id}` pages through all of them.
#[utoipa::path(get, path = "/protocols/{id}/events", tag = "protocols", security(("bearer" = ["read"])),
    params(("id" = i64, Path), ("X-Project-Token" = Option<String>, Header),
        ("limit" = Option<i64>, Query, description = "1 to 500, 500 when missing")),
    responses((status = 200, body = Vec<InheritedEvent>), (status = "4XX", body = ProblemBody)))]
pub(crate) async fn list_protocol_events(
    State(app): State<App>,
    reader: Reader,
    key: ProjectKey,
    id: Id,
    Queried(query): Queried<PageQuery>,
) -> Result<Json<Vec<InheritedEvent>>, Problem> {
    let store = app.control.store();
    let listed = Sight::of(&reader.0, key, store).protocol(&id).await?;
    let newest = EventQuery {
        subject: Some(listed.protocol.subject()),
        project: None,
        step: None,
        kinds: Vec::new(),
        order: Order::Descending,
        after: None,
        limit: plain_limit(query.limit),
    };
    let events = store.list_events(&newest).await?.events;
    Ok(Json(events::inherited(store, &events).await?))
}

type Done = Result<Changed<Protocol, ProtocolEvent>, CommandError>;

/// Gives a command to a protocol and answers with the protocol.
async fn steer<F>(
    app: &App,
    session: &Session,
    id: ProtocolId,
    once: Once,
    command: impl FnOnce(Control, ProtocolId, Cause, Render) -> F + Send + 'static,
) -> Result<Response, Problem>
where
    F: Future<Output = Done> + Send,
{
    let now = app.control.clock().now();
    app.perform(session, once, move |control, cause| async move {
        let render: Render = Box::new(move |protocol| kept(&ProtocolView::of(protocol, now)));
        let changed = command(control, id, cause, render).await?;
        Ok(ProtocolView::of(&changed.subject, now))
    })
    .await
}

/// Gives a command that puts work into the queue and answers with that work.
pub(crate) async fn enqueue<F>(
    app: &App,
    session: &Session,
    once: Once,
    message: String,
    command: impl FnOnce(Control, Cause, Render) -> F + Send + 'static,
) -> Result<Response, Problem>
where
    F: Future<Output = Done> + Send,
{
    let now = app.control.clock().now();
    app.perform(session, once, move |control, cause| async move {
        let cause = with_tasks(cause, complete);
        let said = message.clone();
        let render: Render = Box::new(move |protocol| kept(&ActionView { message: told(protocol, &said), job: None }));
        let changed = command(control, cause, render).await?;
        Ok(ActionView::of(told(&changed.subject, &message), &changed.tasks, now))
    })
    .await
}

/// How an answer is kept before the commit.
pub(crate) type Render = Box<dyn Fn(&Protocol) -> Rendered + Send + Sync>;

/// What is said of work that was asked for: people may have to answer first.
fn told(protocol: &Protocol, message: &str) -> String {
    match protocol.open_gate() {
        Some(gate) => format!("Gate {} waits for an answer", gate.id),
        None => message.to_owned(),
    }
}

/// Puts the task into the kept answer, once it has its id.
fn complete(answer: &str, tasks: &[NewTask], now: Timestamp) -> String {
    let completed = serde_json::from_str::<serde_json::Value>(answer).ok().and_then(|mut kept| {
        let message = kept["body"]["message"].as_str()?.to_owned();
        kept["body"] = serde_json::to_value(ActionView::of(message, tasks, now)).ok()?;
        Some(kept.to_string())
    });
    completed.unwrap_or_else(|| answer.to_owned())
}

macro_rules! action {
    ($(#[$doc:meta])* $name:ident, $path:literal, $view:ty, |$app:ident, $session:ident, $protocol:ident, $once:ident| $act:expr) => {
        $(#[$doc])*
        #[utoipa::path(post, path = $path, tag = "protocols", security(("bearer" = ["protocols:write"])),
            request_body = Option<NoBody>,
            params(("id" = i64, Path), ("X-Project-Token" = Option<String>, Header),
                ("Idempotency-Key" = Option<String>, Header)),
            responses((status = 200, body = $view), (status = "4XX", body = ProblemBody)))]
        pub(crate) async fn $name(
            State(app): State<App>,
            steerer: Steerer,
            key: ProjectKey,
            id: Id,
            Act { body: NoBody {}, once }: Act<NoBody>,
        ) -> Result<Response, Problem> {
            let ($app, $session, $once) = (&app, &steerer.0, once);
            let $protocol = Sight::of($session, key, app.control.store()).protocol(&id).await?.protocol.id;
            $act.await
        }
    };
}

action!(
    /// Start a protocol
    ///
    /// It is planned; with `auto` its steps follow.
    start_protocol, "/protocols/{id}/actions/start", ActionView,
    |app, session, protocol, once| {
        enqueue(app, session, once, "Planning enqueued".to_owned(), move |control, cause, render| async move {
            control.start_protocol(protocol, &cause, render).await
        })
    }
);
action!(
    /// Pause a protocol
    ///
    /// What waits is taken back; what runs is stopped and starts again when it is resumed.
    pause_protocol, "/protocols/{id}/actions/pause", ProtocolView,
    |app, session, protocol, once| {
        steer(app, session, protocol, once, |control, id, cause, render| async move {
            control.pause_protocol(id, &cause, render).await
        })
    }
);
action!(
    /// Resume a protocol
    resume_protocol, "/protocols/{id}/actions/resume", ProtocolView,
    |app, session, protocol, once| {
        steer(app, session, protocol, once, |control, id, cause, render| async move {
            control.resume_protocol(id, &cause, render).await
        })
    }
);
action!(
    /// Cancel a protocol
    ///
    /// For good. Canceling twice is not an error.
    cancel_protocol, "/protocols/{id}/actions/cancel", ProtocolView,
    |app, session, protocol, once| {
        steer(app, session, protocol, once, |control, id, cause, render| async move {
            control.cancel_protocol(id, &cause, render).await
        })
    }
);
action!(
    /// Run the next step
    run_next_step, "/protocols/{id}/actions/run_next_step", ActionView,
    |app, session, protocol, once| {
        enqueue(app, session, once, "Step enqueued".to_owned(), move |control, cause, render| async move {
            control.run_next_step(protocol, &cause, render).await
        })
    }
);
action!(
    /// Retry the latest failed or blocked step
    retry_latest, "/protocols/{id}/actions/retry_latest", ActionView,
    |app, session, protocol, once| {
        enqueue(app, session, once, "Step retry enqueued".to_owned(), move |control, cause, render| async move {
            control.retry_latest_step(protocol, &cause, render).await
        })
    }
);
