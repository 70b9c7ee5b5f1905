//! Steps, on their inherited routes.

use api::{
    Page, ProblemBody,
    attempts::AttemptView,
    problem::UNKNOWN_STEP,
    protocols::{ActionView, StepDiffView},
    steps::{ApproveStepBody, NewStepBody, StepView},
};
use axum::{Json, extract::State, response::Response};
use control::{CommandError, patches::Patch, steps::AddStep};
use domain::{
    attempt::{Attempt, AttemptState, Ending},
    ids::StepId,
    protocol::{Protocol, ProtocolEvent},
    step::{Candidate, Step},
};
use serde::Deserialize;
use store::{EventQuery, Order, Store, protocols::ListedProtocol, steps::ListedStep};

use crate::{
    app::App,
    asked::{Act, Asked, PageQuery, Queried},
    attempts::list_attempts,
    auth::{Approver, Reader, Steerer},
    events::events,
    perform::kept,
    plain::{Plain, PlainPage},
    problem::Problem,
    sight::Seen,
    steering::{Answer, action},
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
    Seen { by: Steerer(session), it }: Seen<Steerer, ListedProtocol>,
    Asked { body, once }: Asked<NewStepBody>,
) -> Result<Response, Problem> {
    let (index, now) = (body.step_index, app.control.clock().now());
    let request = request_of(body);
    app.perform(&session, once, move |control, cause| async move {
        let view = |protocol: &Protocol| {
            protocol.steps.iter().find(|step| step.index == index).map(|step| StepView::of(step, now, now))
        };
        let render = |protocol: &Protocol| view(protocol).map(|view| kept(&view)).unwrap_or_default();
        let changed = control.add_step(it.protocol.id, request, &cause, render).await?;
        view(&changed.subject).ok_or(CommandError::Contended)
    })
    .await
}

fn request_of(body: NewStepBody) -> AddStep {
    AddStep {
        step_index: body.step_index,
        step_name: body.step_name,
        step_type: body.step_type,
        status: body.status,
        model: body.model,
        summary: body.summary,
        engine_id: body.engine_id,
        policy: body.policy,
    }
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
    Seen { it, .. }: Seen<Reader, ListedProtocol>,
    Queried(query): Queried<PageQuery>,
) -> Result<Plain<StepView>, Problem> {
    let page = PlainPage::try_from(query)?;
    let protocol = it.protocol.id;
    let listed = app.control.store().list_steps(protocol.0, page.after.clone(), page.limit).await?;
    let place = |one: &ListedStep| (i64::from(one.step.index), one.step.id.to_string());
    let views = listed.iter().map(view_of_row).collect();
    Ok(page.answer(&format!("/protocols/{protocol}/steps"), &[], &listed, place, views))
}

/// Get a step
#[utoipa::path(get, path = "/steps/{id}", tag = "steps", security(("bearer" = ["read"])),
    params(("id" = i64, Path), ("X-Project-Token" = Option<String>, Header)),
    responses((status = 200, body = StepView), (status = "4XX", body = ProblemBody)))]
pub(crate) async fn get_step(Seen { it, .. }: Seen<Reader, ListedStep>) -> Json<StepView> {
    Json(view_of_row(&it))
}

/// List a step's attempts
#[utoipa::path(get, path = "/steps/{id}/attempts", tag = "attempts", security(("bearer" = ["read"])),
    params(("id" = i64, Path), ("X-Project-Token" = Option<String>, Header)),
    responses((status = 200, body = Page<AttemptView>), (status = "4XX", body = ProblemBody)))]
pub(crate) async fn list_step_attempts(
    State(app): State<App>,
    Seen { it, .. }: Seen<Reader, ListedStep>,
) -> Result<Json<Page<AttemptView>>, Problem> {
    list_attempts(&app, &format!("step:{}", it.step.id)).await
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DiffQuery {
    patch: Option<bool>,
}

/// Get what a step's result changes
///
/// Of the result that waits, else of the last one there was. The patch has at most 1 MiB and says when it goes on; it
/// lies on the machine where the attempt ran, for as long as the attempt's output is kept.
#[utoipa::path(get, path = "/steps/{id}/diff", tag = "steps", security(("bearer" = ["read"])),
    params(("id" = i64, Path), ("X-Project-Token" = Option<String>, Header),
        ("patch" = Option<bool>, Query, description = "false leaves the patch out")),
    responses((status = 200, body = StepDiffView), (status = "4XX", body = ProblemBody)))]
