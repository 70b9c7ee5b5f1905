//! Whether the server can do its work. Open to everybody, so it says little.

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
    let view = HealthView {
        status: status.to_owned(),
        database: store.backend_name().to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    (code, Json(view))
}
