//! Backups of a ledger that this server holds.

use api::{
    ProblemBody,
    health::{BackupView, NoBody},
    problem::BACKUP_UNSUPPORTED,
};
use axum::{Json, extract::State};

use crate::{app::App, asked::Act, auth::Admin, perform::detached, problem::Problem};

/// Back the database up
///
/// Writes a consistent copy into `backups` in the data directory. SQLite only.
#[utoipa::path(post, path = "/db/actions/backup", tag = "operation", security(("bearer" = ["admin"])),
    request_body = Option<NoBody>,
    responses((status = 200, body = BackupView), (status = "4XX", body = ProblemBody)))]
pub(crate) async fn create_backup(
    State(app): State<App>,
    _: Admin,
    Act { body: NoBody {}, .. }: Act<NoBody>,
) -> Result<Json<BackupView>, Problem> {
    let store = app.control.store().clone();
    if store.backend_name() != "sqlite" {
        return Err(Problem::new(BACKUP_UNSUPPORTED, "the ledger is on PostgreSQL"));
    }
    let created_at = app.control.clock().now().to_string();
    let name: String = created_at.chars().filter(|c| !matches!(c, '-' | ':')).collect();
    let dir = app.data_dir.join("backups");
    host::fs::create_private_dir(&dir).map_err(|error| Problem::internal(&error))?;
    let path = dir.join(format!("{name}.db"));
    let to = path.clone();
    detached(async move { store.backup(&to).await }).await??;
    let (_, bytes) = host::fs::read_at(&path, 0, 0).map_err(|error| Problem::internal(&error))?;
    Ok(Json(BackupView { path: path.display().to_string(), bytes, created_at }))
}
