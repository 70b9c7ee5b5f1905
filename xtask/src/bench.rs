//! `cargo xtask bench`: the figures of the store and those of engines.

use std::process::ExitCode;

use anyhow::Result;

use crate::postgres::Server;
use crate::process::{self, cargo};

/// The program that measures the store; it decides what a missing `pgbench` means for its rows and its exit code.
const STORE: &[&str] =
    &["run", "--locked", "--quiet", "--profile", "measure", "--package", "testkit", "--bin", "bench", "--"];
/// The program that measures engines, beside the product that it starts.
const ENGINES: &[&str] =
    &["bench", "--locked", "--quiet", "--profile", "measure", "--package", "pilothouse", "--bench", "engines", "--"];
/// What the names of its rows begin with.
const OF_ENGINES: &str = "engine-";

pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    let (rows, flags): (Vec<&String>, Vec<&String>) = arguments.iter().partition(|part| !part.starts_with("--"));
    let (engines, store): (Vec<&String>, Vec<&String>) = rows.iter().partition(|row| row.starts_with(OF_ENGINES));
    let mut is_met = true;
    if rows.is_empty() || !store.is_empty() {
        let server = Server::start()?;
        let ended = process::status(server.lend(cargo().args(STORE).args(store).args(&flags)));
        server.stop()?;
        is_met &= ended?.success();
    }
    // A quick look is one at the store: engines take minutes, and are looked at when they are named.
    let is_quick = flags.iter().any(|flag| *flag == "--quick");
    if !engines.is_empty() || (rows.is_empty() && !is_quick) {
        is_met &= process::status(cargo().args(ENGINES).args(engines).args(&flags))?.success();
    }
    Ok(if is_met { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
