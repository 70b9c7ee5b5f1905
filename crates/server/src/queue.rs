//! The work queue, under its inherited routes.

use api::{
    ProblemBody,
    problem::{INVALID_CURSOR, INVALID_QUERY},
    queue::{QueueJobView, QueueStats, QueueView, STATUSES},
};
use axum::{Json, extract::State};
use domain::ids::TaskId;
use serde::Deserialize;
use store::TaskQuery;

use crate::{
    app::App,
    asked::{Queried, plain_limit},
    auth::Reader,
    plain::{Plain, next_link},
    problem::{Problem, typed},
};

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct QueueQuery {
    status: Option<String>,
    limit: Option<i64>,
    after: Option<String>,
}

/// Count the queue
#[utoipa::path(get, path = "/queues", tag = "queue", security(("bearer" = ["read"])),
    responses((status = 200, body = QueueView), (status = "4XX", body = ProblemBody)))]
pub(crate) async fn get_queues(State(app): State<App>, _: Reader) -> Result<Json<QueueView>, Problem> {
    let counts = app.control.store().count_tasks().await?;
    Ok(Json(QueueView {
        backend: app.control.store().backend_name().to_owned(),
        default: QueueStats::of(&counts.by_state),
        oldest_ready_at: counts.oldest_ready_at.map(|at| at.to_string()),
        states: counts.by_state,
    }))
}

/// List the queue
///
/// Newest first.
#[utoipa::path(get, path = "/queues/jobs", tag = "queue", security(("bearer" = ["read"])),
    params(("status" = Option<String>, Query, description = "queued, started, finished or failed"),
        ("limit" = Option<i64>, Query, description = "1 to 500, 500 when missing"),
        ("after" = Option<String>, Query, description = "The last page's last job_id")),
    responses((status = 200, body = Vec<QueueJobView>), (status = "4XX", body = ProblemBody)))]
pub(crate) async fn list_queue_jobs(
    State(app): State<App>,
    _: Reader,
    Queried(query): Queried<QueueQuery>,
) -> Result<Plain<QueueJobView>, Problem> {
    let states = match query.status.as_deref() {
        None => Vec::new(),
        Some(status) => match STATUSES.iter().find(|(known, _)| *known == status) {
            Some((_, states)) => states.iter().map(ToString::to_string).collect(),
            None => {
                let detail = format!("{} is none of queued, started, finished and failed", typed(status));
                return Err(Problem::new(INVALID_QUERY, detail));
            }
        },
    };
    let limit = plain_limit(query.limit);
    let is_id = |id: &String| id.len() <= 64 && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if query.after.as_ref().is_some_and(|after| !is_id(after)) {
        return Err(Problem::new(INVALID_CURSOR, "that is not a job_id"));
    }
    let tasks = TaskQuery { states, kinds: Vec::new(), after: query.after.map(TaskId), limit };
    let tasks = app.control.store().list_tasks(&tasks).await?;
    let mut filters = Vec::new();
    filters.extend(query.status.map(|status| ("status", status)));
    let next = tasks.last().filter(|_| tasks.len() == limit as usize).map(|task| task.id.to_string());
    Ok((
        next_link("/queues/jobs", &filters, limit, next.as_deref()),
        Json(tasks.iter().map(QueueJobView::from).collect()),
    ))
}
