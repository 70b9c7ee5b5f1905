//! `cargo xtask bench`: the store's figures.

use std::process::ExitCode;

use anyhow::Result;

use crate::postgres::Server;
use crate::process;

/// The program that measures and prints; it decides what a missing `pgbench` means for its rows and its exit code.
const BENCH: &[&str] =
    &["run", "--locked", "--quiet", "--profile", "measure", "--package", "testkit", "--bin", "bench", "--"];

pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    let server = Server::start()?;
    let ended = process::status(server.lend(process::cargo().args(BENCH).args(arguments)));
    server.stop()?;
    Ok(process::exit_code(ended?))
}
