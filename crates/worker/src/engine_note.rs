//! What a worker has to remember of an attempt's engine from one run of it to the next, in the attempt's directory.
//!
//! An attempt may need several runs of its engine: gone on with after a crash or a limit, corrected once. What the runs
//! before left lies in `before-1`, `before-2` …; all of them together are what the attempt said and used.

use std::path::{Path, PathBuf};

use engines::runs::{self, MAX_RUNS, NOTE};
use serde::{Deserialize, Serialize};

use crate::failure::Failure;

const MAX_FILE: u64 = 64 * 1024;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Note {
    /// For each run before this one whether the run after it went on with its session.
    pub(crate) resumed: Vec<bool>,
    /// The session's name, where it was chosen before the start.
    pub(crate) session: Option<String>,
    /// The latest run ended in something that passes by itself: the next claim tries again.
    pub(crate) waits: bool,
    /// Its answer was given back for correction.
    pub(crate) corrected: bool,
}

impl Note {
    /// What is remembered of an attempt; nothing when it has not run.
    pub(crate) fn read(dir: &Path) -> Result<Self, Failure> {
        match host::fs::read(&dir.join(NOTE), MAX_FILE) {
            // A note that is not understood was not written by us; whatever it would have allowed is not done.
            Ok(bytes) => Ok(serde_json::from_slice(&bytes)
                .unwrap_or_else(|_| Self { resumed: vec![false; MAX_RUNS], ..Self::default() })),
            Err(error) if error.is_not_found() => Ok(Self::default()),
            Err(error) => Err(Failure::retry(error)),
        }
    }

    pub(crate) fn write(&self, dir: &Path) -> Result<(), Failure> {
        let text = serde_json::to_vec(self).map_err(Failure::give_up)?;
        host::fs::create_private_dir(dir).map_err(Failure::retry)?;
        host::fs::write_atomic(&dir.join(NOTE), &text).map_err(Failure::retry)
    }

    /// Where the output of the runs before this one lies, in their order.
    pub(crate) fn before(&self, dir: &Path) -> Vec<PathBuf> {
        (1..=self.resumed.len().min(MAX_RUNS)).map(|run| dir.join(runs::name_of(run))).collect()
    }

    /// Whether another run may begin.
    pub(crate) fn may_go_on(&self) -> bool {
        self.resumed.len() < MAX_RUNS
    }
}
