//! Whether the server can do its work, and whether it is there at all. Open to everybody, so it says little.

use std::time::Duration;

use api::health::HealthView;
use axum::{Json, extract::State, http::StatusCode};
use domain::{commit::Table, current_catalog::CURRENT};

use crate::app::App;

const PATIENCE: Duration = Duration::from_secs(2);

/// Health
///
/// `ok` once the database answers; `degraded` with 503 while it does not.
#[utoipa::path(get, path = "/health", tag = "operation",
    responses((status = 200, body = HealthView), (status = 503, body = HealthView)))]
pub(crate) async fn get_health(State(app): State<App>) -> (StatusCode, Json<HealthView>) {
    let store = app.control.store();
    let asked = tokio::time::timeout(PATIENCE, store.find_row(Table::Catalogs, CURRENT)).await;
    let (code, status) = match asked {
        Ok(Ok(_)) => (StatusCode::OK, "ok"),
        Ok(Err(_)) | Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "degraded"),
    };
    (code, Json(view(&app, status)))
}

/// Liveness
///
/// `alive` as long as this process answers, whatever becomes of its database. For whoever starts processes again: that
/// brings no database back.
#[utoipa::path(get, path = "/health/live", tag = "operation", responses((status = 200, body = HealthView)))]
pub(crate) async fn get_liveness(State(app): State<App>) -> Json<HealthView> {
    Json(view(&app, "alive"))
}

fn view(app: &App, status: &str) -> HealthView {
    HealthView {
        status: status.to_owned(),
        database: app.control.store().backend_name().to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}
