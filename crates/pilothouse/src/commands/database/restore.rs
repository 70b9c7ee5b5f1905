//! A backup, put in the ledger's place: verified first, under a new epoch, with the old ledger kept aside.

use std::path::{Path, PathBuf};

use host::fs::{Held, LockFile};
use serde_json::json;
use store::{Store, StoreConfig};

use crate::{
    commands::Context,
    failure::{Exit, Failure, Result},
    node::{self, ledger},
    output::say,
};

/// What SQLite keeps beside a file.
const BESIDE: [&str; 2] = ["-wal", "-shm"];
const PIECE: usize = 1 << 20;

pub(super) async fn run(context: &Context, file: &Path, force: bool) -> Result {
    let settings = &context.settings;
    let data_dir = node::prepare(settings)?;
    let StoreConfig::Sqlite { path: ledger } = settings.store(&data_dir) else {
        return Err(Failure::usage("a ledger on PostgreSQL is restored with PostgreSQL's own tools"));
    };
    let lock = hold(&ledger)?;
    let replaces = host::fs::exists(&ledger);
    if replaces && !force {
        return Err(Failure::new(Exit::Conflict, format!("there is a ledger at {}", ledger.display()))
            .remedy("--force replaces it; the old one is kept beside it."));
    }
    let work = host::fs::create_temporary_dir(&data_dir, "restore-")?;
    let verified = verified_copy(file, &work).await;
    let placed = match verified {
        Ok(copy) => put_in_place(&copy, &ledger, replaces),
        Err(failure) => Err(failure),
    };
    // Best effort: what is left of the copies changes nothing.
    let _ = host::fs::remove_dir_all(&work);
    let kept = placed?;
    drop(lock);
    if let Some(kept) = &kept {
        say(&format!("the ledger that was there is kept as {}", kept.display()));
    }
    let result = json!({ "ledger": ledger.display().to_string(), "from": file.display().to_string(), "kept": kept });
    context.output.one("restore", &result, || format!("{} is restored from {}", ledger.display(), file.display()))
}

fn hold(ledger: &Path) -> Result<LockFile> {
    LockFile::acquire(&beside(ledger, ".lock")).map_err(|held| match held {
        Held::ByAnother { .. } => ledger::in_use(&ledger.display().to_string()),
        Held::Io { .. } => Failure::failed(crate::failure::chain(&held)),
    })
}

/// A sound copy with an epoch and fences of its own, so that no cursor or claim of the past holds in it.
async fn verified_copy(file: &Path, work: &Path) -> Result<PathBuf> {
    let first = work.join("copy.db");
    copy(file, &first)?;
    let refused = |failure: Failure| Failure {
        message: format!("{} is no backup that can be restored: {}", file.display(), failure.message),
        ..failure
    };
    let store = Store::open(&StoreConfig::Sqlite { path: first }).await.map_err(|error| refused(error.into()))?;
    let second = work.join("fresh.db");
    let findings = store.check().await;
    let copied = match &findings {
        Ok(findings) if findings.is_empty() => store.backup(&second).await,
        Ok(_) | Err(_) => Ok(()),
    };
    store.close().await;
    let findings = findings.map_err(|error| refused(error.into()))?;
    if !findings.is_empty() {
        return Err(refused(Failure::failed(findings.join("; "))));
    }
    copied?;
    Ok(second)
}

fn put_in_place(copy: &Path, ledger: &Path, replaces: bool) -> Result<Option<PathBuf>> {
    let kept = replaces.then(|| {
        let at = host::clock::now_micros() / 1_000_000;
        beside(ledger, &format!(".replaced-{at}"))
    });
    if let Some(kept) = &kept {
        // What the log beside the file holds is part of it.
        for ending in BESIDE {
            let log = beside(ledger, ending);
            if host::fs::exists(&log) {
                host::fs::rename(&log, &beside(kept, ending))?;
            }
        }
        host::fs::rename(ledger, kept)?;
    }
    for ending in BESIDE {
        host::fs::remove_file(&beside(ledger, ending))?;
    }
    host::fs::rename(copy, ledger)?;
    Ok(kept)
}

fn copy(from: &Path, to: &Path) -> Result {
    let mut out = host::fs::open_append(to)?;
    let mut offset = 0;
    loop {
        let (piece, _) = host::fs::read_at(from, offset, PIECE)?;
        if piece.is_empty() {
            break;
        }
        offset += piece.len() as u64;
        std::io::Write::write_all(&mut out, &piece)
            .map_err(|error| Failure::failed(format!("cannot write {}: {error}", to.display())))?;
    }
    out.sync_all().map_err(|error| Failure::failed(format!("cannot write {}: {error}", to.display())))
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}
