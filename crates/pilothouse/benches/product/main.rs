//! `product [ROWS] [--quick] [--json]`: what people and other programs see of the shipped binary: how much it answers,
//! how soon it is there, what it weighs. Exit code 1 when a goal is not met or a row could not be measured.
#![expect(clippy::disallowed_methods, reason = "measures the product from outside, as its users do")]

mod drain;
mod figures;
mod inbound;
mod peers;
mod place;
mod planned;
mod process;
mod projects;
mod sse;
mod wakeups;
mod workers;

use std::{collections::BTreeMap, process::ExitCode, time::Duration};

use figures::Row;
use testkit::bench::{
    command::{self, Asked},
    report::Report,
    series::{Sample, Series, Unmeasured},
};

use crate::{inbound::Inbound, peers::Peer, place::Database};

/// The same as in the program that is shipped.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How long, how often and how much.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    rounds: usize,
    /// Of a load.
    span: Duration,
    /// Tasks in a queue.
    drained: usize,
    /// Tasks that are started one after the other on an idle queue.
    started: usize,
    /// Events that are told to followers.
    told: usize,
    /// Starts of the product, or of protocols, for one figure.
    starts: usize,
    /// How long it is left alone before its memory is looked at.
    idle: Duration,
}

const FULL: Plan = Plan {
    rounds: 5,
    span: Duration::from_secs(4),
    drained: 60_000,
    started: 100,
    told: 200,
    starts: 9,
    idle: Duration::from_secs(10),
};
const QUICK: Plan = Plan {
    rounds: 3,
    span: Duration::from_millis(1_000),
    drained: 60_000,
    started: 20,
    told: 60,
    starts: 5,
    idle: Duration::from_secs(3),
};

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
        (true, false) => Row::ALL.into_iter().filter(|row| !row.is_of_peers()).collect(),
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
            let measured = match row.peer() {
                Some(peer) => loads.beside(peer, plan).await,
                None => measure_one(*row, plan, &mut loads).await,
            };
            series.push(measured);
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
        Row::Sse => sse::measure(plan).await,
        Row::StartPlanned => planned::measure(plan).await,
        Row::SqliteDrain => drain::measure(Database::Sqlite, plan).await,
        Row::PostgresDrain => drain::measure(Database::Postgres, plan).await,
        Row::PostgresWakeups => wakeups::measure(plan).await,
        Row::PostgresWorkers => workers::measure(plan).await,
        Row::PeerStart => peers::starts(plan).await,
        Row::ColdStart => process::cold_start(plan.starts).await,
        Row::IdleRss => process::idle_rss(plan.idle).await,
        Row::Binary => process::binary(),
        Row::PeerGraphile
        | Row::PeerGraphileDefault
        | Row::PeerApalis
        | Row::PeerRq
        | Row::PeerRqSimple
        | Row::PeerPgBoss => Err("a peer is measured beside ours".into()),
    }
}

/// What several rows of one round read from the same load.
#[derive(Default)]
struct Loads {
    inbound: BTreeMap<Database, Result<Inbound, Unmeasured>>,
    /// Our own drain on PostgreSQL.
    drained: Option<Measured>,
}

impl Loads {
    /// Our drain beside a peer's.
    async fn beside(&mut self, peer: Peer, plan: Plan) -> Measured {
        let theirs = peer.drain().await?;
        let ours = match self.drained.take() {
            Some(drained) => drained,
            None => drain::measure(Database::Postgres, plan).await,
        };
        self.drained = Some(ours.clone());
        Ok(Sample::beside(ours?.value, theirs))
    }

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
