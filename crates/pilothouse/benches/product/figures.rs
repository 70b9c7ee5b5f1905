//! What is measured of the whole product, and what is asked of it.

use testkit::bench::report::{Figure, Goal};

use crate::peers::Peer;

/// One figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Row {
    SqliteInbound,
    SqliteInboundP99,
    PostgresInbound,
    PostgresInboundP99,
    Projects,
    Sse,
    StartPlanned,
    SqliteDrain,
    PostgresDrain,
    PostgresWakeups,
    PostgresWorkers,
    ColdStart,
    IdleRss,
    Binary,
    PeerGraphile,
    PeerGraphileDefault,
    PeerApalis,
    PeerRq,
    PeerRqSimple,
    PeerPgBoss,
    PeerStart,
}

impl Row {
    /// Those of others come last: they need what `cargo xtask` fetches, and are measured when they are named.
    pub(crate) const ALL: [Self; 21] = [
        Self::SqliteInbound,
        Self::SqliteInboundP99,
        Self::PostgresInbound,
        Self::PostgresInboundP99,
        Self::Projects,
        Self::Sse,
        Self::StartPlanned,
        Self::SqliteDrain,
        Self::PostgresDrain,
        Self::PostgresWakeups,
        Self::PostgresWorkers,
        Self::ColdStart,
        Self::IdleRss,
        Self::Binary,
        Self::PeerGraphile,
        Self::PeerGraphileDefault,
        Self::PeerApalis,
        Self::PeerRq,
        Self::PeerRqSimple,
        Self::PeerPgBoss,
        Self::PeerStart,
    ];
    /// Those of the API, which a quick look takes in.
    pub(crate) const QUICK: [Self; 5] =
        [Self::SqliteInbound, Self::SqliteInboundP99, Self::PostgresInbound, Self::PostgresInboundP99, Self::Projects];

    /// Whether it is measured beside a queue that others made.
    pub(crate) fn is_of_peers(self) -> bool {
        self.peer().is_some() || self == Self::PeerStart
    }

    /// Whose drain it is compared with.
    pub(crate) fn peer(self) -> Option<Peer> {
        match self {
            Self::PeerGraphile => Some(Peer::GraphileBatched),
            Self::PeerGraphileDefault => Some(Peer::GraphileDefault),
            Self::PeerApalis => Some(Peer::Apalis),
            Self::PeerRq => Some(Peer::Rq),
            Self::PeerRqSimple => Some(Peer::RqSimple),
            Self::PeerPgBoss => Some(Peer::PgBoss),
            _ => None,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        self.figure().name
    }

    pub(crate) fn figure(self) -> Figure {
        let less =
            |name, unit, must, aim| Figure { name, unit, limit: None, goal: Goal { must, aim, less_is_better: true } };
        let more = |name, unit, must, aim| Figure {
            goal: Goal { must, aim, less_is_better: false },
            ..less(name, unit, must, aim)
        };
        let beside = |figure: Figure, limit| Figure { limit: Some(limit), ..figure };
        match self {
            Self::SqliteInbound => {
                beside(more("sqlite-inbound", "requests/s", 0.6, 0.8), "operations/s of the store, 64 callers")
            }
            Self::SqliteInboundP99 => less("sqlite-inbound-p99", "ms (p99)", 50.0, 25.0),
            Self::PostgresInbound => {
                beside(more("postgres-inbound", "requests/s", 0.6, 0.8), "operations/s of the store, 64 callers")
            }
            Self::PostgresInboundP99 => less("postgres-inbound-p99", "ms (p99)", 50.0, 25.0),
            Self::Projects => more("projects", "requests/s", 20_000.0, 40_000.0),
            Self::Sse => less("sse", "ms (p99)", 20.0, 10.0),
            Self::StartPlanned => {
                beside(less("start-planned", "ms (p50)", 1.0, 0.9), "git's own time, four commits and 5 ms")
            }
            Self::SqliteDrain => more("sqlite-drain", "tasks/s", 25_000.0, 60_000.0),
            Self::PostgresDrain => more("postgres-drain", "tasks/s", 20_000.0, 50_000.0),
            Self::PostgresWakeups => beside(more("postgres-wakeups", "operations/s", 0.95, 0.98), "the same without"),
            Self::PostgresWorkers => {
                beside(more("postgres-workers", "tasks/s by three", 1.0, 1.5), "tasks/s by one process")
            }
            Self::ColdStart => less("cold-start", "ms (p50)", 100.0, 40.0),
            Self::IdleRss => less("idle-rss", "MiB", 30.0, 15.0),
            Self::Binary => less("binary", "MiB", 40.0, 25.0),
            Self::PeerGraphile => {
                beside(more("peer-graphile", "tasks/s, ours", 3.0, 5.0), "graphile-worker, 4 processes, batched")
            }
            Self::PeerGraphileDefault => {
                beside(more("peer-graphile-default", "tasks/s, ours", 8.0, 30.0), "graphile-worker, 4 processes")
            }
            Self::PeerApalis => beside(more("peer-apalis", "tasks/s, ours", 6.0, 10.0), "apalis, 4 workers of 100"),
            Self::PeerRq => beside(more("peer-rq", "tasks/s, ours", 300.0, 800.0), "RQ on Redis, 2 workers"),
            Self::PeerRqSimple => {
                beside(more("peer-rq-simple", "tasks/s, ours", 100.0, 200.0), "RQ on Redis, 2 workers that do not fork")
            }
            Self::PeerPgBoss => beside(more("peer-pgboss", "tasks/s, ours", 1.0, 4.0), "pg-boss, 4 loops of 100"),
            Self::PeerStart => beside(less("peer-start", "ms (p50), ours", 0.7, 0.5), "graphile-worker's"),
        }
    }
}
