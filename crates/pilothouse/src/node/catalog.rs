//! The job catalog file, put in force at the start.

use std::path::{Path, PathBuf};

use control::Control;
use domain::catalog::{Catalog, WarningKind};

use crate::failure::{Failure, Result};

const FILE: &str = "jobs.toml";
const MAX_FILE: u64 = 4 << 20;

/// A catalog that was read and found good.
#[derive(Clone, Debug)]
pub(crate) struct CatalogFile {
    pub(crate) path: PathBuf,
    text: String,
}

/// Reads the file that is named, or the one in the data directory if there is one.
pub(crate) fn read(named: Option<PathBuf>, data_dir: &Path, dev_channel: bool) -> Result<Option<CatalogFile>> {
    let is_named = named.is_some();
    let path = named.unwrap_or_else(|| data_dir.join(FILE));
    let text = match host::fs::read_text(&path, MAX_FILE) {
        Ok(text) => text,
        Err(error) if error.is_not_found() && !is_named => return Ok(None),
        Err(error) => {
            return Err(Failure::usage(crate::failure::chain(&error)).remedy("Name a catalog with --jobs FILE."));
        }
    };
    for warning in check(&text, &path, dev_channel)? {
        tracing::warn!("{warning}");
    }
    Ok(Some(CatalogFile { path, text }))
}

/// What is worth saying about a catalog; a catalog that does not load is a failure that lists everything.
pub(crate) fn check(text: &str, path: &Path, dev_channel: bool) -> Result<Vec<String>> {
    let shown = path.display().to_string();
    let catalog = Catalog::parse(text, &shown).map_err(|error| {
        Failure::usage(format!("the job catalog is not valid\n{error}")).remedy("Correct the lines above.")
    })?;
    let told = catalog.warnings().iter().filter(|warning| !dev_channel || warning.kind != WarningKind::DevChannel);
    Ok(told.map(|warning| format!("{shown}:{warning}")).collect())
}

/// Puts it in force.
pub(crate) async fn load(control: &Control, file: &CatalogFile) -> Result {
    let catalog = control.load_catalog(&file.text, &file.path.display().to_string()).await?;
    tracing::info!("Loaded {} jobs from {}", catalog.jobs().count(), file.path.display());
    Ok(())
}
