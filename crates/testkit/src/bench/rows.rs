//! What is measured, and what is asked of it.

use crate::bench::report::{Figure, Goal};

/// One figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Row {
    Sqlite256,
    Sqlite1,
    SqliteStart,
    SqliteDrainBehind,
    SqlitePages,
    Postgres64,
    Postgres256,
    PostgresStart,
    PostgresDrainBehind,
    PostgresPages,
}

/// What a row measures, whichever the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Operations a second.
    Rate { callers: usize },
    /// The middle latency of a single caller.
    Latency,
    /// From the call that enqueues to the claim that returns, on an idle store.
    Start,
    /// Tasks claimed and completed in a second in front of a long queue.
    DrainBehind,
    /// A page of messages and a page of events.
    Pages,
}

impl Row {
    pub const ALL: [Self; 10] = [
        Self::Sqlite256,
        Self::Sqlite1,
        Self::SqliteStart,
        Self::SqliteDrainBehind,
        Self::SqlitePages,
        Self::Postgres64,
        Self::Postgres256,
        Self::PostgresStart,
        Self::PostgresDrainBehind,
        Self::PostgresPages,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Sqlite256 => "sqlite-256",
            Self::Sqlite1 => "sqlite-1",
            Self::SqliteStart => "sqlite-start",
            Self::SqliteDrainBehind => "sqlite-drain-behind",
            Self::SqlitePages => "sqlite-pages",
            Self::Postgres64 => "postgres-64",
            Self::Postgres256 => "postgres-256",
            Self::PostgresStart => "postgres-start",
            Self::PostgresDrainBehind => "postgres-drain-behind",
            Self::PostgresPages => "postgres-pages",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|row| row.name() == text)
    }

    pub fn kind(self) -> Kind {
        match self {
            Self::Sqlite256 | Self::Postgres256 => Kind::Rate { callers: 256 },
            Self::Postgres64 => Kind::Rate { callers: 64 },
            Self::Sqlite1 => Kind::Latency,
            Self::SqliteStart | Self::PostgresStart => Kind::Start,
            Self::SqliteDrainBehind | Self::PostgresDrainBehind => Kind::DrainBehind,
            Self::SqlitePages | Self::PostgresPages => Kind::Pages,
        }
    }

    pub fn figure(self) -> Figure {
        Figure { name: self.name(), unit: self.unit(), limit: self.limit(), goal: self.goal() }
    }

    fn unit(self) -> &'static str {
        match self.kind() {
            Kind::Rate { .. } => "operations/s",
            Kind::Latency | Kind::Start | Kind::Pages => "ms (p50)",
            Kind::DrainBehind => "tasks/s",
        }
    }

    fn limit(self) -> Option<&'static str> {
        match (self.kind(), self.needs_postgres()) {
            (Kind::Rate { .. }, false) => Some("raw loop, 256 operations per COMMIT"),
            (Kind::Rate { .. }, true) => Some("pgbench -N -M prepared -c 64"),
            (Kind::Latency, _) => Some("raw loop, one operation per COMMIT"),
            (Kind::Start, false) => Some("two commits and 0.5 ms"),
            (Kind::Start, true) => Some("two commits and 1 ms"),
            (Kind::DrainBehind, _) => Some("the same with nothing behind it"),
            (Kind::Pages, _) => Some("the same pages of a ledger with 1,000 rows"),
        }
    }

    fn goal(self) -> Goal {
        let more = |must, aim| Goal { must, aim, less_is_better: false };
        let less = |must, aim| Goal { must, aim, less_is_better: true };
        match self {
            Self::Sqlite256 => more(0.75, 0.90),
            Self::Sqlite1 => less(1.0, 0.7),
            Self::Postgres64 => more(3.0, 5.0),
            Self::Postgres256 => more(6.0, 9.0),
            Self::SqliteStart | Self::PostgresStart => less(1.0, 0.6),
            Self::SqliteDrainBehind | Self::PostgresDrainBehind => more(0.80, 0.95),
            Self::SqlitePages | Self::PostgresPages => less(1.2, 1.05),
        }
    }

    pub fn needs_postgres(self) -> bool {
        match self {
            Self::Postgres64
            | Self::Postgres256
            | Self::PostgresStart
            | Self::PostgresDrainBehind
            | Self::PostgresPages => true,
            Self::Sqlite256 | Self::Sqlite1 | Self::SqliteStart | Self::SqliteDrainBehind | Self::SqlitePages => false,
        }
    }

    pub fn needs_pgbench(self) -> bool {
        self.needs_postgres() && matches!(self.kind(), Kind::Rate { .. })
    }
}