pub(crate) async fn get_step_diff(
    State(app): State<App>,
    Seen { it: ListedStep { step, .. }, .. }: Seen<Reader, ListedStep>,
    Queried(query): Queried<DiffQuery>,
) -> Result<Json<StepDiffView>, Problem> {
    let store = app.control.store();
    let candidate = match step.candidate() {
        Some(candidate) => Some(candidate.clone()),
        None => last_candidate(store, step.id).await?,
    };
    let Some(candidate) = candidate else {
        return Err(Problem::new(UNKNOWN_STEP, format!("step {} has no result yet", step.id)));
    };
    let attempt = maker_of_result(store, &step).await?;
    let patch = match &attempt {
        Some(attempt) if query.patch != Some(false) => read_patch(&app, attempt).await?,
        Some(_) | None => None,
    };
    let patch = patch.map(|patch| (patch.text, patch.truncated));
    Ok(Json(StepDiffView::of(&candidate, attempt.as_ref(), patch)))
}

async fn last_candidate(store: &Store, step: StepId) -> Result<Option<Candidate>, Problem> {
    let newest = EventQuery { step: Some(step.0), ..events(Order::Descending, 200) };
    let events = store.list_events(&newest).await?.events;
    Ok(events.iter().find_map(|event| match serde_json::from_str(&event.data) {
        Ok(ProtocolEvent::StepExecuted { candidate, .. }) => Some(candidate),
        _ => None,
    }))
}

/// The attempt whose result is the step's: the latest one that executed it with success.
async fn maker_of_result(store: &Store, step: &Step) -> Result<Option<Attempt>, Problem> {
    let attempts = store.list_attempts(&format!("step:{}", step.id), 500).await?;
    let made = |attempt: &Attempt| {
        attempt.phase == "execute" && matches!(attempt.state, AttemptState::Ended { ending: Ending::Succeeded, .. })
    };
    Ok(attempts.into_iter().rfind(made))
}

async fn read_patch(app: &App, attempt: &Attempt) -> Result<Option<Patch>, Problem> {
    let (dir, id) = (app.attempts_dir.clone(), attempt.id.clone());
    let read = host::task::spawn_blocking("patch reader", move || Patch::read(&dir, &id)).await;
    read.map_err(|error| Problem::internal(&error))?.map_err(|error| Problem::internal(&error))
}

action!(
    /// Run a step
    run_step, "/steps/{id}/actions/run", "steps", ActionView,
    Answer::Work("Step enqueued"), ListedStep, step => run_step
);
action!(
    /// Check a step's result
    run_step_qa, "/steps/{id}/actions/run_qa", "steps", ActionView,
    Answer::Work("QA enqueued"), ListedStep, step => run_qa
);

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
    Seen { by: Approver(session), it }: Seen<Approver, ListedStep>,
    Act { body, once }: Act<ApproveStepBody>,
) -> Result<Response, Problem> {
    let (step, created_at, now) = (it.step.id, it.created_at, app.control.clock().now());
    let reason = body.reason.map(|reason| domain::text::note(&reason)).filter(|reason| !reason.is_empty());
    let person = session.person.clone();
    app.perform(&session, once, move |control, cause| async move {
        let view = |protocol: &Protocol| protocol.step(step).map(|step| StepView::of(step, created_at, now));
        let render = |protocol: &Protocol| view(protocol).map(|view| kept(&view)).unwrap_or_default();
        let account = person.name.clone();
        let changed = control.approve_step(step, person, &account, reason, &cause, render).await?;
        view(&changed.subject).ok_or(CommandError::NoSuchStep { step })
    })
    .await
}
