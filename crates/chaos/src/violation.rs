//! What a check finds when a promise was broken.

use std::fmt;

/// Which promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Something acknowledged is not there.
    Lost,
    /// What follows from an event was not stored with it.
    Effect,
    /// A write by whom the lease was taken from.
    StaleWriter,
    /// Events and rows disagree.
    Fold,
    Transition,
    Attempts,
    /// Done more often than it may be.
    Repeated,
    /// Executed without being in the ledger, or in the ledger without having been executed.
    Unrecorded,
    Integrity,
    Orphan,
    /// Does not come to rest.
    Stuck,
    /// An answer that no node may give.
    Answer,
    /// A process that does not start, ends by itself or does not stop.
    Process,
    /// Goes on, and not in time.
    Late,
    /// The injection changed nothing, so that nothing is proven.
    Missed,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub kind: Kind,
    pub run: Option<String>,
    pub what: String,
}

impl Violation {
    /// One that no single run shows.
    pub fn of(kind: Kind, what: impl Into<String>) -> Self {
        Self { kind, run: None, what: what.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.run {
            Some(run) => write!(f, "{:?}: run {run}: {}", self.kind, self.what),
            None => write!(f, "{:?}: {}", self.kind, self.what),
        }
    }
}
