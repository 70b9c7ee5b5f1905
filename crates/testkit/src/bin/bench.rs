//! `bench [rows] [--json] [--quick]`: measures the store. Exit code 1 when a goal is not met or a row is missing.

use std::process::ExitCode;

use testkit::bench::{
    command::{self, Asked},
    rows::Row,
    run::{self, Plan},
};

/// The same as in the program that is shipped.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let asked = match Asked::parse(&arguments, &Row::ALL, Row::name) {
        Ok(asked) => asked,
        Err(what) => return command::usage(&what),
    };
    let rows = if asked.rows.is_empty() { Row::ALL.to_vec() } else { asked.rows };
    let plan = if asked.is_quick { Plan::QUICK } else { Plan::FULL };
    command::print(&run::run(&rows, plan, command::say).await, asked.as_json)
}
