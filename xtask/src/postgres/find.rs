//! Where PostgreSQL may come from, in order of preference.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

use super::{URL, npm};
use crate::process::{self, capture, on_path, say};

const ONLY: &str = "PILOTHOUSE_XTASK_PG";

pub(crate) enum Found {
    /// Somebody else's server.
    Url(String),
    Binaries(Binaries),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Binaries {
    /// The directory that holds the real `postgres` and `initdb`, not links or wrappers.
    Directory(PathBuf),
    /// A verified npm package, unpacked anew for each cluster.
    Package(PathBuf),
}

pub(crate) fn find() -> Result<Found> {
    let only = std::env::var(ONLY).ok();
    if only.is_none()
        && let Ok(url) = std::env::var(URL)
    {
        return Ok(Found::Url(url));
    }
    for (name, source) in SOURCES {
        if only.as_deref().is_some_and(|only| only != *name) {
            continue;
        }
        match source() {
            Ok(Some(binaries)) => return Ok(Found::Binaries(binaries)),
            Ok(None) => {}
            // A registry that does not answer is no reason to leave out what comes after it.
            Err(error) => say(&format!("xtask: no PostgreSQL by {name}: {error:#}")),
        }
    }
    match only {
        Some(only) if SOURCES.iter().any(|(name, _)| *name == only) => bail!("{ONLY}={only} finds no PostgreSQL here"),
        Some(only) => bail!("{ONLY}={only} is none of path, system, homebrew, npm, apt"),
        None => bail!(
            "the tests need PostgreSQL: install it (Debian: apt-get install postgresql; macOS: brew install postgresql) \
             or npm, or set {URL} to a server on which your role may create databases"
        ),
    }
}

type Source = fn() -> Result<Option<Binaries>>;

const SOURCES: &[(&str, Source)] = &[
    ("path", from_path),
    ("system", from_system),
    ("homebrew", from_homebrew),
    ("npm", npm::fetch),
    ("apt", from_apt),
];

fn from_path() -> Result<Option<Binaries>> {
    let linked = on_path("initdb").and_then(|initdb| initdb.canonicalize().ok());
    let linked = linked.and_then(|initdb| initdb.parent().and_then(real_directory));
    // Version managers put scripts on PATH; pg_config knows where the programs behind them are.
    let configured = || {
        let printed = capture(Command::new(on_path("pg_config")?).arg("--bindir")).ok()?;
        real_directory(Path::new(printed.trim()))
    };
    Ok(linked.or_else(configured).map(Binaries::Directory))
}

fn from_system() -> Result<Option<Binaries>> {
    Ok(newest(Path::new("/usr/lib/postgresql"), "").map(Binaries::Directory))
}

fn from_homebrew() -> Result<Option<Binaries>> {
    let prefixes = ["/opt/homebrew/opt", "/usr/local/opt", "/home/linuxbrew/.linuxbrew/opt"];
    Ok(prefixes.iter().find_map(|prefix| newest(Path::new(prefix), "postgresql@")).map(Binaries::Directory))
}

/// The last resort of a bare build machine; never on a person's own.
fn from_apt() -> Result<Option<Binaries>> {
    if !process::is_ci() {
        return Ok(None);
    }
    if !process::apt_install("postgresql")? {
        return Ok(None);
    }
    from_system()
}

/// The bin directory of the highest version below `parent` among the entries that start with `prefix`.
fn newest(parent: &Path, prefix: &str) -> Option<PathBuf> {
    let entries = std::fs::read_dir(parent).ok()?.flatten();
    let mut versions: Vec<(u32, PathBuf)> = entries
        .filter_map(|entry| {
            let version = entry.file_name().to_str()?.strip_prefix(prefix)?.parse().ok()?;
            Some((version, real_directory(&entry.path().join("bin"))?))
        })
        .collect();
    versions.sort();
    versions.pop().map(|(_, directory)| directory)
}

/// The directory with its links resolved, if the programs in it are programs rather than scripts that call them.
fn real_directory(directory: &Path) -> Option<PathBuf> {
    let directory = directory.canonicalize().ok()?;
    let real = |name: &str| {
        let Ok(program) = directory.join(name).canonicalize() else { return false };
        process::is_executable(&program) && !is_script(&program)
    };
    (real("initdb") && real("postgres")).then_some(directory)
}

fn is_script(path: &Path) -> bool {
    use std::io::Read as _;
    let mut start = [0; 2];
    std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut start)).is_err() || &start == b"#!"
}

#[cfg(test)]
mod tests;
