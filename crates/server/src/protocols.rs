//! Protocols, on their inherited routes.

use api::{
    ProblemBody,
    events::InheritedEvent,
    problem::INVALID_PROTOCOL,
    protocols::{ActionView, AdvanceBody, NewProtocolBody, ProtocolSpecView, ProtocolView},
};
use axum::{Json, extract::State, response::Response};
use control::{protocols::CreateProtocol, tokens::Session};
use domain::{
    commit::{Subject, SubjectKind},
    ids::ProjectId,
    protocol::{Advance, Protocol, ProtocolState},
};
use serde::Deserialize;
use store::{EventQuery, Order, projects::ListedProject, protocols::ListedProtocol};

use crate::{
    app::App,
    asked::{Asked, PageQuery, Queried, parse_statuses, plain_limit},
    auth::{Reader, Steerer},
    events::{self, events},
    perform::kept,
    plain::{Plain, PlainPage},
    problem::Problem,
    sight::{ProjectKey, Seen, Sight},
    steering::{Answer, action},
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
    Seen { by: Steerer(session), it }: Seen<Steerer, ListedProject>,
    Asked { body, once }: Asked<NewProtocolBody>,
) -> Result<Response, Problem> {
    let request = request_of(body, it.project.id, &session)?;
    app.perform(&session, once, move |control, cause| async move {
        let view = |protocol: &Protocol| ProtocolView::of(protocol, protocol.created_at);
        let changed = control.create_protocol(request, &cause, |protocol| kept(&view(protocol))).await?;
        Ok(view(&changed.subject))
    })
    .await
}

fn request_of(body: NewProtocolBody, project: ProjectId, session: &Session) -> Result<CreateProtocol, Problem> {
    let chosen = [("worktree_path", &body.worktree_path), ("protocol_root", &body.protocol_root)];
    let problems: Vec<String> = chosen
        .iter()
        .filter(|(_, value)| value.is_some())
        .map(|(name, _)| format!("{name}: cannot be chosen, leave it out"))
        .collect();
    if !problems.is_empty() {
        return Err(Problem::new(INVALID_PROTOCOL, problems.join("; ")).listing(problems));
    }
    Ok(CreateProtocol {
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
    })
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
    Seen { it, .. }: Seen<Reader, ListedProject>,
    Queried(query): Queried<PageQuery>,
) -> Result<Plain<ProtocolView>, Problem> {
    let page = PlainPage::try_from(query)?;
    let project = it.project.id;
    let listed = app.control.store().list_protocols(Some(project.0), &[], page.after.clone(), page.limit).await?;
    let views = listed.iter().map(view_of_row).collect();
    Ok(page.answer(&format!("/projects/{project}/protocols"), &[], &listed, place, views))
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
) -> Result<Plain<ProtocolView>, Problem> {
    let statuses = parse_statuses(query.status.as_deref(), "protocol", &ProtocolState::NAMES)?;
    let statuses: Vec<String> = statuses.into_iter().map(str::to_owned).collect();
    let page = PlainPage::of(query.limit, query.after.as_deref())?;
    let store = app.control.store();
    let listed = store.list_protocols(None, &statuses, page.after.clone(), page.limit).await?;
    let mut sight = Sight::of(&reader.0, key, store);
    let mut views = Vec::with_capacity(listed.len());
    for one in &listed {
        if sight.sees_owner(&Subject::new(SubjectKind::Project, &one.protocol.project)).await? {
            views.push(view_of_row(one));
        }
    }
    let filters: Vec<_> = (!statuses.is_empty()).then(|| ("status", statuses.join(","))).into_iter().collect();
    Ok(page.answer("/protocols", &filters, &listed, place, views))
}

fn place(listed: &ListedProtocol) -> (i64, String) {
    (listed.protocol.id.0, listed.protocol.id.to_string())
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
    Seen { it, .. }: Seen<Reader, ListedProtocol>,
) -> Result<Json<ProtocolView>, Problem> {
    // With its gates, so that the one that is open shows.
    let whole = app.control.store().find::<Protocol>(&it.protocol.id.to_string()).await?;
    let protocol = whole.map_or(it.protocol, |whole| whole.subject);
    Ok(Json(ProtocolView::of(&protocol, it.updated_at)))
}

/// Get the spec of a protocol
#[utoipa::path(get, path = "/protocols/{id}/spec", tag = "protocols", security(("bearer" = ["read"])),
    params(("id" = i64, Path), ("X-Project-Token" = Option<String>, Header)),
    responses((status = 200, body = ProtocolSpecView), (status = "4XX", body = ProblemBody)))]
pub(crate) async fn get_protocol_spec(Seen { it, .. }: Seen<Reader, ListedProtocol>) -> Json<ProtocolSpecView> {
    Json(ProtocolSpecView::from(&it.protocol))
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
    Seen { it, .. }: Seen<Reader, ListedProtocol>,
    Queried(query): Queried<PageQuery>,
) -> Result<Json<Vec<InheritedEvent>>, Problem> {
    let store = app.control.store();
    let subject = Some(it.protocol.subject());
    let newest = EventQuery { subject, ..events(Order::Descending, plain_limit(query.limit)) };
    let events = store.list_events(&newest).await?.events;
    Ok(Json(events::inherited(store, &events).await?))
}

action!(
    /// Start a protocol
    ///
    /// It is planned; with `auto` its steps follow.
    start_protocol, "/protocols/{id}/actions/start", "protocols", ActionView,
    Answer::Work("Planning enqueued"), ListedProtocol, protocol => start_protocol
);
action!(
    /// Pause a protocol
    ///
    /// What waits is taken back; what runs is stopped and starts again when it is resumed.
    pause_protocol, "/protocols/{id}/actions/pause", "protocols", ProtocolView,
    Answer::Protocol, ListedProtocol, protocol => pause_protocol
);
action!(
    /// Resume a protocol
    resume_protocol, "/protocols/{id}/actions/resume", "protocols", ProtocolView,
    Answer::Protocol, ListedProtocol, protocol => resume_protocol
);
action!(
    /// Cancel a protocol
    ///
    /// For good. Canceling twice is not an error.
    cancel_protocol, "/protocols/{id}/actions/cancel", "protocols", ProtocolView,
    Answer::Protocol, ListedProtocol, protocol => cancel_protocol
);
action!(
    /// Run the next step
    run_next_step, "/protocols/{id}/actions/run_next_step", "protocols", ActionView,
    Answer::Work("Step enqueued"), ListedProtocol, protocol => run_next_step
);
action!(
    /// Retry the latest failed or blocked step
    retry_latest, "/protocols/{id}/actions/retry_latest", "protocols", ActionView,
    Answer::Work("Step retry enqueued"), ListedProtocol, protocol => retry_latest_step
);
