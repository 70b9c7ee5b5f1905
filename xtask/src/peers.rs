//! Queues that others made, for `cargo xtask bench peers`: each at one version, from npm, PyPI and crates.io, believed only
//! by the checksums of their lock files; Redis as it is found, and with CI=true by apt-get. What is not to be had is named, and
//! its rows are missing for that reason.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::process::{self, capture, on_path, say};

/// Where the benchmark finds each of them, and in `…_MISSING` why it does not.
const NODE: &str = "PILOTHOUSE_BENCH_PEERS_NODE";
const PYTHON: &str = "PILOTHOUSE_BENCH_PEERS_PYTHON";
const REDIS: &str = "PILOTHOUSE_BENCH_PEERS_REDIS";
const APALIS: &str = "PILOTHOUSE_BENCH_PEERS_APALIS";

const FILES_OF_NODE: [&str; 4] = ["package.json", "package-lock.json", "graphile.mjs", "pgboss.mjs"];
const FILES_OF_PYTHON: [&str; 2] = ["requirements.txt", "rq_peer.py"];
const WHOLE: &str = "whole";

/// What the benchmark is told, by variable.
pub(crate) fn prepare() -> Result<Vec<(String, String)>> {
    let mut told = Vec::new();
    let all = process::target_directory()?.join("peers");
    fs::create_dir_all(&all)?;
    let lock = File::create(all.join("lock"))?;
    lock.lock().context("cannot wait for another task that prepares the peers")?;
    for (name, found) in [(NODE, node(&all)), (PYTHON, python(&all)), (REDIS, redis()), (APALIS, apalis(&all))] {
        match found {
            Ok(path) => told.push((name.to_owned(), path.display().to_string())),
            Err(error) => {
                say(&format!("xtask: {error:#}"));
                told.push((format!("{name}_MISSING"), format!("{error:#}").replace('\n', " ")));
            }
        }
    }
    Ok(told)
}

/// The directory of the scripts, beside what they import.
fn node(all: &Path) -> Result<PathBuf> {
    let npm = on_path("npm").context("graphile-worker and pg-boss need npm (Debian: apt-get install npm)")?;
    settle(all, "node", &FILES_OF_NODE, |ready| {
        say("xtask: fetching graphile-worker and pg-boss with npm, once for each change of their versions");
        let ci = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"];
        capture(Command::new(&npm).args(ci).current_dir(ready))
            .context("npm cannot fetch graphile-worker and pg-boss")?;
        Ok(())
    })
}

/// The directory of the script, with an environment of its own.
fn python(all: &Path) -> Result<PathBuf> {
    let python = on_path("python3").context("RQ needs Python 3 (Debian: apt-get install python3-venv)")?;
    settle(all, "python", &FILES_OF_PYTHON, |ready| {
        say("xtask: fetching RQ with pip, once for each change of its version");
        capture(Command::new(&python).args(["-m", "venv"]).arg(ready.join("venv")))
            .context("RQ needs Python's `venv` (Debian: apt-get install python3-venv)")?;
        let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes", "-r"];
        let mut pip = Command::new(ready.join("venv/bin/python"));
        capture(pip.args(install).arg(ready.join("requirements.txt"))).context("pip cannot fetch RQ")?;
        Ok(())
    })
}

fn redis() -> Result<PathBuf> {
    if on_path("redis-server").is_none() && process::is_ci() {
        process::apt_install("redis-server")?;
    }
    on_path("redis-server").context("RQ needs Redis (Debian: apt-get install redis-server)")
}

/// The program, built in a workspace of its own.
fn apalis(all: &Path) -> Result<PathBuf> {
    say("xtask: building apalis, which takes a few minutes the first time");
    let target = all.join("apalis");
    let mut cargo = process::cargo();
    cargo.args(["build", "--release", "--locked", "--quiet", "--manifest-path", "bench/peers/apalis/Cargo.toml"]);
    capture(cargo.arg("--target-dir").arg(&target)).context("cargo cannot build apalis")?;
    Ok(target.join("release/pilothouse-bench-apalis"))
}

/// A directory with these files, filled once: its name is their digest, and a file in it says that it is whole.
fn settle(all: &Path, kind: &str, files: &[&str], fill: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let from = process::workspace().join("bench/peers");
    let paths: Vec<PathBuf> = files.iter().map(|name| from.join(name)).collect();
    let ready = all.join(format!("{kind}-{}", process::digest_of(&paths)?));
    if ready.join(WHOLE).exists() {
        return Ok(ready);
    }
    // What a task left that was killed here; the lock says that nobody is at it.
    if ready.exists() {
        fs::remove_dir_all(&ready)?;
    }
    fs::create_dir(&ready)?;
    for (name, path) in files.iter().zip(&paths) {
        fs::copy(path, ready.join(name))?;
    }
    fill(&ready)?;
    File::create(ready.join(WHOLE))?;
    Ok(ready)
}
