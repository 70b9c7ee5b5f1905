//! Runs: asked for, looked at, canceled, tried again.

use api::{
    Page, ProblemBody, RowCursor,
    health::NoBody,
    inbound::InheritedProblem,
    problem::UNKNOWN_RUN,
    runs::{NewRunBody, ParamValue, RunView},
    timeline::{InheritedRun, InheritedRunEvent, RunTimeline},
};
use axum::{Json, extract::State, response::Response};
use control::runs::RequestRun;
use domain::{
    ids::RunId,
    run::{API_CHANNEL, Run, RunEvent, RunState},
};
use serde::Deserialize;
use store::{EventQuery, Order, StoredEvent};

use crate::{
    app::App,
    asked::{Act, Asked, Id, Queried, page_limit, parse_statuses, row_cursor},
    auth::{Reader, Runner},
    events::events,
    perform::kept,
    problem::{Problem, typed},
};

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RunsQuery {
    status: Option<String>,
    limit: Option<i64>,
    after: Option<String>,
}

/// List runs
///
/// Newest first.
#[utoipa::path(get, path = "/runs", tag = "runs", security(("bearer" = ["read"])),
    params(("status" = Option<String>, Query, description = "Only runs in this state; several are separated by commas"),
        ("limit" = Option<i64>, Query, description = "1 to 500, 50 when missing"),
        ("after" = Option<String>, Query, description = "The last page's next_cursor")),
    responses((status = 200, body = Page<RunView>), (status = "4XX", body = ProblemBody)))]
pub(crate) async fn list_runs(
    State(app): State<App>,
    _: Reader,
    Queried(query): Queried<RunsQuery>,
) -> Result<Json<Page<RunView>>, Problem> {
    let statuses = parse_statuses(query.status.as_deref(), "run", &RunState::NAMES)?;
    let statuses: Vec<String> = statuses.into_iter().map(str::to_owned).collect();
    let limit = page_limit(query.limit);
    let after = row_cursor(query.after.as_deref())?;
    // One more than asked for tells whether there are more.
    let runs = app.control.store().list_runs(&statuses, after, limit.min(499) + 1).await?;
    let place = |run: &Run| RowCursor { ordinal: run.created_at.as_micros(), id: run.id.to_string() };
    Ok(Json(Page::of_rows(runs, limit.min(499) as usize, place, |run| RunView::from(run))))
}

/// Ask for a run of a job
///
/// Durable, with its gate or its task, when this answers. A run whose job wants approval waits at its gate.
#[utoipa::path(post, path = "/runs", tag = "runs", security(("bearer" = ["runs:write"])), request_body = NewRunBody,
    params(("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, body = RunView), (status = "4XX", body = ProblemBody)))]
pub(crate) async fn create_run(
    State(app): State<App>,
    runner: Runner,
    Asked { body, once }: Asked<NewRunBody>,
) -> Result<Response, Problem> {
    let person = runner.0.person.clone();
    let request = RequestRun {
        job: body.job,
        args: body.params.into_iter().map(|(name, value): (String, ParamValue)| (name, value.into_text())).collect(),
        reason: body.reason.map(|reason| domain::text::note(&reason)).filter(|reason| !reason.is_empty()),
        account: person.name.clone(),
        channel: API_CHANNEL.to_owned(),
        conversation: person.name.clone(),
        by: person,
    };
    app.perform(&runner.0, once, move |control, cause| async move {
        let changed = control.request_run(request, &cause, |run| kept(&RunView::from(run))).await?;
        Ok(RunView::from(&changed.subject))
    })
    .await
}

/// Get a run with its events
///
/// In the inherited shape; the full timeline is `/events?subject=run:{id}`.
#[utoipa::path(get, path = "/runs/{id}", tag = "runs", security(("bearer" = ["read"])),
    params(("id" = String, Path, description = "In any case, with or without J-")),
    responses((status = 200, body = RunTimeline), (status = 404, body = InheritedProblem),
        (status = "4XX", body = ProblemBody)))]
