//! What is measured of the whole product, and what is asked of it.

use testkit::bench::report::{Figure, Goal};

/// One figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Row {
    SqliteInbound,
    SqliteInboundP99,
    PostgresInbound,
    PostgresInboundP99,
    Projects,
    ColdStart,
    IdleRss,
    Binary,
}

impl Row {
    pub(crate) const ALL: [Self; 8] = [
        Self::SqliteInbound,
        Self::SqliteInboundP99,
        Self::PostgresInbound,
        Self::PostgresInboundP99,
        Self::Projects,
        Self::ColdStart,
        Self::IdleRss,
        Self::Binary,
    ];
    /// Those of the API, which a quick look takes in.
    pub(crate) const QUICK: [Self; 5] =
        [Self::SqliteInbound, Self::SqliteInboundP99, Self::PostgresInbound, Self::PostgresInboundP99, Self::Projects];

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
            Self::ColdStart => less("cold-start", "ms (p50)", 100.0, 40.0),
            Self::IdleRss => less("idle-rss", "MiB", 30.0, 15.0),
            Self::Binary => less("binary", "MiB", 40.0, 25.0),
        }
    }
}
