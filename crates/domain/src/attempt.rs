//! Attempts: numbered tries at a run or a step. Continuing under a new fence is the same attempt; a retry is a new one.

use serde::{Deserialize, Serialize};

use crate::{
    ids::{AttemptId, Fence},
    time::Timestamp,
};

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attempt {
    pub id: AttemptId,
    /// `run:7Q4K2MA` or `step:12`.
    pub subject: String,
    /// From 1.
    pub number: u32,
    /// What the attempt is for: `run`, `plan`, `execute`, `qa`.
    pub phase: String,
    pub engine: String,
    /// The fence of the latest claim that carries this attempt.
    pub fence: Fence,
    /// The worker of the latest claim.
    pub worker: String,
    /// Proves to the supervisor that whoever adopts the attempt read the ledger.
    pub nonce: String,
    pub started_at: Timestamp,
    pub state: AttemptState,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum AttemptState {
    Running,
    Ended { ending: Ending, at: Timestamp, summary: String, exit_code: Option<i32>, usage: Option<Usage> },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    Succeeded,
    Failed,
    TimedOut,
    Canceled,
    /// Cut off by the death of its worker or supervisor; its effects are not known.
    Interrupted,
}

impl Ending {
    pub fn name(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
            Self::Canceled => "canceled",
            Self::Interrupted => "interrupted",
        }
    }
}

/// What an engine said it used. What it did not say is unknown, never zero.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Usage {
    pub input_tokens: Option<u64>,
    pub cached_tokens: Option<u64>,
    pub output_tokens: Option<u64>,
    /// Micro-USD.
    pub cost_micro_usd: Option<i64>,
}

impl Attempt {
    pub fn status(&self) -> &'static str {
        match &self.state {
            AttemptState::Running => "running",
            AttemptState::Ended { ending, .. } => ending.name(),
        }
    }

    pub fn is_running(&self) -> bool {
        matches!(self.state, AttemptState::Running)
    }
}
