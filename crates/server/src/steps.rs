//! Steps, on their inherited routes.

use api::{
    Page, ProblemBody, RowCursor,
    attempts::AttemptView,
    health::NoBody,
    problem::UNKNOWN_STEP,
    protocols::{ActionView, DiffView},
    steps::{ApproveStepBody, NewStepBody, StepView},
};
use axum::{Json, extract::State, http::HeaderMap, response::Response};
use control::{CommandError, steps::AddStep};
use domain::{ids::StepId, protocol::Protocol, protocol::ProtocolEvent, step::Candidate, time::Timestamp};
use store::{EventQuery, Order, Store, steps::ListedStep};

use crate::{
    app::App,
    asked::{Act, Asked, Id, PageQuery, Queried, plain_limit, row_cursor},
    attempts::list_attempts,
    auth::{Approver, Reader, Steerer},
    perform::kept,
    problem::Problem,
    protocols::enqueue,
    queue::next_link,
    sight::{ProjectKey, Sight},
};

fn view_of_row(listed: &ListedStep) -> StepView {
    StepView::of(&listed.step, listed.created_at, listed.updated_at)
}

/// Add a step by hand
#[utoipa::path(post, path = "/protocols/{id}/steps", tag = "steps", security(("bearer" = ["protocols:write"])),
    request_body = NewStepBody,
    params(("id" = i64, Path), ("X-Project-Token" = Option<String>, Header),
        ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, body = StepView), (status = "4XX", body = ProblemBody)))]
pub(crate) async fn create_step(
    State(app): State<App>,
    steerer: Steerer,
    key: ProjectKey,
    id: Id,
    Asked { body, once }: Asked<NewStepBody>,
) -> Result<Response, Problem> {
    let protocol = Sight::of(&steerer.0, key, app.control.store()).protocol(&id).await?.protocol.id;
    let index = body.step_index;
    let request = AddStep {
        step_index: body.step_index,
        step_name: body.step_name,
        step_type: body.step_type,
        status: body.status,
        model: body.model,
        summary: body.summary,
        engine_id: body.engine_id,
        policy: body.policy,
    };
    let now = app.control.clock().now();
    app.perform(&steerer.0, once, move |control, cause| async move {
        let view = |protocol: &Protocol| {
            protocol.steps.iter().find(|step| step.index == index).map(|step| StepView::of(step, now, now))
        };
        let render = |protocol: &Protocol| view(protocol).map(|view| kept(&view)).unwrap_or_default();
        let changed = control.add_step(protocol, request, &cause, render).await?;
        view(&changed.subject).ok_or(CommandError::Contended)
    })
    .await
}

/// List the steps of a protocol
///
/// By index.
#[utoipa::path(get, path = "/protocols/{id}/steps", tag = "steps", security(("bearer" = ["read"])),
    params(("id" = i64, Path), ("X-Project-Token" = Option<String>, Header),
        ("limit" = Option<i64>, Query, description = "1 to 500, 500 when missing"),
        ("after" = Option<String>, Query, description = "From the Link header")),
    responses((status = 200, body = Vec<StepView>), (status = "4XX", body = ProblemBody)))]
pub(crate) async fn list_steps(
    State(app): State<App>,
    reader: Reader,
    key: ProjectKey,
    id: Id,
    Queried(query): Queried<PageQuery>,
) -> Result<(HeaderMap, Json<Vec<StepView>>), Problem> {
    let store = app.control.store();
    let protocol = Sight::of(&reader.0, key, store).protocol(&id).await?.protocol.id;
    let limit = plain_limit(query.limit);
    let listed = store.list_steps(protocol.0, row_cursor(query.after.as_deref())?, limit).await?;
    let next = listed
        .last()
        .filter(|_| listed.len() == limit as usize)
        .map(|last| RowCursor { ordinal: i64::from(last.step.index), id: last.step.id.to_string() }.to_text());
    let link = next_link(&format!("/protocols/{protocol}/steps"), &[], limit, next.as_deref());
    Ok((link, Json(listed.iter().map(view_of_row).collect())))
}

/// Get a step
#[utoipa::path(get, path = "/steps/{id}", tag = "steps", security(("bearer" = ["read"])),
    params(("id" = i64, Path), ("X-Project-Token" = Option<String>, Header)),
    responses((status = 200, body = StepView), (status = "4XX", body = ProblemBody)))]
pub(crate) async fn get_step(
    State(app): State<App>,
    reader: Reader,
    key: ProjectKey,
    id: Id,
) -> Result<Json<StepView>, Problem> {
    Ok(Json(view_of_row(&Sight::of(&reader.0, key, app.control.store()).step(&id).await?)))
}

/// List a step's attempts
#[utoipa::path(get, path = "/steps/{id}/attempts", tag = "attempts", security(("bearer" = ["read"])),
    params(("id" = i64, Path), ("X-Project-Token" = Option<String>, Header)),
    responses((status = 200, body = Page<AttemptView>), (status = "4XX", body = ProblemBody)))]
