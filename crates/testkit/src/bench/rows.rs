//! What is measured, and what is asked of it.

/// One figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Row {
    /// Operations a second at 256 callers, to the raw loop with 256 operations in each transaction.
    Sqlite256,
    /// The middle latency of a single caller, to a plain transaction for each operation.
    Sqlite1,
    /// Operations a second, to pgbench with 64 clients.
    Postgres64,
    Postgres256,
    /// Tasks claimed and completed in a second.
    DrainSqlite,
    DrainPostgres,
}

/// What a row's ratio has to reach: at least `must`, hopefully `aim`; or at most, when less is better.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Goal {
    pub must: f64,
    pub aim: f64,
    pub less_is_better: bool,
}

impl Row {
    pub const ALL: [Self; 6] =
        [Self::Sqlite256, Self::Sqlite1, Self::DrainSqlite, Self::Postgres64, Self::Postgres256, Self::DrainPostgres];

    pub fn name(self) -> &'static str {
        match self {
            Self::Sqlite256 => "sqlite-256",
            Self::Sqlite1 => "sqlite-1",
            Self::Postgres64 => "postgres-64",
            Self::Postgres256 => "postgres-256",
            Self::DrainSqlite => "sqlite-drain",
            Self::DrainPostgres => "postgres-drain",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|row| row.name() == text)
    }

    pub fn unit(self) -> &'static str {
        match self {
            Self::Sqlite256 | Self::Postgres64 | Self::Postgres256 => "operations/s",
            Self::Sqlite1 => "ms (p50)",
            Self::DrainSqlite | Self::DrainPostgres => "tasks/s",
        }
    }

    /// What the value is compared with.
    pub fn limit(self) -> Option<&'static str> {
        match self {
            Self::Sqlite256 => Some("raw loop, 256 operations per COMMIT"),
            Self::Sqlite1 => Some("raw loop, one operation per COMMIT"),
            Self::Postgres64 | Self::Postgres256 => Some("pgbench -N -M prepared -c 64"),
            Self::DrainSqlite | Self::DrainPostgres => None,
        }
    }

    pub fn goal(self) -> Option<Goal> {
        let goal = |must, aim, less_is_better| Some(Goal { must, aim, less_is_better });
        match self {
            Self::Sqlite256 => goal(0.75, 0.90, false),
            Self::Sqlite1 => goal(1.5, 1.0, true),
            Self::Postgres64 => goal(3.0, 5.0, false),
            Self::Postgres256 => goal(6.0, 9.0, false),
            Self::DrainSqlite | Self::DrainPostgres => None,
        }
    }

    pub fn needs_postgres(self) -> bool {
        match self {
            Self::Postgres64 | Self::Postgres256 | Self::DrainPostgres => true,
            Self::Sqlite256 | Self::Sqlite1 | Self::DrainSqlite => false,
        }
    }

    pub fn needs_pgbench(self) -> bool {
        self.needs_postgres() && self.goal().is_some()
    }
}

impl Goal {
    pub fn is_met_by(self, ratio: f64) -> bool {
        if self.less_is_better { ratio <= self.must } else { ratio >= self.must }
    }

    pub fn is_exceeded_by(self, ratio: f64) -> bool {
        if self.less_is_better { ratio <= self.aim } else { ratio >= self.aim }
    }
}
