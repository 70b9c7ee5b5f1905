//! `cargo xtask pg -- COMMAND`: any command with a private PostgreSQL up.

use std::process::{Command, ExitCode};

use anyhow::{Result, bail};

use crate::postgres::{Durability, Server};
use crate::process;

pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    let split = arguments.iter().position(|argument| argument == "--");
    let (own, command) = match split {
        Some(at) => (&arguments[..at], &arguments[at + 1..]),
        None => bail!("name the command after `--`, for example: cargo xtask pg -- cargo test -p store"),
    };
    let durability = match own {
        [] => Durability::Real,
        [flag] if flag == "--no-fsync" => Durability::None,
        other => bail!("unknown arguments before `--`: {}", other.join(" ")),
    };
    let Some((program, rest)) = command.split_first() else { bail!("no command after `--`") };

    let server = Server::start(durability)?;
    let ended = process::status(server.lend(Command::new(program).args(rest)));
    server.stop()?;
    Ok(process::exit_code(ended?))
}
