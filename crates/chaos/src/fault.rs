//! What a fault is: a name, what it injects, how often, on what, and two kinds of runs. The sound run drives the product
//! and must find nothing; each control drives something with one flaw through the same checks, and they must find that.
//!
//! A fault is one module under `faults/` with one constant of type [`Fault`] in the list [`crate::faults::ALL`].

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use futures_util::future::BoxFuture;
use testkit::random::Random;

use crate::{
    need::Need,
    violation::{Kind, Violation},
};

#[derive(Clone, Copy, Debug)]
pub struct Fault {
    pub name: &'static str,
    /// One sentence.
    pub injects: &'static str,
    pub on: &'static [On],
    pub weight: Weight,
    pub needs: &'static [Need],
    /// Drives the product; a violation is a promise that it broke.
    pub run: Run,
    pub controls: &'static [Control],
}

pub type Run = fn(Setting) -> BoxFuture<'static, Result<Outcome>>;

/// What a fault is injected into, and how often.
#[derive(Clone, Copy, Debug)]
pub struct On {
    pub backend: Backend,
    pub quick: u64,
    pub long: u64,
    /// Seconds after which the quick gate injects no more.
    pub budget: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Backend {
    Sqlite,
    Postgres,
    /// The fault has nothing to do with a database of ours.
    Neither,
}

/// How much of a machine of two cores a fault takes. Light ones run side by side, three at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// Waits more than it works.
    Light,
    Heavy,
}

/// The same injection and the same checks against something that is known to be good or bad.
#[derive(Clone, Copy, Debug)]
pub struct Control {
    pub name: &'static str,
    pub expects: Expects,
    pub run: Run,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expects {
    /// Nothing may be found: the checks do not cry wolf.
    Nothing,
    /// A violation of this kind, whatever else is found.
    A(Kind),
    /// One of each of these kinds, whatever else is found.
    Each(&'static [Kind]),
}

/// What a run is given.
#[derive(Clone, Debug)]
pub struct Setting {
    pub backend: Backend,
    /// How many injections.
    pub wanted: u64,
    /// When to inject no more, done or not; `None` in the long gate.
    pub budget: Option<Duration>,
    pub random: Random,
    pub seed: u64,
    /// An empty directory of its own, removed afterwards when all went well.
    pub dir: PathBuf,
    pub programs: Arc<Programs>,
    /// The shared server; it is there where the backend is PostgreSQL.
    pub postgres: Option<String>,
    /// Do without network namespaces.
    pub on_loopback: bool,
    pub keep: bool,
    pub verbose: bool,
    /// Says whose talk it is.
    pub name: String,
}

/// Copies of the programs, so that what cargo replaces meanwhile does not change what is tested.
#[derive(Debug)]
pub struct Programs {
    /// `pilothouse`
    pub product: PathBuf,
    /// This program, for controls that are processes of their own.
    pub chaos: PathBuf,
}

/// What a run did and found.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Injections.
    pub done: u64,
    /// What there is to tell besides, in words for one line.
    pub figures: String,
    /// Why injections are missing, where it is not the budget.
    pub cut: Option<String>,
    pub violations: Vec<Violation>,
}

impl Backend {
    pub fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgres",
            Self::Neither => "-",
        }
    }
}

impl Setting {
    /// The address of the shared server.
    pub fn server(&self) -> Result<&str> {
        self.postgres.as_deref().context("there is no PostgreSQL server to make a database on")
    }

    /// Talk for whoever watches, off unless asked for.
    pub fn tell(&self, line: &str) {
        if self.verbose {
            crate::gate::tell(&format!("chaos: {}: {line}", self.name));
        }
    }

    /// Whether the time for injections is spent.
    pub fn is_spent(&self, since: std::time::Instant) -> bool {
        self.budget.is_some_and(|budget| since.elapsed() >= budget)
    }
}

impl Expects {
    pub fn is_met_by(self, violations: &[Violation]) -> bool {
        match self {
            Self::Nothing => violations.is_empty(),
            Self::A(kind) => Self::has(violations, kind),
            Self::Each(kinds) => kinds.iter().all(|kind| Self::has(violations, *kind)),
        }
    }

    fn has(violations: &[Violation], kind: Kind) -> bool {
        violations.iter().any(|violation| violation.kind == kind)
    }

    /// Of what was found, what was to be.
    pub fn examples(self, violations: &[Violation]) -> Vec<&Violation> {
        let first = |kind| violations.iter().find(move |violation| violation.kind == kind);
        match self {
            Self::Nothing => Vec::new(),
            Self::A(kind) => first(kind).into_iter().collect(),
            Self::Each(kinds) => kinds.iter().filter_map(|kind| first(*kind)).collect(),
        }
    }
}
