//! Projects, on their inherited routes.

use api::{
    ProblemBody, RowCursor,
    health::NoBody,
    problem::MISSING_SCOPE,
    projects::{NewProjectBody, ProjectView},
};
use axum::{Json, extract::State, http::HeaderMap, response::Response};
use control::projects::CreateProject;
use domain::{
    project::{Project, ProjectCommand},
    token::Scope,
};

use crate::{
    app::App,
    asked::{Act, Asked, Id, PageQuery, Queried, plain_limit, row_cursor},
    auth::{Reader, Steerer},
    perform::kept,
    problem::Problem,
    queue::next_link,
    sight::{ProjectKey, Sight},
};

/// Create a project
///
/// Its repository is fetched by a task; the events on the project say how that went. A path on the server's machine
/// needs an admin token.
#[utoipa::path(post, path = "/projects", tag = "projects", security(("bearer" = ["protocols:write"])),
    request_body = NewProjectBody, params(("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, body = ProjectView), (status = "4XX", body = ProblemBody)))]
pub(crate) async fn create_project(
    State(app): State<App>,
    steerer: Steerer,
    Asked { body, once }: Asked<NewProjectBody>,
) -> Result<Response, Problem> {
    let session = &steerer.0;
    if body.git_url.starts_with('/') && !session.token.allows(Scope::Admin) {
        let detail = "a repository on the server's machine needs a token with the scope admin";
        return Err(Problem::new(MISSING_SCOPE, detail));
    }
    let request = CreateProject {
        name: body.name,
        git_url: body.git_url,
        base_branch: body.base_branch,
        ci_provider: body.ci_provider,
        default_models: body.default_models.unwrap_or_default(),
        secrets: body.secrets.unwrap_or_default(),
        engines: body.engines.unwrap_or_default().into_domain(),
        checks: body.checks.unwrap_or_default(),
        created_by: Some(session.person.id.clone()),
    };
    app.perform(session, once, move |control, cause| async move {
        let view = |project: &Project| ProjectView::of(project, project.created_at);
        let changed = control.create_project(request, &cause, |project| kept(&view(project))).await?;
        Ok(view(&changed.subject))
    })
    .await
}

/// List projects
///
/// Newest first, without those that have a token of their own which was not sent.
#[utoipa::path(get, path = "/projects", tag = "projects", security(("bearer" = ["read"])),
    params(("limit" = Option<i64>, Query, description = "1 to 500, 500 when missing"),
        ("after" = Option<String>, Query, description = "From the Link header")),
    responses((status = 200, body = Vec<ProjectView>), (status = "4XX", body = ProblemBody)))]
pub(crate) async fn list_projects(
    State(app): State<App>,
    reader: Reader,
    key: ProjectKey,
    Queried(query): Queried<PageQuery>,
) -> Result<(HeaderMap, Json<Vec<ProjectView>>), Problem> {
    let limit = plain_limit(query.limit);
    let store = app.control.store();
    let listed = store.list_projects(row_cursor(query.after.as_deref())?, limit).await?;
    let next = listed
        .last()
        .filter(|_| listed.len() == limit as usize)
        .map(|last| RowCursor { ordinal: last.project.id.0, id: last.project.id.to_string() }.to_text());
    let mut sight = Sight::of(&reader.0, key, store);
    let mut views = Vec::with_capacity(listed.len());
    for one in &listed {
        if sight.sees_owner(&one.project.subject()).await? {
            views.push(ProjectView::of(&one.project, one.updated_at));
        }
    }
    Ok((next_link("/projects", &[], limit, next.as_deref()), Json(views)))
}

/// Get a project
#[utoipa::path(get, path = "/projects/{id}", tag = "projects", security(("bearer" = ["read"])),
    params(("id" = i64, Path), ("X-Project-Token" = Option<String>, Header)),
    responses((status = 200, body = ProjectView), (status = "4XX", body = ProblemBody)))]
pub(crate) async fn get_project(
    State(app): State<App>,
    reader: Reader,
    key: ProjectKey,
    id: Id,
) -> Result<Json<ProjectView>, Problem> {
    let listed = Sight::of(&reader.0, key, app.control.store()).project(&id).await?;
    Ok(Json(ProjectView::of(&listed.project, listed.updated_at)))
}

/// Set a project up again
///
/// After its setup failed, or because its repository moved.
#[utoipa::path(post, path = "/projects/{id}/actions/setup", tag = "projects",
    security(("bearer" = ["protocols:write"])), request_body = Option<NoBody>,
    params(("id" = i64, Path), ("X-Project-Token" = Option<String>, Header),
        ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, body = ProjectView), (status = "4XX", body = ProblemBody)))]
pub(crate) async fn set_project_up(
    State(app): State<App>,
    steerer: Steerer,
    key: ProjectKey,
    id: Id,
    Act { body: NoBody {}, once }: Act<NoBody>,
) -> Result<Response, Problem> {
    let project = Sight::of(&steerer.0, key, app.control.store()).project(&id).await?.project.id;
    let now = app.control.clock().now();
    app.perform(&steerer.0, once, move |control, cause| async move {
        let view = |project: &Project| ProjectView::of(project, now);
        let render = |project: &Project| kept(&view(project));
        let changed = control.command_project(project, ProjectCommand::Setup, &cause, render).await?;
        Ok(view(&changed.subject))
    })
    .await
}