pub(crate) async fn list_step_attempts(
    State(app): State<App>,
    reader: Reader,
    key: ProjectKey,
    id: Id,
) -> Result<Json<Page<AttemptView>>, Problem> {
    let step = Sight::of(&reader.0, key, app.control.store()).step(&id).await?.step;
    list_attempts(&app, &format!("step:{}", step.id)).await
}

/// Get how much a step's result changes
///
/// Of the result that waits, else of the last one there was.
#[utoipa::path(get, path = "/steps/{id}/diff", tag = "steps", security(("bearer" = ["read"])),
    params(("id" = i64, Path), ("X-Project-Token" = Option<String>, Header)),
    responses((status = 200, body = DiffView), (status = "4XX", body = ProblemBody)))]
pub(crate) async fn get_step_diff(
    State(app): State<App>,
    reader: Reader,
    key: ProjectKey,
    id: Id,
) -> Result<Json<DiffView>, Problem> {
    let store = app.control.store();
    let step = Sight::of(&reader.0, key, store).step(&id).await?.step;
    let candidate = match step.candidate() {
        Some(candidate) => Some(candidate.clone()),
        None => last_candidate(store, step.id).await?,
    };
    match candidate {
        Some(candidate) => Ok(Json(DiffView::from(&candidate.diff))),
        None => Err(Problem::new(UNKNOWN_STEP, format!("step {} has no result yet", step.id))),
    }
}

async fn last_candidate(store: &Store, step: StepId) -> Result<Option<Candidate>, Problem> {
    let newest = EventQuery {
        subject: None,
        project: None,
        step: Some(step.0),
        kinds: Vec::new(),
        order: Order::Descending,
        after: None,
        limit: 200,
    };
    let events = store.list_events(&newest).await?.events;
    Ok(events.iter().find_map(|event| match serde_json::from_str(&event.data) {
        Ok(ProtocolEvent::StepExecuted { candidate, .. }) => Some(candidate),
        _ => None,
    }))
}

/// Run a step
#[utoipa::path(post, path = "/steps/{id}/actions/run", tag = "steps", security(("bearer" = ["protocols:write"])),
    request_body = Option<NoBody>,
    params(("id" = i64, Path), ("X-Project-Token" = Option<String>, Header),
        ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, body = ActionView), (status = "4XX", body = ProblemBody)))]
pub(crate) async fn run_step(
    State(app): State<App>,
    steerer: Steerer,
    key: ProjectKey,
    id: Id,
    Act { body: NoBody {}, once }: Act<NoBody>,
) -> Result<Response, Problem> {
    let step = Sight::of(&steerer.0, key, app.control.store()).step(&id).await?.step.id;
    enqueue(&app, &steerer.0, once, "Step enqueued".to_owned(), move |control, cause, render| async move {
        control.run_step(step, &cause, render).await
    })
    .await
}

/// Check a step's result
#[utoipa::path(post, path = "/steps/{id}/actions/run_qa", tag = "steps", security(("bearer" = ["protocols:write"])),
    request_body = Option<NoBody>,
    params(("id" = i64, Path), ("X-Project-Token" = Option<String>, Header),
        ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, body = ActionView), (status = "4XX", body = ProblemBody)))]
pub(crate) async fn run_step_qa(
    State(app): State<App>,
    steerer: Steerer,
    key: ProjectKey,
    id: Id,
    Act { body: NoBody {}, once }: Act<NoBody>,
) -> Result<Response, Problem> {
    let step = Sight::of(&steerer.0, key, app.control.store()).step(&id).await?.step.id;
    enqueue(&app, &steerer.0, once, "QA enqueued".to_owned(), move |control, cause, render| async move {
        control.run_qa(step, &cause, render).await
    })
    .await
}

/// Accept a step's result as it is
///
/// Only people may, and only where a person may; the reason is recorded.
#[utoipa::path(post, path = "/steps/{id}/actions/approve", tag = "steps", security(("bearer" = ["gates:decide"])),
    request_body = Option<ApproveStepBody>,
    params(("id" = i64, Path), ("X-Project-Token" = Option<String>, Header),
        ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, body = StepView), (status = "4XX", body = ProblemBody)))]
pub(crate) async fn approve_step(
    State(app): State<App>,
    approver: Approver,
    key: ProjectKey,
    id: Id,
    Act { body, once }: Act<ApproveStepBody>,
) -> Result<Response, Problem> {
    let listed = Sight::of(&approver.0, key, app.control.store()).step(&id).await?;
    let (step, created_at): (StepId, Timestamp) = (listed.step.id, listed.created_at);
    let reason = body.reason.map(|reason| domain::text::note(&reason)).filter(|reason| !reason.is_empty());
    let (person, now) = (approver.0.person.clone(), app.control.clock().now());
    app.perform(&approver.0, once, move |control, cause| async move {
        let view = |protocol: &Protocol| protocol.step(step).map(|step| StepView::of(step, created_at, now));
        let render = |protocol: &Protocol| view(protocol).map(|view| kept(&view)).unwrap_or_default();
        let account = person.name.clone();
        let changed = control.approve_step(step, person, &account, reason, &cause, render).await?;
        view(&changed.subject).ok_or(CommandError::NoSuchStep { step })
    })
    .await
}
