//! What Pilothouse keeps and uses on this machine: its directory, disk, clock, ledger, git, port.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    time::Duration,
};

use forge::git::{Git, GitConfig};
use store::StoreConfig;

use super::Finding;
use crate::{
    config::Settings,
    failure::chain,
    node::{bootstrap, endpoint, ledger},
    session::{self, Wanted},
};

const LITTLE_DISK: u64 = 1 << 30;
const NO_DISK: u64 = 100 << 20;
/// How far the clock may be from that of the disk.
const APART: Duration = Duration::from_secs(5);
/// 2025-01-01.
const SURELY_PAST: i64 = 1_735_689_600_000_000;

pub(super) async fn look(settings: &Settings, wanted: &Wanted, fix: bool) -> Vec<Finding> {
    let Some(dir) = settings.data_dir() else {
        return vec![Finding::failed("data directory", "there is no home directory", "name one with --data-dir DIR")];
    };
    let mut findings = vec![directory(&dir, fix)];
    if host::fs::is_dir(&dir) {
        findings.extend(private_files(&dir, fix));
        findings.push(disk(&dir));
        findings.push(clock(&dir));
    }
    let serving = serving(settings, wanted).await;
    findings.push(database(settings, &dir, serving.as_deref()).await);
    findings.push(git(&dir).await);
    findings.extend(engines_of_this_build());
    findings.push(port(settings, serving.as_deref()));
    findings
}

fn directory(dir: &Path, fix: bool) -> Finding {
    const CHECK: &str = "data directory";
    if !host::fs::is_dir(dir) {
        return Finding::ok(CHECK, format!("{} will be made at the first start", dir.display()));
    }
    match host::fs::owner_uid(dir) {
        Ok(uid) if uid != host::process::effective_uid() => {
            let found = format!("{} belongs to user {uid}", dir.display());
            return Finding::failed(CHECK, found, "run as that user, or name another with --data-dir DIR");
        }
        Ok(_) => {}
        Err(error) => return Finding::failed(CHECK, chain(&error), "make the directory readable for this user"),
    }
    private(CHECK, dir, 0o700, fix)
}

/// What nobody else may read.
fn private_files(dir: &Path, fix: bool) -> Vec<Finding> {
    let files = [("admin token", dir.join(bootstrap::TOKEN_FILE)), ("endpoint", dir.join(endpoint::FILE))];
    files
        .into_iter()
        .filter(|(_, path)| host::fs::exists(path))
        .map(|(check, path)| private(check, &path, 0o600, fix))
        .collect()
}

fn private(check: &'static str, path: &Path, wanted: u32, fix: bool) -> Finding {
    let mode = match host::fs::mode(path) {
        Ok(mode) => mode,
        Err(error) => return Finding::failed(check, chain(&error), "make it readable for this user"),
    };
    if mode & 0o077 == 0 {
        return Finding::ok(check, format!("{} is private", path.display()));
    }
    if fix && host::fs::set_mode(path, wanted).is_ok() {
        return Finding { fixed: true, ..Finding::ok(check, format!("{} is private now", path.display())) };
    }
    let found = format!("{} can be read by others (mode {mode:o})", path.display());
    Finding::failed(check, found, format!("chmod {wanted:o} {}, or run this again with --fix", path.display()))
}

fn disk(dir: &Path) -> Finding {
    const CHECK: &str = "disk";
    match host::fs::free_disk(dir) {
        Ok(free) if free < NO_DISK => Finding::failed(
            CHECK,
            format!("{} MiB are free", free >> 20),
            "free some: nothing is accepted on a full disk",
        ),
        Ok(free) if free < LITTLE_DISK => {
            Finding::warning(CHECK, format!("{} MiB are free", free >> 20), "free some before worktrees fill it")
        }
        Ok(free) => Finding::ok(CHECK, format!("{} GiB are free", free >> 30)),
        Err(error) => Finding::failed(CHECK, chain(&error), "look at the disk that the data directory lies on"),
    }
}

