//! Backups of a ledger that this server holds.

use std::path::{Path, PathBuf};

use api::{
    ProblemBody,
    health::{BackupView, NoBody},
    problem::BACKUP_UNSUPPORTED,
};
use axum::{extract::State, response::Response};
use control::{CommandError, Control};
use store::StoreError;

use crate::{app::App, asked::Act, auth::Admin, perform::kept, problem::Problem};

/// Back the database up
///
/// Writes a consistent copy into `backups` in the data directory. SQLite only. With an `Idempotency-Key` the first
/// copy's answer is given again; a crash between the copy and its answer may leave a copy that nobody was told of.
#[utoipa::path(post, path = "/db/actions/backup", tag = "operation", security(("bearer" = ["admin"])),
    request_body = Option<NoBody>, params(("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, body = BackupView), (status = "4XX", body = ProblemBody)))]
pub(crate) async fn create_backup(
    State(app): State<App>,
    Admin(session): Admin,
    Act { body: NoBody {}, once }: Act<NoBody>,
) -> Result<Response, Problem> {
    if app.control.store().backend_name() != "sqlite" {
        return Err(Problem::new(BACKUP_UNSUPPORTED, "the ledger is on PostgreSQL"));
    }
    let dir = app.data_dir.join("backups");
    app.perform(&session, once, move |control, cause| async move {
        let view = back_up(&control, dir).await?;
        if cause.dedup.is_some() {
            // A copy is no change of the ledger, so that its answer is all there is to keep.
            control.record(&cause, &"backup", kept(&view)).await?;
        }
        Ok(view)
    })
    .await
}

async fn back_up(control: &Control, dir: PathBuf) -> Result<BackupView, CommandError> {
    let created_at = control.clock().now().to_string();
    let name: String = created_at.chars().filter(|c| !matches!(c, '-' | ':')).collect();
    host::fs::create_private_dir(&dir).map_err(|error| failed(&dir, &error))?;
    let path = dir.join(format!("{name}.db"));
    control.store().backup(&path).await?;
    let (_, bytes) = host::fs::read_at(&path, 0, 0).map_err(|error| failed(&path, &error))?;
    Ok(BackupView { path: path.display().to_string(), bytes, created_at })
}

fn failed(path: &Path, error: &host::fs::FsError) -> StoreError {
    StoreError::Unavailable { reason: format!("cannot write {}: {error}", path.display()) }
}
