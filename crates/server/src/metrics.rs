//! Numbers for Prometheus. Labels are bounded: paths are the routes' own, never what was typed.

use std::{sync::atomic::AtomicU64, time::Duration};

use api::problem::ProblemBody;
use axum::{extract::State, http::header, response::IntoResponse};
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
        info::Info,
    },
    registry::Registry,
};

use crate::{app::App, auth::MetricsReader, problem::Problem};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    method: &'static str,
    path: String,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    method: &'static str,
    path: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    state: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    durations: Family<RouteLabels, Histogram>,
    commands: Family<OutcomeLabels, Counter>,
    queue: Family<StateLabels, Gauge>,
    oldest_ready: Gauge<f64, AtomicU64>,
}

impl Metrics {
    pub(crate) fn new(meter: &store::Meter) -> Self {
        let mut registry = Registry::with_prefix("pilothouse");
        meter.register(&mut registry);
        registry.register("build", "The program's version", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        let requests = Family::default();
        registry.register("http_requests", "Requests answered", requests.clone());
        let durations =
            Family::new_with_constructor((|| Histogram::new(exponential_buckets(0.001, 2.0, 15))) as fn() -> Histogram);
        registry.register("http_request_duration_seconds", "Time until the answer began", durations.clone());
        let commands = Family::default();
        registry.register("commands", "Commands given through this server, committed or refused", commands.clone());
        let queue = Family::default();
        registry.register("queue_tasks", "Tasks by state", queue.clone());
        let oldest_ready = Gauge::default();
        registry.register("queue_oldest_ready_seconds", "Age of the oldest ready task", oldest_ready.clone());
        Self { registry, requests, durations, commands, queue, oldest_ready }
    }

    pub(crate) fn count_request(&self, method: &'static str, path: &str, status: u16, took: Duration) {
        let path = path.to_owned();
        self.requests.get_or_create(&RequestLabels { method, path: path.clone(), status }).inc();
        self.durations.get_or_create(&RouteLabels { method, path }).observe(took.as_secs_f64());
    }

    pub(crate) fn count_command(&self, committed: bool) {
        let outcome = if committed { "committed" } else { "refused" };
        self.commands.get_or_create(&OutcomeLabels { outcome }).inc();
    }
}

/// Metrics in the OpenMetrics text format.
#[utoipa::path(get, path = "/metrics", tag = "operation", security(("bearer" = ["metrics"])),
    responses((status = 200, body = String, content_type = "application/openmetrics-text"),
        (status = "4XX", body = ProblemBody)))]
pub(crate) async fn get_metrics(State(app): State<App>, _: MetricsReader) -> Result<impl IntoResponse, Problem> {
    encoded(&app).await
}

/// The same, where nobody is asked who they are.
pub(crate) async fn get_open_metrics(State(app): State<App>) -> Result<impl IntoResponse, Problem> {
    encoded(&app).await
}

async fn encoded(app: &App) -> Result<impl IntoResponse + use<>, Problem> {
    let counts = app.control.store().count_tasks().await?;
    let metrics = &app.metrics;
    for state in ["scheduled", "ready", "leased", "done", "dead", "withdrawn"] {
        let labels = StateLabels { state: state.to_owned() };
        metrics.queue.get_or_create(&labels).set(counts.by_state.get(state).copied().unwrap_or(0));
    }
    let now = app.control.clock().now();
    metrics.oldest_ready.set(counts.oldest_ready_at.map_or(0.0, |at| now.since(at).as_secs_f64()));
    let mut text = String::new();
    encode(&mut text, &metrics.registry).map_err(|error| Problem::internal(&error))?;
    Ok(([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text))
}
