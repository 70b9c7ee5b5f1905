//! Steps: the parts of a protocol, each carried out by an engine and checked.
//!
//! `pending → running → needs_qa → completed`, with `failed`, `blocked`, `skipped`, `timed_out` and `cancelled`. A step
//! has no rules of its own: its protocol decides, because what happens to one step decides about the others.

use serde::{Deserialize, Serialize};

use crate::{
    attempt::{Attempt, Duty},
    ids::{GateId, ProtocolId, StepId, TaskId},
    spec::{StepSpec, StepType},
    task::TaskKind,
    time::Timestamp,
};

/// A step that was cut off this often in a row waits for somebody to look.
pub const MAX_INTERRUPTIONS: u32 = 3;

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    pub id: StepId,
    pub protocol: ProtocolId,
    /// Its place among the protocol's steps, from 0.
    pub index: u32,
    pub spec: StepSpec,
    pub depends_on: Vec<StepId>,
    /// The steps that wait for this one.
    pub dependents: Vec<StepId>,
    /// How many of `depends_on` are not completed yet.
    pub unmet: u32,
    pub retries: u32,
    /// How often in a row an attempt was cut off.
    pub interruptions: u32,
    pub summary: Option<String>,
    /// The latest attempt, for whichever phase.
    pub attempt: Option<Attempt>,
    /// The engines that could not be had for the execution or the review that is asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tried: Vec<String>,
    /// The digest that people approved for its start.
    pub approved: Option<String>,
    pub state: StepState,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum StepState {
    Pending,
    Running {
        work: Work,
    },
    /// There is a result that was not accepted yet.
    NeedsQa {
        candidate: Candidate,
        review: Review,
    },
    Completed {
        by: String,
        reason: Option<String>,
        commit: Option<String>,
        at: Timestamp,
    },
    Failed {
        failure: Failure,
        candidate: Option<Candidate>,
        at: Timestamp,
    },
    Blocked {
        on: BlockedOn,
        candidate: Option<Candidate>,
    },
    Skipped {
        reason: String,
    },
    TimedOut {
        summary: String,
        at: Timestamp,
    },
    Cancelled {
        at: Timestamp,
    },
}

/// How far a running step got.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "stage", rename_all = "snake_case")]
pub enum Work {
    /// A task will start it.
    Queued,
    /// `Step::attempt` is under way.
    Executing,
    /// The result was accepted; the branch is about to move to it.
    Integrating { integration: Integration },
}

/// How far the judgement of a result got.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Review {
    /// Nothing was asked for yet.
    Waiting,
    Queued,
    /// `Step::attempt` is under way.
    Checking,
}

/// A result: a commit that no branch points to yet.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Candidate {
    /// The commit it was built on.
    pub base: String,
    pub commit: String,
    pub diff: DiffStat,
}

/// How much differs, without the protocol's own files.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiffStat {
    pub files: u32,
    pub insertions: u64,
    pub deletions: u64,
    /// One line for each file, cut to a bound.
    pub lines: Vec<String>,
}

/// A move of the branch that the ledger asks for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Integration {
    /// Where the branch is believed to be; `None` when it does not exist yet.
    pub old: Option<String>,
    pub new: String,
    /// Who accepted the result, as shown.
    pub by: String,
    pub reason: Option<String>,
    pub candidate: Candidate,
}

/// Why something did not succeed: a stable code and a sentence.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Failure {
    pub code: String,
    pub why: String,
}

/// What a blocked step or protocol waits for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum BlockedOn {
    /// An answer.
    Gate { gate: GateId },
    /// Somebody said no, or nobody answered in time.
    Refused { gate: GateId, why: String },
    /// What was tried did not succeed, or could not be judged.
    Failure { failure: Failure },
    /// The branch is somewhere else than the ledger knows.
    Conflict { why: String },
    /// An execution was cut off and may have had effects.
    Interrupted { why: String },
    /// The queue gave the work up: somebody has to look.
    Operator { why: String },
}

impl Step {
    pub fn name(&self) -> &str {
        self.spec.name()
    }

    pub fn step_type(&self) -> StepType {
        self.spec.step_type()
    }

    /// The attempt that is under way.
    pub fn running(&self) -> Option<&Attempt> {
        self.attempt.as_ref().filter(|attempt| attempt.is_running())
    }

    /// What a task of this step is to do, just leased.
    pub fn duty(&self, kind: TaskKind, task: &TaskId, stop: bool) -> Duty {
        let asked = match &self.state {
            StepState::Running { work: Work::Queued } => kind == TaskKind::ExecuteStep,
            StepState::NeedsQa { review: Review::Queued, .. } => kind == TaskKind::RunQuality,
            StepState::Pending
            | StepState::Running { .. }
            | StepState::NeedsQa { .. }
            | StepState::Completed { .. }
            | StepState::Failed { .. }
            | StepState::Blocked { .. }
            | StepState::Skipped { .. }
            | StepState::TimedOut { .. }
            | StepState::Cancelled { .. } => false,
        };
        Duty::of(task, stop, asked, self.attempt.as_ref())
    }

    pub fn next_attempt(&self) -> u32 {
        self.attempt.as_ref().map_or(1, |attempt| attempt.number.saturating_add(1))
    }

