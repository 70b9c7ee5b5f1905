//! The owner's first token, on disk before anything is served.
//!
//! The secret is drawn and written to `admin.token` first, then made valid in the ledger: a crash in between leaves a
//! file that the next start makes valid. The other order would leave a ledger whose only secret nobody has.

use std::path::{Path, PathBuf};

use control::Control;

use crate::failure::{Exit, Failure, Result};

pub(crate) const TOKEN_FILE: &str = "admin.token";

/// Makes sure that there is an owner, and says where the token lies.
pub(crate) async fn bootstrap(control: &Control, data_dir: &Path) -> Result<PathBuf> {
    let path = data_dir.join(TOKEN_FILE);
    match host::fs::read_text(&path, 4096) {
        Ok(text) => keep(control, &path, text.trim()).await?,
        Err(error) if error.is_not_found() => first(control, &path).await?,
        Err(error) => return Err(error.into()),
    }
    Ok(path)
}

/// A file is there: of an earlier start, or of one that crashed before its token counted.
async fn keep(control: &Control, path: &Path, secret: &str) -> Result {
    if control.authenticate(secret).await?.is_some() {
        return Ok(());
    }
    if is_secret(secret) && control.bootstrap_with(secret).await? {
        tracing::info!("Made the token in {} valid", path.display());
        return Ok(());
    }
    tracing::warn!(
        "The token in {} is not valid for this ledger; `pilothouse token reset` makes a new one",
        path.display()
    );
    Ok(())
}

async fn first(control: &Control, path: &Path) -> Result {
    let secret = control::tokens::draw_secret();
    host::fs::write_atomic(path, format!("{secret}\n").as_bytes())?;
    host::failpoint!("node.token.written");
    match control.bootstrap_with(&secret).await {
        Ok(true) => {
            tracing::info!("Made the person `owner`; the admin token is in {}", path.display());
            Ok(())
        }
        Ok(false) => {
            // Somebody else holds the first token; ours never counted.
            host::fs::remove_file(path)?;
            tracing::warn!(
                "The first admin token of this ledger is elsewhere; give it in PILOTHOUSE_TOKEN, or make another with \
                 `pilothouse token reset`"
            );
            Ok(())
        }
        // Whether it counts is not known: the next start finds the file and settles it.
        Err(error) => Err(error.into()),
    }
}

/// Makes the owner and the first token for `pilothouse token bootstrap`; refuses when there is one.
pub(crate) async fn bootstrap_by_hand(control: &Control) -> Result<String> {
    let secret = control::tokens::draw_secret();
    if control.bootstrap_with(&secret).await? {
        return Ok(secret);
    }
    Err(Failure::new(Exit::Conflict, "this ledger has its first admin token already")
        .remedy("`pilothouse token reset` replaces it."))
}

fn is_secret(text: &str) -> bool {
    text.starts_with("ph_pat_") && text.len() > 50 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}
