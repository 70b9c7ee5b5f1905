//! Ending an attempt by hand: asked to end, or ended at once.
//!
//! A run is canceled in the ledger, which its worker follows. What runs for a step is told by its supervisor, on the
//! machine where it runs; its worker then finds it stopped, keeps what it worked in and leaves it to people how to go on.

use api::{
    ProblemBody,
    attempts::{AttemptStopView, AttemptView},
    health::NoBody,
    problem::{ALREADY_DONE, ATTEMPT_ELSEWHERE},
};
use axum::{Json, extract::State};
use domain::{attempt::Attempt, ids::RunId, run::Run, token::Scope};
use engines::supervisor::{self, Adopted, CANCELED, Supervised};
use std::time::Duration;

use crate::{
    app::App,
    asked::{Act, Id},
    attempts::find_attempt,
    auth::{Reader, Steerer, require},
    perform::kept,
    problem::Problem,
    sight::ProjectKey,
};

/// How long a tree that was asked to end may take before it is killed.
const PATIENCE: Duration = Duration::from_secs(4);

/// Cancel an attempt
///
/// What runs is asked to end and killed after four seconds. The branch is as it was, and the attempt's worktree is kept
/// as it was left until the step is tried again or retention removes it.
#[utoipa::path(post, path = "/attempts/{id}/actions/cancel", tag = "attempts",
    security(("bearer" = ["protocols:write"])), params(("id" = String, Path), ("X-Project-Token" = Option<String>, Header)),
    request_body = Option<NoBody>,
    responses((status = 200, body = AttemptStopView), (status = "4XX", body = ProblemBody)))]
pub(crate) async fn cancel_attempt(
    State(app): State<App>,
    steerer: Steerer,
    key: ProjectKey,
    id: Id,
    Act { body: NoBody {}, .. }: Act<NoBody>,
) -> Result<Json<AttemptStopView>, Problem> {
    stop(&app, &steerer, key, &id, PATIENCE, "canceled").await
}

/// Kill an attempt
///
/// What runs is killed at once, with everything it started. The branch is as it was, and the attempt's worktree is kept
/// as it was left until the step is tried again or retention removes it.
#[utoipa::path(post, path = "/attempts/{id}/actions/kill", tag = "attempts",
    security(("bearer" = ["protocols:write"])), params(("id" = String, Path), ("X-Project-Token" = Option<String>, Header)),
    request_body = Option<NoBody>,
    responses((status = 200, body = AttemptStopView), (status = "4XX", body = ProblemBody)))]
pub(crate) async fn kill_attempt(
    State(app): State<App>,
    steerer: Steerer,
    key: ProjectKey,
    id: Id,
    Act { body: NoBody {}, .. }: Act<NoBody>,
) -> Result<Json<AttemptStopView>, Problem> {
    stop(&app, &steerer, key, &id, Duration::ZERO, "killed").await
}

async fn stop(
    app: &App,
    steerer: &Steerer,
    key: ProjectKey,
    id: &Id,
    grace: Duration,
    verb: &'static str,
) -> Result<Json<AttemptStopView>, Problem> {
    let reader = Reader(steerer.0.clone());
    let attempt = find_attempt(app, &reader, key, id).await?;
    if !attempt.is_running() {
        return Err(Problem::new(ALREADY_DONE, format!("attempt {} is over: {}", attempt.id, attempt.status())));
    }
    let person = &steerer.0.person;
    let run = attempt.subject.strip_prefix("run:").map(|id| RunId(id.to_owned()));
    if let Some(run) = &run {
        require(steerer.0.clone(), Scope::RunsWrite)?;
        let cause = control::Cause::of(crate::auth::actor(&steerer.0));
        let render = |run: &Run| kept(&api::runs::RunView::from(run));
        app.control.cancel_run(run, person, &person.name, &cause, render).await?;
    }
    let reason = if run.is_some() { CANCELED.to_owned() } else { supervisor::by_hand(verb, &person.name) };
    let ended = match find(app, &attempt).await {
        Some(supervised) => end(&supervised, &reason, grace).await?,
        // Its worker learns of it from the ledger, wherever that is.
        None if run.is_some() => false,
        None => {
            let detail = format!("what runs for attempt {} is not on this server's machine", attempt.id);
            return Err(Problem::new(ATTEMPT_ELSEWHERE, detail));
        }
    };
    // Beside the attempts' directories, as the worker lays it.
    let kept = app.attempts_dir.with_file_name("worktrees").join(attempt.id.as_str());
    let kept = (run.is_none() && host::fs::is_dir(&kept)).then(|| kept.to_string_lossy().into_owned());
    let worktree = match (&run, &kept) {
        (Some(_), _) => "a run of a job has no worktree; what it changed elsewhere stays as it is".to_owned(),
        (None, Some(path)) => format!(
            "the branch is as it was; the worktree is kept as it was left, at {path}, until the step is tried again"
        ),
        (None, None) => "the branch is as it was; there was no worktree yet".to_owned(),
    };
    Ok(Json(AttemptStopView {
        attempt: AttemptView::from(&attempt),
        stop: verb.to_owned(),
        ended,
        worktree,
        worktree_path: kept,
    }))
}

/// The supervisor of what runs, if it is on this machine.
async fn find(app: &App, attempt: &Attempt) -> Option<Supervised> {
    let own = app.attempts_dir.join(attempt.id.as_str());
    // Checks of an attempt run one after the other, each in a directory of its own.
    let checks = host::fs::list_names(&own).unwrap_or_default().into_iter().filter(|name| name.starts_with("check-"));
    for dir in std::iter::once(own.clone()).chain(checks.map(|name| own.join(name))) {
        if let Ok(Adopted::Running(supervised)) = supervisor::adopt(&dir, &attempt.nonce).await {
            return Some(supervised);
        }
    }
    None
}

/// Ends a tree; whether nothing of it is left when this returns.
async fn end(supervised: &Supervised, reason: &str, grace: Duration) -> Result<bool, Problem> {
    supervised.stop(reason, Some(grace)).await.map_err(|error| Problem::internal(&error))?;
    let patience = grace + Duration::from_secs(3);
    Ok(matches!(tokio::time::timeout(patience, supervised.wait()).await, Ok(Ok(exit)) if exit.all_gone))
}