pub(crate) async fn get_run(State(app): State<App>, _: Reader, id: Id) -> Result<Json<RunTimeline>, Problem> {
    let not_found = || {
        Problem::new(UNKNOWN_RUN, format!("Run with ID '{}' was not found.", typed(&id.0))).inherited("Run Not Found")
    };
    let run_id = id.run().map_err(|_| not_found())?;
    let found = app.control.store().find::<Run>(run_id.as_str()).await?;
    let run = found.ok_or_else(not_found)?.subject;
    let mut query = EventQuery { subject: Some(run.subject()), ..events(Order::Ascending, 500) };
    let mut told = Vec::new();
    loop {
        let page = app.control.store().list_events(&query).await?;
        told.extend(page.events.iter().filter_map(|event| inherited(&run.id, event)));
        // A run has a few dozen events; the bound is against one that was adopted for ever.
        if !page.more || page.events.is_empty() || told.len() > 5000 {
            break;
        }
        query.after = Some(page.next);
    }
    Ok(Json(RunTimeline { run: InheritedRun::from(&run), events: told }))
}

fn inherited(run: &RunId, event: &StoredEvent) -> Option<InheritedRunEvent> {
    let data: RunEvent = serde_json::from_str(&event.data).ok()?;
    InheritedRunEvent::of(run.as_str(), &event.kind, &data, &event.actor, event.at)
}

/// Get everything about a run
#[utoipa::path(get, path = "/runs/{id}/details", tag = "runs", security(("bearer" = ["read"])),
    params(("id" = String, Path)),
    responses((status = 200, body = RunView), (status = "4XX", body = ProblemBody)))]
pub(crate) async fn get_run_details(State(app): State<App>, _: Reader, id: Id) -> Result<Json<RunView>, Problem> {
    Ok(Json(RunView::from(&find_run(&app, &id).await?)))
}

pub(crate) async fn find_run(app: &App, id: &Id) -> Result<Run, Problem> {
    let found = app.control.store().find::<Run>(id.run()?.as_str()).await?;
    Ok(found.ok_or_else(|| id.unknown(UNKNOWN_RUN, "run"))?.subject)
}

/// Cancel a run
///
/// Withdraws its question, or stops what is under way; the run is canceled once its processes are gone.
#[utoipa::path(post, path = "/runs/{id}/actions/cancel", tag = "runs", security(("bearer" = ["runs:write"])),
    params(("id" = String, Path), ("Idempotency-Key" = Option<String>, Header)), request_body = Option<NoBody>,
    responses((status = 200, body = RunView), (status = "4XX", body = ProblemBody)))]
pub(crate) async fn cancel_run(
    State(app): State<App>,
    runner: Runner,
    id: Id,
    Act { body: NoBody {}, once }: Act<NoBody>,
) -> Result<Response, Problem> {
    let (id, person) = (id.run()?, runner.0.person.clone());
    app.perform(&runner.0, once, move |control, cause| async move {
        let render = |run: &Run| kept(&RunView::from(run));
        let changed = control.cancel_run(&id, &person, &person.name, &cause, render).await?;
        Ok(RunView::from(&changed.subject))
    })
    .await
}

/// Try a run again
///
/// As a new attempt of the same command; it passes its gate again.
#[utoipa::path(post, path = "/runs/{id}/actions/retry", tag = "runs", security(("bearer" = ["runs:write"])),
    params(("id" = String, Path), ("Idempotency-Key" = Option<String>, Header)), request_body = Option<NoBody>,
    responses((status = 200, body = RunView), (status = "4XX", body = ProblemBody)))]
pub(crate) async fn retry_run(
    State(app): State<App>,
    runner: Runner,
    id: Id,
    Act { body: NoBody {}, once }: Act<NoBody>,
) -> Result<Response, Problem> {
    let (id, person) = (id.run()?, runner.0.person.clone());
    app.perform(&runner.0, once, move |control, cause| async move {
        let render = |run: &Run| kept(&RunView::from(run));
        let changed = control.retry_run(&id, &person, &person.name, &cause, render).await?;
        Ok(RunView::from(&changed.subject))
    })
    .await
}
