//! Projects, on their inherited routes.

use api::{
    ProblemBody,
    health::NoBody,
    problem::MISSING_SCOPE,
    projects::{NewProjectBody, ProjectView},
};
use axum::{Json, extract::State, response::Response};
use control::{projects::CreateProject, tokens::Session};
use domain::{
    project::{Project, ProjectCommand},
    token::Scope,
};
use store::projects::ListedProject;

use crate::{
    app::App,
    asked::{Act, Asked, PageQuery, Queried},
    auth::{Reader, Steerer},
    perform::kept,
    plain::{Plain, PlainPage},
    problem::Problem,
    sight::{ProjectKey, Seen, Sight},
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
    Steerer(session): Steerer,
    Asked { body, once }: Asked<NewProjectBody>,
) -> Result<Response, Problem> {
    let request = request_of(body, &session)?;
    app.perform(&session, once, move |control, cause| async move {
        let view = |project: &Project| ProjectView::of(project, project.created_at);
        let changed = control.create_project(request, &cause, |project| kept(&view(project))).await?;
        Ok(view(&changed.subject))
    })
    .await
}

fn request_of(body: NewProjectBody, session: &Session) -> Result<CreateProject, Problem> {
    if body.git_url.starts_with('/') && !session.token.allows(Scope::Admin) {
        let detail = "a repository on the server's machine needs a token with the scope admin";
        return Err(Problem::new(MISSING_SCOPE, detail));
    }
    Ok(CreateProject {
        name: body.name,
        git_url: body.git_url,
        base_branch: body.base_branch,
        ci_provider: body.ci_provider,
        default_models: body.default_models.unwrap_or_default(),
        secrets: body.secrets.unwrap_or_default(),
        engines: body.engines.unwrap_or_default().into_domain(),
        checks: body.checks.unwrap_or_default(),
        created_by: Some(session.person.id.clone()),
    })
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
) -> Result<Plain<ProjectView>, Problem> {
    let page = PlainPage::try_from(query)?;
    let store = app.control.store();
    let listed = store.list_projects(page.after.clone(), page.limit).await?;
    let sight = Sight::of(&reader.0, key, store);
    let views = listed.iter().filter(|one| sight.opens(&one.project)).map(view_of_row).collect();
    let place = |one: &ListedProject| (one.project.id.0, one.project.id.to_string());
    Ok(page.answer("/projects", &[], &listed, place, views))
}

fn view_of_row(listed: &ListedProject) -> ProjectView {
    ProjectView::of(&listed.project, listed.updated_at)
}

/// Get a project
#[utoipa::path(get, path = "/projects/{id}", tag = "projects", security(("bearer" = ["read"])),
    params(("id" = i64, Path), ("X-Project-Token" = Option<String>, Header)),
    responses((status = 200, body = ProjectView), (status = "4XX", body = ProblemBody)))]
pub(crate) async fn get_project(Seen { it, .. }: Seen<Reader, ListedProject>) -> Json<ProjectView> {
    Json(view_of_row(&it))
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
    Seen { by: Steerer(session), it }: Seen<Steerer, ListedProject>,
    Act { body: NoBody {}, once }: Act<NoBody>,
) -> Result<Response, Problem> {
    let (project, now) = (it.project.id, app.control.clock().now());
    app.perform(&session, once, move |control, cause| async move {
        let view = |project: &Project| ProjectView::of(project, now);
        let render = |project: &Project| kept(&view(project));
        let changed = control.command_project(project, ProjectCommand::Setup, &cause, render).await?;
        Ok(view(&changed.subject))
    })
    .await
}
