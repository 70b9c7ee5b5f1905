//! Attempts.

use api::{Page, ProblemBody, attempts::AttemptView, problem::UNKNOWN_ATTEMPT};
use axum::{Json, extract::State};
use domain::attempt::Attempt;

use crate::{
    app::App,
    asked::Id,
    auth::Reader,
    problem::Problem,
    runs::find_run,
    sight::{ProjectKey, Sight},
};

/// List a run's attempts
#[utoipa::path(get, path = "/runs/{id}/attempts", tag = "attempts", security(("bearer" = ["read"])),
    params(("id" = String, Path)),
    responses((status = 200, body = Page<AttemptView>), (status = "4XX", body = ProblemBody)))]
pub(crate) async fn list_run_attempts(
    State(app): State<App>,
    _: Reader,
    id: Id,
) -> Result<Json<Page<AttemptView>>, Problem> {
    let run = find_run(&app, &id).await?;
    list_attempts(&app, &run.subject().to_string()).await
}

pub(crate) async fn list_attempts(app: &App, subject: &str) -> Result<Json<Page<AttemptView>>, Problem> {
    let attempts = app.control.store().list_attempts(subject, 500).await?;
    Ok(Json(Page { items: attempts.iter().map(AttemptView::from).collect(), next_cursor: None }))
}

/// Get an attempt
#[utoipa::path(get, path = "/attempts/{id}", tag = "attempts", security(("bearer" = ["read"])),
    params(("id" = String, Path, description = "run-{run}-{number} or step-{step}-{number}"),
        ("X-Project-Token" = Option<String>, Header)),
    responses((status = 200, body = AttemptView), (status = "4XX", body = ProblemBody)))]
pub(crate) async fn get_attempt(
    State(app): State<App>,
    reader: Reader,
    key: ProjectKey,
    id: Id,
) -> Result<Json<AttemptView>, Problem> {
    Ok(Json(AttemptView::from(&find_attempt(&app, &reader, key, &id).await?)))
}

/// An attempt that the caller may see.
pub(crate) async fn find_attempt(app: &App, reader: &Reader, key: ProjectKey, id: &Id) -> Result<Attempt, Problem> {
    let unknown = || id.unknown(UNKNOWN_ATTEMPT, "attempt");
    let is_id = id.0.len() <= 64 && id.0.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if !is_id {
        return Err(unknown());
    }
    // References are kept in upper case, the words around them in lower case.
    let known = match id.0.to_ascii_lowercase().strip_prefix("run-") {
        Some(rest) => format!("run-{}", rest.to_ascii_uppercase()),
        None => id.0.to_ascii_lowercase(),
    };
    let store = app.control.store();
    let attempt = store.find_attempt(&known).await?.ok_or_else(unknown)?;
    Sight::of(&reader.0, key, store).check_subject(&attempt.subject).await?;
    Ok(attempt)
}
