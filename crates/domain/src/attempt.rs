//! Attempts: numbered tries at a run or a step. Continuing under a new fence is the same attempt; a retry is a new one.

use serde::{Deserialize, Serialize};

use crate::{
    ids::{AttemptId, Fence, TaskId},
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
    /// The task that carries it: only this one takes it over, and it is the one that is told to stop.
    pub task: TaskId,
    /// The fence of the latest claim that carries this attempt.
    pub fence: Fence,
    /// The worker of the latest claim.
    pub worker: String,
    /// Proves to the supervisor that whoever adopts the attempt read the ledger.
    pub nonce: String,
    pub started_at: Timestamp,
    /// Absent until its supervisor has said so, and for attempts of which nothing ever ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub containment: Option<Containment>,
    /// What passed between its engine and the model, where a broker stood in between.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metered: Option<Metered>,
    pub state: AttemptState,
}

/// What an attempt's engine used by the wire, and by its own word.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metered {
    pub wire: Usage,
    /// What the engine said; absent when it said nothing.
    pub told: Option<Usage>,
    /// Calls that a model answered.
    pub calls: u32,
    /// Calls of which it is not known what they used.
    pub unmetered: u32,
    /// Calls that were not let out, because the budget was used up.
    pub refused: u32,
}

/// How surely an attempt's processes are ended, and how far they are kept from the machine, as their supervisor said.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Containment {
    /// `namespace`, `cgroup_v2`, `cgroup_v1`, `subreaper` or `process_group`.
    pub level: String,
    /// Absent where they ran in none.
    pub sandbox: Option<SandboxUsed>,
}

/// The sandbox that an attempt's processes ran in.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SandboxUsed {
    /// `read-only`, `workspace` or `full`.
    pub profile: String,
    /// `bubblewrap` or `landlock`.
    pub means: String,
    /// `off`, `endpoints` or `open`.
    pub network: String,
}

/// What a worker learns of an attempt while it is under way.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fact {
    Contained(Containment),
    Metered(Metered),
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

/// What a task that was just leased is to do, from where its subject is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Duty {
    /// What it was stored for has not begun.
    Begin,
    /// Its attempt is under way: continue it, or end it when the task was told to stop.
    TakeOver(Attempt),
    /// Its attempt is over in the ledger; whatever still runs of it has to go.
    CleanUp(Attempt),
    /// There is nothing left to do, or another task does it by now.
    Nothing,
}

impl Duty {
    /// `asked`: an attempt of the task's kind is asked for and has not begun; `latest`: the latest attempt there is.
    ///
    /// A task that was told to stop begins nothing: what it was stored for was taken back when it was told, and whoever
    /// asked for it again since has stored another task.
    pub fn of(task: &TaskId, stop: bool, asked: bool, latest: Option<&Attempt>) -> Self {
        match latest {
            Some(own) if own.task == *task && own.is_running() => Self::TakeOver(own.clone()),
            Some(own) if own.task == *task => Self::CleanUp(own.clone()),
            Some(_) | None if asked && !stop => Self::Begin,
            Some(_) | None => Self::Nothing,
        }
    }
}

/// What an engine said it used. What it did not say is unknown, never zero.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Usage {
    /// All that was read, what came from a cache or went into one included.
    pub input_tokens: Option<u64>,
    pub cached_tokens: Option<u64>,
    pub cache_write_tokens: Option<u64>,
    /// All that was written, what was thought included.
    pub output_tokens: Option<u64>,
    pub reasoning_tokens: Option<u64>,
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

    /// Whether this is known of it already.
    pub fn knows(&self, fact: &Fact) -> bool {
        match fact {
            Fact::Contained(containment) => self.containment.as_ref() == Some(containment),
            Fact::Metered(metered) => self.metered.as_ref() == Some(metered),
        }
    }

    pub(crate) fn learn(&mut self, fact: &Fact) {
        match fact {
            Fact::Contained(containment) => self.containment = Some(containment.clone()),
            Fact::Metered(metered) => self.metered = Some(metered.clone()),
        }
    }
}

impl Fact {
    /// The event by which a protocol's timeline tells it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Contained(_) => "attempt_contained",
            Self::Metered(_) => "attempt_metered",
        }
    }

    /// The same on a run's timeline.
    pub fn run_name(&self) -> &'static str {
        match self {
            Self::Contained(_) => "ExecutionContained",
            Self::Metered(_) => "ExecutionMetered",
        }
    }
}