    /// The result that waits to be accepted, if there is one.
    pub fn candidate(&self) -> Option<&Candidate> {
        match &self.state {
            StepState::NeedsQa { candidate, .. } => Some(candidate),
            StepState::Failed { candidate, .. } | StepState::Blocked { candidate, .. } => candidate.as_ref(),
            StepState::Running { work: Work::Integrating { integration } } => Some(&integration.candidate),
            StepState::Pending
            | StepState::Running { .. }
            | StepState::Completed { .. }
            | StepState::Skipped { .. }
            | StepState::TimedOut { .. }
            | StepState::Cancelled { .. } => None,
        }
    }

    /// Whether something is being done for this step, or about to be.
    pub fn is_active(&self) -> bool {
        match &self.state {
            StepState::Running { .. } => true,
            StepState::NeedsQa { review, .. } => *review != Review::Waiting,
            StepState::Pending
            | StepState::Completed { .. }
            | StepState::Failed { .. }
            | StepState::Blocked { .. }
            | StepState::Skipped { .. }
            | StepState::TimedOut { .. }
            | StepState::Cancelled { .. } => false,
        }
    }
}

impl StepState {
    pub const NAMES: [&str; 9] =
        ["pending", "running", "needs_qa", "completed", "failed", "blocked", "skipped", "timed_out", "cancelled"];

    pub fn name(&self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running { .. } => "running",
            Self::NeedsQa { .. } => "needs_qa",
            Self::Completed { .. } => "completed",
            Self::Failed { .. } => "failed",
            Self::Blocked { .. } => "blocked",
            Self::Skipped { .. } => "skipped",
            Self::TimedOut { .. } => "timed_out",
            Self::Cancelled { .. } => "cancelled",
        }
    }

    /// Nothing will happen to the step any more.
    pub fn is_terminal(&self) -> bool {
        match self {
            Self::Completed { .. } | Self::Skipped { .. } | Self::Cancelled { .. } => true,
            Self::Pending
            | Self::Running { .. }
            | Self::NeedsQa { .. }
            | Self::Failed { .. }
            | Self::Blocked { .. }
            | Self::TimedOut { .. } => false,
        }
    }
}

impl Failure {
    pub fn new(code: &str, why: impl Into<String>) -> Self {
        Self { code: code.to_owned(), why: why.into() }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.code, self.why)
    }
}

impl std::fmt::Display for BlockedOn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Gate { gate } => write!(f, "waits for gate {gate}"),
            Self::Refused { gate, why } => write!(f, "gate {gate}: {why}"),
            Self::Failure { failure } => failure.fmt(f),
            Self::Conflict { why } | Self::Interrupted { why } | Self::Operator { why } => f.write_str(why),
        }
    }
}

impl std::fmt::Display for DiffStat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let files = if self.files == 1 { "file" } else { "files" };
        write!(f, "{} {files} changed, +{} -{}", self.files, self.insertions, self.deletions)
    }
}

/// `(from, event, to)` for every transition there is.
pub const TRANSITIONS: &[(&str, &str, &str)] = &[
    ("", "plan_accepted", "pending"),
    ("", "step_added", "pending"),
    ("pending", "step_enqueued", "running"),
    ("pending", "step_blocked", "blocked"),
    ("pending", "cancelled", "cancelled"),
    ("running", "step_started", "running"),
    ("running", "attempt_adopted", "running"),
    ("running", "attempt_contained", "running"),
    ("running", "attempt_metered", "running"),
    ("running", "step_executed", "needs_qa"),
    ("running", "step_execution_failed", "failed"),
    ("running", "step_timed_out", "timed_out"),
    ("running", "step_fell_back", "pending"),
    ("running", "step_stopped", "pending"),
    ("running", "step_interrupted", "pending"),
    ("running", "step_blocked", "blocked"),
    ("running", "step_completed", "completed"),
    ("running", "branch_conflict", "blocked"),
    ("running", "paused", "pending"),
    ("running", "cancelled", "cancelled"),
    ("needs_qa", "qa_enqueued", "needs_qa"),
    ("needs_qa", "qa_started", "needs_qa"),
    ("needs_qa", "attempt_adopted", "needs_qa"),
    ("needs_qa", "attempt_contained", "needs_qa"),
    ("needs_qa", "attempt_metered", "needs_qa"),
    ("needs_qa", "qa_interrupted", "needs_qa"),
    ("needs_qa", "qa_fell_back", "needs_qa"),
    ("needs_qa", "integration_enqueued", "running"),
    ("needs_qa", "qa_failed", "failed"),
    ("needs_qa", "step_blocked", "blocked"),
    ("needs_qa", "step_execution_failed", "failed"),
    ("needs_qa", "cancelled", "cancelled"),
    ("failed", "step_enqueued", "running"),
    ("failed", "step_retry_enqueued", "running"),
    ("failed", "step_blocked", "blocked"),
    ("failed", "qa_enqueued", "needs_qa"),
    ("failed", "integration_enqueued", "running"),
    ("failed", "step_completed", "completed"),
    ("failed", "cancelled", "cancelled"),
    ("timed_out", "step_enqueued", "running"),
    ("timed_out", "step_retry_enqueued", "running"),
    ("timed_out", "cancelled", "cancelled"),
    ("blocked", "step_enqueued", "running"),
    ("blocked", "step_retry_enqueued", "running"),
    ("blocked", "step_unblocked", "pending"),
    ("blocked", "step_blocked", "blocked"),
    ("blocked", "qa_enqueued", "needs_qa"),
    ("blocked", "integration_enqueued", "running"),
    ("blocked", "step_completed", "completed"),
    ("blocked", "cancelled", "cancelled"),
];
