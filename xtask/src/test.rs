//! `cargo xtask test`: every test on both databases, then the harness.

use std::process::ExitCode;

use anyhow::Result;

use crate::postgres::{Durability, Server};
use crate::process;

/// A program that proves what no unit test can, run after the tests against a PostgreSQL that really syncs.
struct Harness {
    name: &'static str,
    cargo: &'static [&'static str],
}

const HARNESSES: &[Harness] = &[];

pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    let code = cargo_test(arguments)?;
    if code != 0 {
        return Ok(ExitCode::FAILURE);
    }
    if !arguments.is_empty() {
        process::say("xtask: the tests were narrowed by arguments, so the harness does not run");
        return Ok(ExitCode::SUCCESS);
    }
    run_harnesses()
}

fn cargo_test(arguments: &[String]) -> Result<i32> {
    let server = Server::start(Durability::None)?;
    let mut cargo = process::cargo();
    cargo.args(["test", "--locked", "--profile", "ci"]);
    if !names_a_package(arguments) {
        cargo.arg("--workspace");
    }
    let ended = process::status(server.lend(cargo.args(arguments)));
    server.stop()?;
    Ok(ended?.code().unwrap_or(1))
}

fn run_harnesses() -> Result<ExitCode> {
    if HARNESSES.is_empty() {
        process::say("xtask: no harness is defined");
        return Ok(ExitCode::SUCCESS);
    }
    let server = Server::start(Durability::Real)?;
    for harness in HARNESSES {
        process::say(&format!("xtask: harness `{}`", harness.name));
        let ended = process::status(server.lend(process::cargo().args(harness.cargo)))?;
        if !ended.success() {
            process::say(&format!("xtask: harness `{}` failed ({ended})", harness.name));
            server.stop()?;
            return Ok(ExitCode::FAILURE);
        }
    }
    server.stop()?;
    Ok(ExitCode::SUCCESS)
}

/// Whether cargo's own arguments choose packages, so that the whole workspace must not be added.
fn names_a_package(arguments: &[String]) -> bool {
    let own = arguments.iter().take_while(|argument| *argument != "--");
    own.into_iter().any(|a| a == "--package" || a.starts_with("--package=") || a.starts_with("-p"))
}
