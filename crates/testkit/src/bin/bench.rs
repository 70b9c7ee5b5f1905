//! `bench [rows] [--json] [--quick]`: measures the store. Exit code 1 when a goal is not met or a row is missing.

use std::{io::Write, process::ExitCode};

use testkit::bench::{
    rows::Row,
    run::{self, Plan},
};

/// The same as in the program that is shipped.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut rows = Vec::new();
    let (mut json, mut plan) = (false, Plan::FULL);
    for argument in &arguments {
        match (argument.as_str(), Row::parse(argument)) {
            ("--json", _) => json = true,
            ("--quick", _) => plan = Plan::QUICK,
            (_, Some(row)) => rows.push(row),
            (other, None) => return usage(other),
        }
    }
    if rows.is_empty() {
        rows.extend(Row::ALL);
    }
    let reports = run::run(&rows, plan, |what| {
        // Progress is talk: whoever closed stderr does not want it.
        let _ = writeln!(std::io::stderr(), "{what}");
    })
    .await;
    let mut out = std::io::stdout().lock();
    let mut is_met = true;
    for report in &reports {
        is_met &= report.is_met();
        let line = if json { report.json() } else { report.line() };
        if writeln!(out, "{line}").is_err() {
            return ExitCode::FAILURE;
        }
    }
    if is_met { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn usage(argument: &str) -> ExitCode {
    let names: Vec<&str> = Row::ALL.into_iter().map(Row::name).collect();
    let _ =
        writeln!(std::io::stderr(), "unknown argument {argument}; rows: {}; flags: --json --quick", names.join(" "));
    ExitCode::from(2)
}
