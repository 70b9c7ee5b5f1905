//! `engines [ROWS] [--quick] [--json]`: what supervision adds, how fast output is read, how soon it is seen, and how
//! surely a tree ends. Exit code 1 when a goal is not met or a row could not be measured.

mod added;
mod events;
mod figures;
mod flood;
mod live;
mod node;
mod place;
mod talker;
mod trees;

use std::{collections::BTreeMap, process::ExitCode};

use figures::Row;
use testkit::bench::{
    command::{self, Asked},
    report::Report,
    series::{Sample, Series, Unmeasured},
};

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
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, count, pause] = arguments.as_slice()
        && flag == talker::FLAG
    {
        return talker::talk(count, pause);
    }
    let asked = match Asked::parse(&arguments, &Row::ALL, |row| row.figure().name) {
        Ok(asked) => asked,
        Err(what) => return command::usage(&what),
    };
    let rows = if asked.rows.is_empty() { Row::ALL.to_vec() } else { asked.rows };
    let plan = if asked.is_quick { QUICK } else { FULL };
    command::print(&measure(&rows, plan).await, asked.as_json)
}

/// Every row in turn, several times over.
async fn measure(rows: &[Row], plan: Plan) -> Vec<Report> {
    let mut measured: BTreeMap<&str, Series> = BTreeMap::new();
    for round in 1..=plan.rounds {
        for row in rows {
            let figure = row.figure();
            let series = measured.entry(figure.name).or_default();
            // What takes minutes is long enough to need no second round.
            if series.has_ended() || (round > 1 && row.is_long()) {
                continue;
            }
            command::say(&format!("round {round} of {}: {}", plan.rounds, figure.name));
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
            series.push(value.map(Sample::from).map_err(Unmeasured::Failed));
        }
    }
    rows.iter().map(|row| measured.entry(row.figure().name).or_default().report(row.figure())).collect()
}
