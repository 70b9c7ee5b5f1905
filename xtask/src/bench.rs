//! `cargo xtask bench`: the figures of the store, of the whole product, and of engines.

use std::process::ExitCode;

use anyhow::Result;

use crate::postgres::Server;
use crate::process::{self, cargo};

/// A program that measures; it decides what a missing `pgbench` or server means for its rows and its exit code.
struct Program {
    arguments: &'static [&'static str],
    measures: fn(&str) -> bool,
    /// Whether its rows are worth a quick look; those that take minutes are looked at when they are named.
    is_quick: bool,
}

const PROGRAMS: [Program; 3] = [
    Program {
        arguments: &["run", "--package", "testkit", "--bin", "bench"],
        measures: |row| !is_of_engines(row) && !is_of_product(row),
        is_quick: true,
    },
    Program {
        arguments: &["bench", "--package", "pilothouse", "--bench", "product"],
        measures: is_of_product,
        is_quick: true,
    },
    Program {
        arguments: &["bench", "--package", "pilothouse", "--bench", "engines"],
        measures: is_of_engines,
        is_quick: false,
    },
];

/// The rows of the whole product; whoever asks for one that nobody knows is told by the store's program.
const OF_PRODUCT: &[&str] = &[
    "sqlite-inbound",
    "sqlite-inbound-p99",
    "postgres-inbound",
    "postgres-inbound-p99",
    "projects",
    "cold-start",
    "idle-rss",
    "binary",
];

fn is_of_product(row: &str) -> bool {
    OF_PRODUCT.contains(&row)
}

fn is_of_engines(row: &str) -> bool {
    row.starts_with("engine-")
}

pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    let (rows, flags): (Vec<&String>, Vec<&String>) = arguments.iter().partition(|part| !part.starts_with("--"));
    let is_quick = flags.iter().any(|flag| *flag == "--quick");
    let server = Server::start()?;
    let ended = measure(&server, &rows, &flags, is_quick);
    server.stop()?;
    Ok(if ended? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Whether every goal was met.
fn measure(server: &Server, rows: &[&String], flags: &[&String], is_quick: bool) -> Result<bool> {
    let mut is_met = true;
    for program in &PROGRAMS {
        let own: Vec<&&String> = rows.iter().filter(|row| (program.measures)(row)).collect();
        let is_asked = if rows.is_empty() { program.is_quick || !is_quick } else { !own.is_empty() };
        if is_asked {
            let mut cargo = cargo();
            cargo.args(program.arguments).args(["--locked", "--quiet", "--profile", "measure", "--"]);
            is_met &= process::status(server.lend(cargo.args(own).args(flags)))?.success();
        }
    }
    Ok(is_met)
}
