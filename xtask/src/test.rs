//! `cargo xtask test`: every test on both databases, with the real agents, Schemathesis and validators, then the faults.

use std::process::ExitCode;

use anyhow::Result;

use crate::lent::Lent;
use crate::postgres::Server;
use crate::process::{self, say};
use crate::{agents, chaos, manifests, schemathesis};

pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    let mut arguments = arguments.to_vec();
    let kinds = [&agents::KIND, &schemathesis::KIND, &manifests::KIND];
    let lent = kinds.into_iter().map(|kind| kind.prepare(&mut arguments)).collect::<Result<Vec<_>>>()?;
    programs();
    let server = Server::start()?;
    let passed = pass(&server, &lent, &arguments);
    // A server that does not stop is a failure of its own, even after tests that passed.
    server.stop()?;
    Ok(if passed? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Programs of the system that tests need, and their packages: the sandbox, and the clock that jumps.
const PROGRAMS: [(&str, &str); 2] = [("bwrap", "bubblewrap"), ("faketime", "faketime")];

/// Gets them for a bare build machine. Whatever needs one that is missing says so itself: tests fail, faults are left out.
fn programs() {
    for (program, package) in PROGRAMS {
        if cfg!(target_os = "linux")
            && process::is_ci()
            && process::on_path(program).is_none()
            && let Err(error) = process::apt_install(package)
        {
            say(&format!("xtask: {package} could not be installed: {error:#}"));
        }
    }
}

fn pass(server: &Server, lent: &[Lent], arguments: &[String]) -> Result<bool> {
    // Agents wait for their models more than they work, so that more of their tests can run side by side than there are
    // cores. Named tests run as they were named.
    let apart = lent.iter().find(|programs| arguments.is_empty() && programs.are_of(&agents::KIND));
    if let Some(agents) = apart {
        let patient = std::thread::available_parallelism()?.get() * 2;
        return Ok(test(server, lent, &agents.others())?
            && test(server, lent, &agents.alone(patient))?
            && chaos::gate(server)?);
    }
    if !test(server, lent, arguments)? {
        return Ok(false);
    }
    if !arguments.is_empty() {
        say("xtask: arguments narrowed the tests, so no faults are injected");
        return Ok(true);
    }
    chaos::gate(server)
}

fn test(server: &Server, lent: &[Lent], arguments: &[String]) -> Result<bool> {
    let mut cargo = process::cargo();
    cargo.args(["test", "--locked", "--profile", "ci"]);
    if !names_a_package(arguments) {
        cargo.arg("--workspace");
    }
    let mut told = arguments.to_vec();
    for programs in lent {
        programs.lend(&mut cargo, &mut told);
    }
    Ok(process::status(server.lend(cargo.args(told)))?.success())
}

/// Whether cargo's own arguments choose packages, so that the whole workspace must not be added.
fn names_a_package(arguments: &[String]) -> bool {
    let own = arguments.iter().take_while(|argument| *argument != "--");
    own.into_iter().any(|a| a == "--package" || a.starts_with("--package=") || a.starts_with("-p"))
}

#[cfg(test)]
mod tests;
