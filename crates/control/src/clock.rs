//! The time decisions are made at: the wall clock, corrected by what heartbeats learn of the database's clock.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use domain::{decision::Context, time::Timestamp};

/// The clock of one process. Clones share the correction.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    source: Source,
}

#[derive(Clone, Debug)]
enum Source {
    Wall {
        offset_micros: Arc<AtomicI64>,
    },
    /// Stands still until it is moved: for tests.
    Manual {
        now: Arc<AtomicI64>,
    },
}

impl Default for Source {
    fn default() -> Self {
        Self::Wall { offset_micros: Arc::default() }
    }
}

impl Clock {
    pub fn manual(start: Timestamp) -> Self {
        Self { source: Source::Manual { now: Arc::new(AtomicI64::new(start.as_micros())) } }
    }

    pub fn now(&self) -> Timestamp {
        Timestamp::from_micros(match &self.source {
            Source::Wall { offset_micros } => {
                host::clock::now_micros().saturating_add(offset_micros.load(Ordering::Relaxed))
            }
            Source::Manual { now } => now.load(Ordering::Relaxed),
        })
    }

    pub fn context(&self) -> Context {
        Context { now: self.now() }
    }

    /// Follows the database's clock, as a heartbeat saw it.
    pub fn correct(&self, database_now: Timestamp) {
        if let Source::Wall { offset_micros } = &self.source {
            offset_micros.store(database_now.as_micros().saturating_sub(host::clock::now_micros()), Ordering::Relaxed);
        }
    }

    /// Moves a manual clock; the wall clock cannot be moved.
    pub fn advance(&self, span: std::time::Duration) {
        if let Source::Manual { now } = &self.source {
            now.fetch_add(i64::try_from(span.as_micros()).unwrap_or(i64::MAX), Ordering::Relaxed);
        }
    }
}
