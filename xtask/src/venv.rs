//! Programs from PyPI for tests that drive them: at one version, believed only by the checksums of a list of
//! requirements.
//!
//! A virtual environment remembers where it was made, so it is made in its place, named by the list's digest; a file in
//! it says that it is whole.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::process::{self, capture, on_path, say};

/// What is fetched, and how people are told of it.
pub(crate) struct Pinned {
    pub(crate) what: &'static str,
    /// Leaves its tests out.
    pub(crate) flag: &'static str,
    /// The list with every version and checksum, from the workspace on.
    pub(crate) requirements: &'static str,
    /// Its place in the target directory.
    pub(crate) directory: &'static str,
}

const WHOLE: &str = "whole";

/// The virtual environment with it; else the sentence that says what is missing.
pub(crate) fn fetch(pinned: &Pinned) -> Result<Result<PathBuf, String>> {
    let Pinned { what, flag, .. } = pinned;
    let Some(python) = find_python()? else {
        return Ok(Err(format!(
            "the tests with {what} need Python 3 with its `venv` to fetch it: install them (Debian: apt-get install \
             python3-venv), or leave the tests out with {flag}"
        )));
    };
    let requirements = process::workspace().join(pinned.requirements);
    let all = process::target_directory()?.join(pinned.directory);
    fs::create_dir_all(&all)?;
    let lock = File::create(all.join("lock"))?;
    lock.lock().with_context(|| format!("cannot wait for another task that prepares {what}"))?;
    let ready = all.join(process::digest_of(&[&requirements])?);
    if !ready.join(WHOLE).exists() {
        say(&format!("xtask: fetching {what} with pip, once for each change of its version"));
        // What a task left that was killed here; the lock says that nobody is at it.
        if ready.exists() {
            fs::remove_dir_all(&ready)?;
        }
        capture(Command::new(&python).args(["-m", "venv"]).arg(&ready))?;
        let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes", "-r"];
        capture(Command::new(ready.join("bin/python")).args(install).arg(&requirements)).with_context(|| {
            format!("pip cannot fetch {what}; `{flag}` leaves its tests out on a machine without the registry")
        })?;
        File::create(ready.join(WHOLE))?;
    }
    Ok(Ok(ready))
}

/// A Python that can make virtual environments.
fn find_python() -> Result<Option<PathBuf>> {
    let usable = || {
        let python = on_path("python3")?;
        let asked = Command::new(&python).args(["-c", "import venv, ensurepip"]).output().ok()?;
        asked.status.success().then_some(python)
    };
    if let Some(python) = usable() {
        return Ok(Some(python));
    }
    if process::is_ci() {
        process::apt_install("python3-venv")?;
    }
    Ok(usable())
}
