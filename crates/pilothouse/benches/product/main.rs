//! `product [ROWS] [--quick] [--json]`: what people and other programs see of the shipped binary: how much it answers,
//! how soon it is there, what it weighs. Exit code 1 when a goal is not met or a row could not be measured.
#![expect(clippy::disallowed_methods, reason = "measures the product from outside, as its users do")]

mod figures;
mod inbound;
mod place;
mod process;
mod projects;

use std::{collections::BTreeMap, process::ExitCode, time::Duration};

use figures::Row;
use testkit::bench::{
    command::{self, Asked},
    report::Report,
    series::{Sample, Series, Unmeasured},
};

use crate::{inbound::Inbound, place::Database};

/// The same as in the program that is shipped.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How long, how often and how much.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    rounds: usize,
    /// Of a load.
    span: Duration,
    /// Starts of the product for one figure.
    starts: usize,
    /// How long it is left alone before its memory is looked at.
    idle: Duration,
}

const FULL: Plan = Plan { rounds: 5, span: Duration::from_secs(4), starts: 9, idle: Duration::from_secs(10) };
const QUICK: Plan = Plan { rounds: 3, span: Duration::from_millis(1_000), starts: 5, idle: Duration::from_secs(3) };

type Measured = Result<Sample, Unmeasured>;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let asked = match Asked::parse(&arguments, &Row::ALL, Row::name) {
        Ok(asked) => asked,
        Err(what) => return command::usage(&what),
    };
    let rows = match (asked.rows.is_empty(), asked.is_quick) {
        (false, _) => asked.rows,
        (true, true) => Row::QUICK.to_vec(),
        (true, false) => Row::ALL.to_vec(),
    };
    let plan = if asked.is_quick { QUICK } else { FULL };
    command::print(&measure(&rows, plan).await, asked.as_json)
}

/// Every row in turn, several times over.
async fn measure(rows: &[Row], plan: Plan) -> Vec<Report> {
    let mut measured: BTreeMap<Row, Series> = BTreeMap::new();
    for round in 1..=plan.rounds {
        let mut loads = Loads::default();
        for row in rows {
            let series = measured.entry(*row).or_default();
            // What no second round can change is looked at once.
            if series.has_ended() || (round > 1 && *row == Row::Binary) {
                continue;
            }
            command::say(&format!("round {round} of {}: {}", plan.rounds, row.name()));
            series.push(measure_one(*row, plan, &mut loads).await);
        }
    }
    rows.iter().map(|row| measured.entry(*row).or_default().report(row.figure())).collect()
}

async fn measure_one(row: Row, plan: Plan, loads: &mut Loads) -> Measured {
    match row {
        Row::SqliteInbound => loads.inbound(Database::Sqlite, plan).await.map(|inbound| inbound.rate()),
        Row::SqliteInboundP99 => loads.inbound(Database::Sqlite, plan).await.map(|inbound| inbound.p99()),
        Row::PostgresInbound => loads.inbound(Database::Postgres, plan).await.map(|inbound| inbound.rate()),
        Row::PostgresInboundP99 => loads.inbound(Database::Postgres, plan).await.map(|inbound| inbound.p99()),
        Row::Projects => projects::measure(plan).await,
        Row::ColdStart => process::cold_start(plan.starts).await,
        Row::IdleRss => process::idle_rss(plan.idle).await,
        Row::Binary => process::binary(),
    }
}

/// What several rows of one round read from the same load.
#[derive(Default)]
struct Loads {
    inbound: BTreeMap<Database, Result<Inbound, Unmeasured>>,
}

impl Loads {
    async fn inbound(&mut self, database: Database, plan: Plan) -> Result<Inbound, Unmeasured> {
        match self.inbound.get(&database) {
            Some(known) => known.clone(),
            None => {
                let measured = inbound::measure(database, plan).await;
                self.inbound.insert(database, measured.clone());
                measured
            }
        }
    }
}