fn clock(dir: &Path) -> Finding {
    const CHECK: &str = "clock";
    let now = host::clock::now_micros();
    if now < SURELY_PAST {
        return Finding::failed(CHECK, "the clock stands in the past", "set it; deadlines and tokens depend on it");
    }
    let probe = dir.join(format!(".clock-{}", host::random::base62(8)));
    let age = host::fs::create_new(&probe, b"").map(|()| host::fs::age(&probe));
    let removed = host::fs::remove_file(&probe);
    match age {
        Ok(Ok(age)) if age < APART && removed.is_ok() => {
            Finding::ok(CHECK, "this machine and its disk agree on the time")
        }
        Ok(Ok(age)) => {
            let found = format!("what was written just now is {} s old", age.as_secs());
            Finding::warning(CHECK, found, "synchronise the clocks of this machine and of where its disk is")
        }
        Ok(Err(error)) | Err(error) => {
            Finding::failed(CHECK, chain(&error), "make the data directory writable for this user")
        }
    }
}

/// The server that is running for this directory, by its own word.
async fn serving(settings: &Settings, wanted: &Wanted) -> Option<String> {
    let client = session::connect(settings, wanted).ok()?;
    let health = tokio::time::timeout(Duration::from_secs(5), client.get_health()).await.ok()?.ok()?;
    Some(format!(
        "a server of version {} holds it at {}, {} ({})",
        health.version,
        client.address(),
        health.status,
        health.database
    ))
}

/// Opening it is the check: what is not durable, too old or too new is refused.
async fn database(settings: &Settings, dir: &Path, serving: Option<&str>) -> Finding {
    const CHECK: &str = "database";
    let config = settings.store(dir);
    if let StoreConfig::Sqlite { path } = &config {
        if let Some(serving) = serving {
            return Finding::ok(CHECK, serving);
        }
        if !host::fs::exists(path) {
            return Finding::ok(CHECK, "SQLite, to be made at the first start");
        }
    }
    match ledger::open(&config).await {
        Ok(store) => {
            let found = match &config {
                StoreConfig::Sqlite { .. } => "SQLite, in WAL mode, synchronous FULL: what is accepted is durable",
                StoreConfig::Postgres { .. } => {
                    "PostgreSQL, fsync and synchronous_commit on: what is accepted is durable"
                }
            };
            store.close().await;
            Finding::ok(CHECK, found)
        }
        Err(failure) => {
            let remedy = failure.remedy.unwrap_or_else(|| "see `pilothouse db check`".to_owned());
            Finding::failed(CHECK, failure.message, remedy)
        }
    }
}

async fn git(dir: &Path) -> Finding {
    const CHECK: &str = "git";
    // An empty home of its own, so that looking changes nothing in the data directory.
    let home = match host::fs::create_temporary_dir(&host::fs::temporary_root(), "pilothouse-doctor-") {
        Ok(home) => home,
        Err(error) => return Finding::failed(CHECK, chain(&error), "make the temporary directory writable"),
    };
    let found = Git::find(GitConfig { home: home.clone(), ..GitConfig::beneath(dir) }).await;
    let finding = match found {
        Ok(git) => {
            let found = format!("git {} at {}", git.version(), git.program().display());
            match git.version().warning() {
                Some(warning) => Finding::warning(CHECK, found, warning),
                None => Finding::ok(CHECK, found),
            }
        }
        Err(error) => Finding::failed(CHECK, chain(&error), "install git 2.39 or newer"),
    };
    // Only disk space, and of no interest to whoever asked.
    let _ = host::fs::remove_dir_all(&home);
    finding
}

fn engines_of_this_build() -> Option<Finding> {
    let ids: Vec<&str> = engines::engine::Engine::ALL.iter().map(|engine| engine.id()).collect();
    Some(Finding::ok("engines", format!("this build knows {}", ids.join(", "))))
}

fn port(settings: &Settings, serving: Option<&str>) -> Finding {
    const CHECK: &str = "port";
    let address = settings.listen();
    match TcpListener::bind(address) {
        Ok(_) => Finding::ok(CHECK, format!("{address} is free")),
        Err(_) if serving.is_some() => Finding::ok(CHECK, format!("{address} is taken while a server is running")),
        Err(error) => Finding::failed(
            CHECK,
            format!("{address} cannot be listened on: {error}"),
            "stop whoever listens there, or choose another with --listen or server.listen",
        ),
    }
}

/// Where this program is, to be started again.
pub(super) fn exe() -> Result<PathBuf, Finding> {
    host::process::current_exe()
        .map_err(|error| Finding::failed("program", format!("cannot find this program: {error}"), "install it again"))
}
