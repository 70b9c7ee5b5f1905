//! `engines [ROWS] [--quick] [--json]`: what supervision adds, how fast output is read, how soon it is seen, and how
//! surely a tree ends. Exit code 1 when a goal is not met or a row could not be measured.
#![expect(clippy::disallowed_methods, reason = "measures the product from outside, as its users do")]

mod added;
mod events;
mod figures;
mod flood;
mod live;
mod node;
mod place;
mod talker;
mod trees;

use std::{collections::BTreeMap, io::Write, process::ExitCode};

use figures::Row;
use testkit::bench::report::{Outcome, Report};

/// The same as in the program that is shipped.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How long, how often and how much.
#[derive(Clone, Copy, Debug)]
struct Plan {
    rounds: usize,
    /// Runs of an engine for one figure.
    runs: usize,
    /// How long a program floods its output.
    flood: std::time::Duration,
    /// Trees that are killed for one figure.
    trees: usize,
    /// Events that each engine tells while it is followed.
    told: u32,
}

const FULL: Plan = Plan { rounds: 3, runs: 60, flood: std::time::Duration::from_secs(60), trees: 1000, told: 1000 };
const QUICK: Plan = Plan { rounds: 1, runs: 20, flood: std::time::Duration::from_secs(5), trees: 50, told: 300 };

#[tokio::main]
async fn main() -> ExitCode {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    // What cargo itself says to a benchmark.
    arguments.retain(|argument| argument != "--bench");
    if let [flag, count, pause] = arguments.as_slice()
        && flag == talker::FLAG
    {
        return talker::talk(count, pause);
    }
    let (mut rows, mut json, mut plan) = (Vec::new(), false, FULL);
    for argument in &arguments {
        match (argument.as_str(), Row::parse(argument)) {
            ("--json", _) => json = true,
            ("--quick", _) => plan = QUICK,
            (_, Some(row)) => rows.push(row),
            (unknown, None) => return usage(unknown),
        }
    }
    if rows.is_empty() {
        rows.extend(Row::ALL);
    }
    let mut out = std::io::stdout().lock();
    let mut is_met = true;
    for report in measure(&rows, plan).await {
        is_met &= report.is_met();
        if writeln!(out, "{}", if json { report.json() } else { report.line() }).is_err() {
            return ExitCode::FAILURE;
        }
    }
    if is_met { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Every row in turn, several times over.
async fn measure(rows: &[Row], plan: Plan) -> Vec<Report> {
    let mut measured: BTreeMap<&str, Result<Vec<f64>, String>> = BTreeMap::new();
    for round in 1..=plan.rounds {
        for row in rows {
            let figure = row.figure();
            // What takes minutes is long enough to need no second round.
            if round > 1 && row.is_long() {
                continue;
            }
            let _ = writeln!(std::io::stderr(), "round {round} of {}: {}", plan.rounds, figure.name);
            let value = match row {
                Row::Added => added::measure(plan.runs, None).await,
                Row::AddedBubblewrap => added::in_bubblewrap(plan.runs).await,
                Row::AddedLandlock => added::in_landlock(plan.runs).await,
                Row::Events => events::measure().await,
                Row::Flood => flood::measure(plan.flood).await,
                Row::Trees => trees::measure(plan.trees).await,
                Row::Live => live::latency(plan.told).await,
                Row::Sixteen => live::sixteen(plan.told).await,
            };
            let values = measured.entry(figure.name).or_insert_with(|| Ok(Vec::new()));
            match (values.as_mut(), value) {
                (Ok(values), Ok(value)) => values.push(value),
                (Ok(_), Err(why)) => *values = Err(why),
                (Err(_), _) => {}
            }
        }
    }
    let report = |row: &Row| {
        let figure = row.figure();
        let outcome = match measured.remove(figure.name) {
            Some(Ok(mut values)) => match median(&mut values) {
                Some(value) => Outcome::Measured { value, limit: None },
                None => Outcome::Failed { reason: "nothing was measured".to_owned() },
            },
            Some(Err(reason)) => Outcome::Failed { reason },
            None => Outcome::Failed { reason: "it was not measured".to_owned() },
        };
        Report { figure, outcome }
    };
    rows.iter().map(report).collect()
}

fn median(values: &mut [f64]) -> Option<f64> {
    quantile(values, 0.5)
}

/// The value that this share of all of them does not exceed.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "there are thousands of values, not quadrillions"
)]
fn quantile(values: &mut [f64], share: f64) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let last = values.len().checked_sub(1)?;
    values.get((last as f64 * share).ceil() as usize).copied()
}

fn milliseconds(span: std::time::Duration) -> f64 {
    span.as_secs_f64() * 1000.0
}

fn usage(argument: &str) -> ExitCode {
    let names: Vec<&str> = Row::ALL.iter().map(|row| row.figure().name).collect();
    let _ =
        writeln!(std::io::stderr(), "unknown argument {argument}; rows: {}; flags: --json --quick", names.join(" "));
    ExitCode::from(2)
}
