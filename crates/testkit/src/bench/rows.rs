//! What is measured, and what is asked of it.

use crate::bench::report::{Figure, Goal};

/// One figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Row {
    Sqlite256,
    Sqlite1,
    SqliteStart,
    SqliteDrain,
    SqliteDrainBehind,
    SqlitePages,
    Postgres64,
    Postgres256,
    PostgresStart,
    PostgresDrain,
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
    /// Tasks claimed and completed in a second.
    Drain,
    /// The same in front of a long queue.
    DrainBehind,
    /// A page of messages and a page of events.
    Pages,
}

impl Row {
    pub const ALL: [Self; 12] = [
        Self::Sqlite256,
        Self::Sqlite1,
        Self::SqliteStart,
        Self::SqliteDrain,
        Self::SqliteDrainBehind,
        Self::SqlitePages,
        Self::Postgres64,
        Self::Postgres256,
        Self::PostgresStart,
        Self::PostgresDrain,
        Self::PostgresDrainBehind,
        Self::PostgresPages,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Sqlite256 => "sqlite-256",
            Self::Sqlite1 => "sqlite-1",
            Self::SqliteStart => "sqlite-start",
            Self::SqliteDrain => "sqlite-drain",
            Self::SqliteDrainBehind => "sqlite-drain-behind",
            Self::SqlitePages => "sqlite-pages",
            Self::Postgres64 => "postgres-64",
            Self::Postgres256 => "postgres-256",
            Self::PostgresStart => "postgres-start",
            Self::PostgresDrain => "postgres-drain",
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
            Self::SqliteDrain | Self::PostgresDrain => Kind::Drain,
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
            Kind::Drain | Kind::DrainBehind => "tasks/s",
        }
    }

    fn limit(self) -> Option<&'static str> {
        match (self.kind(), self.needs_postgres()) {
            (Kind::Rate { .. }, false) => Some("raw loop, 256 operations per COMMIT"),
            (Kind::Rate { .. }, true) => Some("pgbench -N -M prepared -c 64"),
            (Kind::Latency, _) => Some("raw loop, one operation per COMMIT"),
            (Kind::Start, false) => Some("two commits and 0.5 ms"),
            (Kind::Start, true) => Some("two commits and 1 ms"),
            (Kind::Drain, _) => None,
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
            Self::SqliteDrain => more(25_000.0, 60_000.0),
            Self::PostgresDrain => more(20_000.0, 50_000.0),
            Self::SqliteDrainBehind | Self::PostgresDrainBehind => more(0.80, 0.95),
            Self::SqlitePages | Self::PostgresPages => less(1.2, 1.05),
        }
    }

    pub fn needs_postgres(self) -> bool {
        match self {
            Self::Postgres64
            | Self::Postgres256
            | Self::PostgresStart
            | Self::PostgresDrain
            | Self::PostgresDrainBehind
            | Self::PostgresPages => true,
            Self::Sqlite256
            | Self::Sqlite1
            | Self::SqliteStart
            | Self::SqliteDrain
            | Self::SqliteDrainBehind
            | Self::SqlitePages => false,
        }
    }

    pub fn needs_pgbench(self) -> bool {
        self.needs_postgres() && matches!(self.kind(), Kind::Rate { .. })
    }
}
