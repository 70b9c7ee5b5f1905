//! `cargo xtask bench`: the figures of the store, of the whole product, and of engines.

use std::process::ExitCode;

use anyhow::Result;

use crate::peers;
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
    "sse",
    "start-planned",
    "sqlite-drain",
    "postgres-drain",
    "postgres-wakeups",
    "postgres-workers",
    "cold-start",
    "idle-rss",
    "binary",
];

/// Measured beside queues that others made.
const OF_PEERS: &[&str] = &[
    "peer-graphile",
    "peer-graphile-default",
    "peer-apalis",
    "peer-rq",
    "peer-rq-simple",
    "peer-pgboss",
    "peer-start",
];
/// All of them.
const PEERS: &str = "peers";

fn is_of_product(row: &str) -> bool {
    OF_PRODUCT.contains(&row) || OF_PEERS.contains(&row)
}

fn is_of_engines(row: &str) -> bool {
    row.starts_with("engine-")
}

pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    let (flags, named): (Vec<&str>, Vec<&str>) =
        arguments.iter().map(String::as_str).partition(|part| part.starts_with("--"));
    let mut rows = Vec::new();
    for row in named {
        if row == PEERS { rows.extend(OF_PEERS) } else { rows.push(row) }
    }
    let peers = if rows.iter().any(|row| OF_PEERS.contains(row)) { peers::prepare()? } else { Vec::new() };
    let server = Server::start()?;
    let ended = measure(&server, &rows, &flags, &peers);
    server.stop()?;
    Ok(if ended? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Whether every goal was met.
fn measure(server: &Server, rows: &[&str], flags: &[&str], peers: &[(String, String)]) -> Result<bool> {
    let is_quick = flags.contains(&"--quick");
    let mut is_met = true;
    for program in &PROGRAMS {
        let own: Vec<&&str> = rows.iter().filter(|row| (program.measures)(row)).collect();
        let is_asked = if rows.is_empty() { program.is_quick || !is_quick } else { !own.is_empty() };
        if is_asked {
            let mut cargo = cargo();
            cargo.envs(peers.iter().map(|(name, value)| (name, value)));
            cargo.args(program.arguments).args(["--locked", "--quiet", "--profile", "measure", "--"]);
            is_met &= process::status(server.lend(cargo.args(own).args(flags)))?.success();
        }
    }
    Ok(is_met)
}
