//! The ledger itself: checked and restored as files while nobody holds it, backed up by the server that does.

mod fold;
mod restore;

use serde_json::json;
use store::{Store, StoreConfig};

use super::Context;
use crate::{
    cli::DbCommand,
    config::layers::Layer,
    failure::{Exit, Failure, Result},
    node::{self, ledger},
};

pub(super) fn flags(flags: Layer, command: &DbCommand) -> Result<Layer> {
    match command {
        DbCommand::Check { database, .. } => {
            Ok(flags.flag("--database-url", "database_url", database.database_url.as_deref())?)
        }
        DbCommand::Backup | DbCommand::Restore { .. } => Ok(flags),
    }
}

pub(super) async fn run(context: &Context, command: DbCommand) -> Result {
    match command {
        DbCommand::Check { fold, .. } => check(context, fold).await,
        DbCommand::Backup => {
            let backup = context.client()?.back_up().await?;
            context.output.one("backup", &backup, || format!("{} ({} bytes)", backup.path, backup.bytes))
        }
        DbCommand::Restore { file, force } => restore::run(context, &file, force).await,
    }
}

async fn check(context: &Context, fold: bool) -> Result {
    let config = context.settings.store(&node::find_data_dir(&context.settings)?);
    if let Some(path) = node::sqlite_path(&config)
        && !host::fs::exists(path)
    {
        return Err(Failure::new(Exit::NotFound, format!("there is no ledger at {}", path.display()))
            .remedy("Name its directory with --data-dir DIR."));
    }
    let store = ledger::open(&config).await?;
    let checked = findings(&store, fold).await;
    store.close().await;
    let (findings, n_folded) = checked?;
    let place = match &config {
        StoreConfig::Sqlite { path } => path.display().to_string(),
        // An address may hold a password.
        StoreConfig::Postgres { .. } => "the PostgreSQL ledger".to_owned(),
    };
    let result = json!({ "ledger": place, "sound": findings.is_empty(), "folded": n_folded, "findings": findings });
    context.output.one("db_check", &result, || {
        let folded = n_folded.map(|n| format!(", {n} subjects equal their events")).unwrap_or_default();
        match findings.as_slice() {
            [] => format!("{place}: sound{folded}"),
            findings => findings.join("\n"),
        }
    })?;
    if findings.is_empty() {
        return Ok(());
    }
    Err(Failure::failed(format!("{} findings in {place}", findings.len()))
        .remedy("Stop writing to it and restore a backup with `pilothouse db restore FILE --force`."))
}

/// Everything that is wrong, and how many subjects were folded.
async fn findings(store: &Store, fold: bool) -> Result<(Vec<String>, Option<u64>)> {
    let mut findings = store.check().await?;
    let mut n_folded = None;
    if fold {
        let folded = fold::check(store).await?;
        findings.extend(folded.findings);
        n_folded = Some(folded.n_subjects);
    }
    Ok((findings, n_folded))
}
