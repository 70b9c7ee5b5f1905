//! `cargo xtask chaos`: faults injected into the product, with a private PostgreSQL.

use std::process::{Command, ExitCode};

use anyhow::Result;

use crate::postgres::Server;
use crate::process::{self, cargo, say};

/// One build for both: `chaos` switches on the failpoints that the product it drives must have.
const BUILD: &[&str] =
    &["build", "--locked", "--profile", "ci", "--package", "chaos", "--package", "pilothouse", "--bins"];

pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    let built = process::status(cargo().args(BUILD))?;
    if !built.success() {
        return Ok(process::exit_code(built));
    }
    let server = Server::start()?;
    let ended = process::status(server.lend(program()?.args(arguments)));
    server.stop()?;
    Ok(process::exit_code(ended?))
}

/// The quick gate of all faults, with the programs that a build of the whole workspace has left. Whether it passed.
pub(crate) fn gate(server: &Server) -> Result<bool> {
    say("xtask: the quick gate of `chaos`");
    let ended = process::status(server.lend(&mut program()?))?;
    if !ended.success() {
        say(&format!("xtask: `chaos` failed ({ended})"));
    }
    Ok(ended.success())
}

fn program() -> Result<Command> {
    let mut chaos = Command::new(process::target_directory()?.join("ci").join("chaos"));
    chaos.current_dir(process::workspace());
    Ok(chaos)
}
