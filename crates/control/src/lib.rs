//! One function per command: load, decide, commit.
//!
//! Every command ends here, whether it came from HTTP, the CLI, a chat message, a timer or a worker. The rules are in
//! `domain`, the writing in `store`; what this crate adds is the loop between them, the drawing of ids, and the answers
//! that are kept for repeats. Start at [`ledger`], then at [`runs`].

pub mod clock;
pub mod error;
pub mod ledger;
pub mod catalog;
pub mod people;
pub mod tokens;
mod refs;
pub mod runs;
pub mod gates;
pub mod projects;
pub mod protocols;
mod questions;
pub mod steps;
pub mod spec_check;
pub mod messages;
pub mod inbound;
pub mod patches;
pub mod traced;
mod logs;

use std::path::PathBuf;

use store::Store;

pub use crate::{
    clock::Clock,
    error::CommandError,
    ledger::{Cause, Changed, DedupKey},
};

/// Gives commands. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Control {
    store: Store,
    clock: Clock,
    catalogs: catalog::CatalogCache,
    attempts_dir: Option<PathBuf>,
}

impl Control {
    pub fn new(store: Store, clock: Clock) -> Self {
        Self { store, clock, catalogs: catalog::CatalogCache::default(), attempts_dir: None }
    }

    /// Where attempts print to on this machine, so that a chat can be shown the end of a log.
    #[must_use]
    pub fn with_attempts_dir(mut self, dir: PathBuf) -> Self {
        self.attempts_dir = Some(dir);
        self
    }

    /// For reads; writes go through commands.
    pub fn store(&self) -> &Store {
        &self.store
    }

    pub fn clock(&self) -> &Clock {
        &self.clock
    }
}
