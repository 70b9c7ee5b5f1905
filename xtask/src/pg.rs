//! `cargo xtask pg -- COMMAND`: any command with a private PostgreSQL up.

use std::process::{Command, ExitCode};

use anyhow::{Result, bail};

use crate::postgres::Server;
use crate::process;

pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    let [dashes, command @ ..] = arguments else { bail!("name a command after `--`") };
    if dashes != "--" {
        bail!("write the command after `--`, for example: cargo xtask pg -- cargo test -p store");
    }
    let Some((program, rest)) = command.split_first() else { bail!("no command after `--`") };

    let server = Server::start()?;
    let ended = process::status(server.lend(Command::new(program).args(rest)));
    server.stop()?;
    Ok(process::exit_code(ended?))
}
