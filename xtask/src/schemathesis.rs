//! Schemathesis for the test that asks the API whatever its description allows, and more: at one version, from PyPI,
//! believed only by the checksums of the list of requirements.
//!
//! A virtual environment remembers where it was made, so it is made in its place, named by the list's digest; a file in
//! it says that it is whole.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::lent::Kind;
use crate::process::{self, capture, on_path, say};

pub(crate) static KIND: Kind = Kind {
    what: "Schemathesis",
    directory: "PILOTHOUSE_TEST_SCHEMATHESIS",
    missing: "PILOTHOUSE_TEST_SCHEMATHESIS_MISSING",
    flag: "--no-schemathesis",
    tests: "schemathesis::",
    fetch,
};

const REQUIREMENTS: &str = "crates/testkit/schemathesis/requirements.txt";
const WHOLE: &str = "whole";

fn fetch() -> Result<Result<PathBuf, String>> {
    let Some(python) = find_python()? else {
        return Ok(Err(format!(
            "the test with Schemathesis needs Python 3 with its `venv` to fetch it: install them (Debian: apt-get \
             install python3-venv), or leave the test out with {}",
            KIND.flag
        )));
    };
    let requirements = process::workspace().join(REQUIREMENTS);
    let all = process::target_directory()?.join("schemathesis");
    fs::create_dir_all(&all)?;
    let lock = File::create(all.join("lock"))?;
    lock.lock().context("cannot wait for another task that prepares Schemathesis")?;
    let ready = all.join(process::digest_of(&[&requirements])?);
    if !ready.join(WHOLE).exists() {
        say("xtask: fetching Schemathesis with pip, once for each change of its version");
        // What a task left that was killed here; the lock says that nobody is at it.
        if ready.exists() {
            fs::remove_dir_all(&ready)?;
        }
        capture(Command::new(&python).args(["-m", "venv"]).arg(&ready))?;
        let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes", "-r"];
        capture(Command::new(ready.join("bin/python")).args(install).arg(&requirements)).with_context(|| {
            format!(
                "pip cannot fetch Schemathesis; `{}` leaves its test out on a machine without the registry",
                KIND.flag
            )
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
