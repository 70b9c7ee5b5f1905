//! The catalog.

use api::{
    ProblemBody,
    jobs::{CatalogView, JobView},
    problem::UNKNOWN_JOB,
};
use axum::{Json, extract::State};

use crate::{
    app::App,
    asked::Id,
    auth::Reader,
    problem::{Problem, typed},
};

/// List the jobs of the catalog in force
#[utoipa::path(get, path = "/jobs", tag = "jobs", security(("bearer" = ["read"])),
    responses((status = 200, body = CatalogView), (status = "4XX", body = ProblemBody)))]
pub(crate) async fn list_jobs(State(app): State<App>, _: Reader) -> Result<Json<CatalogView>, Problem> {
    let catalog = app.control.catalog().await?;
    let digest = catalog.digest().to_string();
    Ok(Json(CatalogView {
        items: catalog.jobs().map(|job| JobView::of(job, &digest)).collect(),
        next_cursor: None,
        warnings: catalog.warnings().iter().map(ToString::to_string).collect(),
        digest,
    }))
}

/// Get a job
#[utoipa::path(get, path = "/jobs/{key}", tag = "jobs", security(("bearer" = ["read"])),
    params(("key" = String, Path)),
    responses((status = 200, body = JobView), (status = "4XX", body = ProblemBody)))]
pub(crate) async fn get_job(State(app): State<App>, _: Reader, Id(key): Id) -> Result<Json<JobView>, Problem> {
    let catalog = app.control.catalog().await?;
    match catalog.find(&key) {
        Some(job) => Ok(Json(JobView::of(job, &catalog.digest().to_string()))),
        None => {
            let meant = catalog.nearest(&key).map(|near| format!("; did you mean {near}?")).unwrap_or_default();
            Err(Problem::new(UNKNOWN_JOB, format!("there is no job {}{meant}", typed(&key))))
        }
    }
}
