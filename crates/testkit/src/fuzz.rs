//! Inputs that nobody thought of, from a seed: recorded ones cut up, put together anew and spoilt where it hurts.
//!
//! [`Fuzz`] counts the runs and says how a failure is seen again; [`json`] spoils streams of JSON lines by their grammar,
//! [`text`] anything else by its words. It runs on the stable compiler within the ordinary tests. The seed is the same in
//! every run unless `SEED` names another (`SEED=random` draws one), so that what fails belongs to a change; `RUNS`
//! is how many percent of the usual work is done: `RUNS=10000` for a long gate.

pub mod json;
pub mod text;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use crate::random::Random;

/// The variable that names the seed, and the one that says how much is done.
const SEED: &str = "SEED";
const RUNS: &str = "RUNS";
const USUAL: u64 = 20_261_121;

/// So many inputs for one parser.
#[derive(Debug)]
pub struct Fuzz {
    name: &'static str,
    seed: u64,
    n_runs: u64,
}

impl Fuzz {
    /// So many runs, from the seed that the environment names.
    pub fn new(name: &'static str, n_runs: u64) -> Self {
        let seed = match host::env::var(SEED).as_deref() {
            None | Some("") => USUAL,
            Some("random") => host::random::u64(),
            Some(text) => text.parse().expect("SEED is a number, or `random`"),
        };
        let percent = host::env::var(RUNS).map_or(100, |text| text.parse().expect("RUNS is a number of percents"));
        Self { name, seed, n_runs: n_runs * percent / 100 }
    }

    /// Puts one input after another to `check`, which draws it into the buffer and panics when something is wrong.
    pub fn run(&self, mut check: impl FnMut(&mut Random, &mut Vec<u8>)) {
        eprintln!("fuzz {}: {} runs of seed {}", self.name, self.n_runs, self.seed);
        let mut input = Vec::new();
        for run in 0..self.n_runs {
            let mut random = Random::new(self.seed).fork(run);
            input.clear();
            let checked = catch_unwind(AssertUnwindSafe(|| check(&mut random, &mut input)));
            if let Err(panic) = checked {
                let shown = String::from_utf8_lossy(&input);
                eprintln!(
                    "fuzz {}: run {run} failed; SEED={} shows it again. Its input: {shown:?}",
                    self.name, self.seed
                );
                resume_unwind(panic);
            }
        }
    }
}

#[cfg(test)]
mod tests;
