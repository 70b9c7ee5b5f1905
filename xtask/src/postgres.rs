//! A private PostgreSQL for the length of one task.
//!
//! `find` chooses the binaries, `cluster` turns them into a running server in a private directory, and `guard` is the
//! process that owns both: it lives exactly as long as the pipe to this task, so that Ctrl-C, a failure or even
//! SIGKILL leaves neither a server nor a directory behind.

pub(crate) mod cluster;
pub(crate) mod find;
pub(crate) mod guard;
mod npm;
mod user;

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};

use self::find::Found;
use self::guard::Guarded;
use crate::process::{self, say};

/// Where tests and benchmarks look for the server's address.
pub(crate) const URL: &str = "PILOTHOUSE_TEST_POSTGRES_URL";
/// Where the benchmark looks for `pgbench`.
const PGBENCH: &str = "PILOTHOUSE_BENCH_PGBENCH";
/// Where `chaos` looks for the command that gives it a server of its own, which it may crash.
const GUARD: &str = "PILOTHOUSE_CHAOS_POSTGRES_GUARD";

/// A server that a task may lend to the commands it runs.
pub(crate) struct Server {
    url: String,
    pgbench: Option<PathBuf>,
    guarded: Option<Guarded>,
    /// The command line of a guard over another cluster, as JSON; somebody else's server gives no programs for one.
    guard: Option<String>,
}

impl Server {
    pub(crate) fn start() -> Result<Self> {
        let binaries = match find::find()? {
            Found::Url(url) => {
                say(&format!("xtask: PostgreSQL from {URL}, used as it is"));
                return Ok(Server { url, pgbench: process::on_path("pgbench"), guarded: None, guard: None });
            }
            Found::Binaries(binaries) => binaries,
        };
        let guarded = Guarded::start(&binaries).context("PostgreSQL did not start")?;
        let facts = guarded.facts();
        say(&format!("xtask: {} from {} on {}", facts.version, facts.origin, facts.address));
        let beside = facts.bin.join("pgbench");
        let pgbench = if process::is_executable(&beside) { Some(beside) } else { process::on_path("pgbench") };
        let guard = serde_json::to_string(&guard::command(&binaries)?)?;
        Ok(Server { url: facts.url.clone(), pgbench, guarded: Some(guarded), guard: Some(guard) })
    }

    /// Tells a command where the server is.
    pub(crate) fn lend<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        command.env(URL, &self.url);
        if let Some(pgbench) = &self.pgbench {
            command.env(PGBENCH, pgbench);
        }
        if let Some(guard) = &self.guard {
            command.env(GUARD, guard);
        }
        command
    }

    /// Stops the server and proves that nothing of it is left.
    pub(crate) fn stop(self) -> Result<()> {
        match self.guarded {
            Some(guarded) => guarded.stop(),
            None => Ok(()),
        }
    }
}
