//! Every route, once, with its documentation.
//!
//! Nothing but what stands in [`public`] is answered without a token.

use axum::{Router, middleware, routing::get};
use utoipa::{
    Modify, OpenApi,
    openapi::security::{Http, HttpAuthScheme, SecurityScheme},
};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    app::App, attempt_events, attempt_stops, attempts, backup, description, docs, edge, engines, events, gates, health,
    inbound, jobs, logs, metrics, projects, protocols, queue, runs, steps, tokens,
};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Pilothouse",
        description = "A control plane for work that machines do and people answer for.\n\nEvery operation names the \
            scope its token needs; `admin` includes all others. Failures are RFC 9457 problems with a stable `code`. \
            An `Idempotency-Key` on a POST makes its repeat harmless: the first answer is given again.",
        license(name = "Apache-2.0 OR MIT", identifier = "Apache-2.0 OR MIT")
    ),
    modifiers(&Bearer),
    tags(
        (name = "jobs", description = "Catalogued operations"),
        (name = "engines", description = "What does the work"),
        (name = "runs", description = "Executions of jobs"),
        (name = "gates", description = "Where work waits for people"),
        (name = "projects", description = "Repositories and their settings"),
        (name = "protocols", description = "Streams of coding work"),
        (name = "steps", description = "Parts of a protocol"),
        (name = "attempts", description = "Numbered tries and what they wrote"),
        (name = "events", description = "The timeline"),
        (name = "queue", description = "Work that waits or runs"),
        (name = "tokens", description = "Credentials"),
        (name = "dev", description = "The development channel"),
        (name = "operation", description = "Health, metrics, backups")
    )
)]
struct ApiDoc;

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let components = openapi.components.get_or_insert_default();
        components.add_security_scheme("bearer", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
    }
}

/// Routes that answer within the time for handlers.
fn timely() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(health::get_health))
        .routes(routes!(health::get_liveness))
        .routes(routes!(metrics::get_metrics))
        .routes(routes!(jobs::list_jobs))
        .routes(routes!(jobs::get_job))
        .routes(routes!(engines::list_engines))
        .routes(routes!(engines::get_engine))
        .routes(routes!(runs::list_runs, runs::create_run))
        .routes(routes!(runs::get_run))
        .routes(routes!(runs::get_run_details))
        .routes(routes!(runs::cancel_run))
        .routes(routes!(runs::retry_run))
        .routes(routes!(attempts::list_run_attempts))
        .routes(routes!(gates::list_gates))
        .routes(routes!(gates::get_gate))
        .routes(routes!(gates::approve_gate))
        .routes(routes!(gates::deny_gate))
        .routes(routes!(attempts::get_attempt))
        .routes(routes!(attempt_stops::cancel_attempt))
        .routes(routes!(attempt_stops::kill_attempt))
        .routes(routes!(logs::get_log))
        .routes(routes!(events::list_events))
        .routes(routes!(projects::list_projects, projects::create_project))
        .routes(routes!(projects::get_project))
        .routes(routes!(projects::set_project_up))
        .routes(routes!(protocols::list_project_protocols, protocols::create_protocol))
        .routes(routes!(protocols::list_protocols))
        .routes(routes!(protocols::get_protocol))
        .routes(routes!(protocols::get_protocol_spec))
        .routes(routes!(protocols::list_protocol_events))
        .routes(routes!(protocols::start_protocol))
        .routes(routes!(protocols::pause_protocol))
        .routes(routes!(protocols::resume_protocol))
        .routes(routes!(protocols::cancel_protocol))
        .routes(routes!(protocols::run_next_step))
        .routes(routes!(protocols::retry_latest))
        .routes(routes!(steps::list_steps, steps::create_step))
        .routes(routes!(steps::get_step))
        .routes(routes!(steps::get_step_diff))
        .routes(routes!(steps::list_step_attempts))
        .routes(routes!(steps::run_step))
        .routes(routes!(steps::run_step_qa))
        .routes(routes!(steps::approve_step))
        .routes(routes!(queue::get_queues))
        .routes(routes!(queue::list_queue_jobs))
        .routes(routes!(tokens::list_tokens, tokens::create_token))
        .routes(routes!(tokens::revoke_token))
        .routes(routes!(inbound::receive))
        .routes(routes!(inbound::list_messages))
        .routes(routes!(backup::create_backup))
}

/// Routes whose answer goes on.
fn streams() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(events::stream_events))
        .routes(routes!(logs::stream_log))
        .routes(routes!(attempt_events::stream_attempt_events))
}

/// What needs no token besides `/health` and `/health/live`, which are documented with the others.
fn public() -> Router<App> {
    Router::new()
        .route("/openapi.json", get(docs::openapi))
        .route("/docs", get(docs::page))
        .route("/docs/docs.js", get(docs::script))
        .route("/docs/docs.css", get(docs::style))
}

/// The description of the API.
pub fn openapi() -> utoipa::openapi::OpenApi {
    let router = OpenApiRouter::<App>::with_openapi(ApiDoc::openapi()).merge(timely()).merge(streams());
    let mut document = router.into_openapi();
    description::complete(&mut document);
    document
}

/// Metrics and health alone, without a token.
pub(crate) fn open_metrics(app: &App) -> Router {
    Router::new()
        .route("/health", get(health::get_health))
        .route("/metrics", get(metrics::get_open_metrics))
        .layer(middleware::from_fn_with_state(app.clone(), edge::limit_time))
        .layer(middleware::from_fn(edge::remember_route))
        .fallback(edge::no_such_route)
        .method_not_allowed_fallback(edge::no_such_method)
        .with_state(app.clone())
}

pub(crate) fn router(app: &App) -> Router {
    let timely: Router<App> = timely().into();
    let streams: Router<App> = streams().into();
    timely
        .merge(public())
        .layer(middleware::from_fn_with_state(app.clone(), edge::limit_time))
        .merge(streams)
        .layer(middleware::from_fn(edge::remember_route))
        .fallback(edge::no_such_route)
        .method_not_allowed_fallback(edge::no_such_method)
        .with_state(app.clone())
}
