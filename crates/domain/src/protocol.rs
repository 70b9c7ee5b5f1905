//! Protocols: streams of coding work, each on a branch of its own.
//!
//! `pending → planning → planned → running → completed`, with `paused`, `blocked`, `failed` and `cancelled`. The
//! aggregate is the head with its steps and gates. Work is done by tasks that come back with commands carrying the
//! fence of their attempt; a branch moves only after the ledger accepted what it moves to, and the next step starts
//! only once it has moved. Start at [`Protocol::decide`].

mod create;
mod decide;
mod steering;
mod event;
mod apply;
mod fall_back;
mod gates;
mod questions;
mod work;

use serde::{Deserialize, Serialize};

pub use self::{
    create::{Advance, NewProtocol, NewStep, is_protocol_name},
    event::ProtocolEvent,
    fall_back::FallBack,
    questions::{MAX_QUESTIONS, PermissionQuestion},
};
use crate::{
    attempt::{Attempt, Duty, Ending, Fact, Usage},
    commit::{Subject, SubjectKind},
    gate::{Answer, Gate, GateError},
    ids::{AttemptId, Fence, GateId, PersonId, ProjectId, ProtocolId, StepId, TaskId},
    person::Person,
    run::Begin,
    spec::{SpecProblem, StepSpec},
    step::{BlockedOn, DiffStat, Failure, Step},
    task::TaskKind,
    time::Timestamp,
};

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Protocol {
    pub id: ProtocolId,
    pub project: ProjectId,
    /// `NNNN-slug`; also its branch and its folder.
    pub name: String,
    pub base_branch: String,
    pub description: Option<String>,
    pub advance: Advance,
    /// Kept and shown as they were given.
    pub template_config: Option<serde_json::Value>,
    pub template_source: Option<serde_json::Value>,
    pub created_by: Option<PersonId>,
    /// How whoever asked for it is shown.
    pub requester: String,
    pub created_at: Timestamp,
    pub spec: Option<SpecRef>,
    pub plan: PlanState,
    /// The latest attempt at planning.
    pub attempt: Option<Attempt>,
    /// The engines that could not be had for the planning that is asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tried: Vec<String>,
    pub branch: Branch,
    pub counts: Counts,
    pub state: ProtocolState,
    #[serde(skip)]
    pub steps: Vec<Step>,
    #[serde(skip)]
    pub gates: Vec<Gate>,
}

/// The spec that drives a protocol. A protocol without one yet gets its own from planning; it never changes after that.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpecRef {
    pub document: serde_json::Value,
    /// Short, as inherited.
    pub hash: String,
    /// SHA-256 over its canonical JSON, hex.
    pub digest: String,
    pub validated_at: Timestamp,
}

/// How far planning got.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "stage", rename_all = "snake_case")]
pub enum PlanState {
    None,
    Queued,
    /// `Protocol::attempt` is under way.
    Working,
    /// The plan was accepted; the branch is about to be made from it.
    Integrating {
        old: Option<String>,
        new: String,
    },
    Ready,
}

/// Where the protocol's branch is, as the ledger knows it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Branch {
    /// `None`: not made yet.
    pub tip: Option<String>,
    /// The commit of the base branch it was made from.
    pub base: Option<String>,
    /// From base to tip.
    pub diff: DiffStat,
}

/// Steps by where they are, so that no rule has to look at all of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    pub total: u32,
    /// Completed, skipped or cancelled.
    pub done: u32,
    /// Something is being done for them.
    pub active: u32,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum ProtocolState {
    Pending,
    Planning,
    Planned,
    Running,
    /// Goes on from there.
    Paused {
        from: Box<ProtocolState>,
    },
    /// Recoverable.
    Blocked {
        on: BlockedOn,
    },
    Failed {
        reason: String,
        at: Timestamp,
    },
    Cancelled {
        by: String,
        at: Timestamp,
    },
    Completed {
        at: Timestamp,
    },
}

/// What may be asked of a protocol. `gate` is an id for a gate, in case one has to be opened.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ProtocolCommand {
    AddStep {
        step: Box<NewStep>,
    },
    /// Plan it; once planned, begin.
    Start {
        gate: GateId,
    },
    /// A worker begins to plan.
    BeginPlan {
        begin: Begin,
        engine: String,
    },
    AdoptPlan {
        old: Fence,
        fence: Fence,
        worker: String,
        /// The engine session that goes on, when the processes were gone.
        session: Option<String>,
    },
    PlanReady {
        fence: Fence,
        plan: Box<PlanReady>,
    },
    PlanFailed {
        fence: Fence,
        failure: Failure,
        end: Ended,
        /// Another engine is to plan.
        fall_back: Option<FallBack>,
    },
    /// The planner is gone or was told to stop; planning changes nothing outside, so that it just starts again.
    PlanInterrupted {
        fence: Fence,
        why: String,
    },
    RunNextStep {
        gate: GateId,
    },
    RetryLatest {
        gate: GateId,
    },
    RunStep {
        step: StepId,
        gate: GateId,
    },
    /// A worker begins to execute.
    StartStep {
        step: StepId,
        begin: Begin,
        engine: String,
        gate: GateId,
    },
    /// A worker took an attempt over, whichever phase it is in.
    AdoptStep {
        step: StepId,
        old: Fence,
        fence: Fence,
        worker: String,
        /// The engine session that goes on, when the processes were gone.
        session: Option<String>,
    },
    /// Something was learnt of an attempt under way; without a step it is the planning.
    TellAttempt {
        step: Option<StepId>,
        fence: Fence,
        fact: Fact,
    },
    /// `gate`: an id in case one has to be asked before another engine executes.
    StepExecuted {
        step: StepId,
        fence: Fence,
        result: Box<Executed>,
        gate: GateId,
    },
    /// The attempt's processes are gone and nobody knows how far they got.
    StepInterrupted {
        step: StepId,
        fence: Fence,
        why: String,
        gate: GateId,
    },
    /// The attempt was stopped because nobody wanted it any more; its processes are gone.
    StepStopped {
        step: StepId,
        fence: Fence,
        gate: GateId,
    },
    /// The engine of an attempt that is under way asks whether it may; without a step it is the planning.
    AskPermission {
        step: Option<StepId>,
        fence: Fence,
        question: Box<PermissionQuestion>,
        gate: GateId,
    },
    /// What the engine of an attempt asked is no longer waited for.
    DropQuestions {
        step: Option<StepId>,
        fence: Fence,
    },
    RunQa {
        step: StepId,
    },
    /// A worker begins to check. `engine`: who reviews, or `checks` where commands judge alone.
    QaStarted {
        step: StepId,
        begin: Begin,
        engine: String,
    },
    QaFinished {
        step: StepId,
        fence: Fence,
        report: Box<QaReport>,
    },
    ApproveStep {
        step: StepId,
        by: Person,
        account: String,
        reason: Option<String>,
        gate: GateId,
    },
    /// `gate`: `None` is the gate that is open. `next`: an id in case another has to be opened.
    AnswerGate {
        gate: Option<GateId>,
        answer: Answer,
        next: GateId,
    },
    ExpireGate {
        gate: GateId,
    },
    Pause {
        by: String,
    },
    Resume {
        gate: GateId,
    },
    Cancel {
        by: String,
    },
    /// The branch is where the ledger wanted it.
    BranchAdvanced {
        step: Option<StepId>,
        new: String,
        diff: DiffStat,
        gate: GateId,
    },
    /// The branch was found somewhere else; nothing was moved.
    BranchMoved {
        step: Option<StepId>,
        new: String,
        found: Option<String>,
    },
    /// The queue gave a task up; `stop`: one that had been told to stop.
    TaskDead {
        kind: TaskKind,
        task: TaskId,
        stop: bool,
        step: Option<StepId>,
        why: String,
    },
}

/// A plan that was written, checked and committed, but not put on the branch yet.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct PlanReady {
    pub spec: SpecRef,
    /// With the ids drawn for them, in order. Empty when the protocol has its steps already.
    pub steps: Vec<PlannedStep>,
    /// The commit of the base branch that the plan was made on.
    pub base: String,
    pub commit: String,
    pub end: Ended,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedStep {
    pub id: StepId,
    pub spec: StepSpec,
}

/// How an attempt ended.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ended {
    pub ending: Ending,
    pub summary: String,
    pub exit_code: Option<i32>,
    pub usage: Option<Usage>,
}

/// What an execution came to.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Executed {
    pub end: Ended,
    /// Why it failed, when it failed.
    pub failure: Option<Failure>,
    /// What it made, when it succeeded.
    pub candidate: Option<crate::step::Candidate>,
    /// Another engine is to execute, when it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fall_back: Option<FallBack>,
}

/// What checking a result came to.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QaReport {
    pub verdict: QaVerdict,
    pub findings: Vec<Finding>,
    /// The candidate with the report and the log in it; what the branch moves to when it passes.
    pub commit: Option<String>,
    pub end: Ended,
    /// Another engine is to review, when the reviewer could not be had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fall_back: Option<FallBack>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QaVerdict {
    Pass,
    Fail,
    /// Nothing could be judged: no check, or one that could not run.
    Inconclusive,
}

/// One check and what it said.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Finding {
    /// The command, as people would type it, or the name of a built-in check.
    pub check: String,
    pub verdict: QaVerdict,
    pub exit_code: Option<i32>,
    /// A sentence, or the end of what it printed.
    pub detail: String,
    pub duration_ms: u64,
}

/// Why a protocol refused a command. Every variant is the caller's to fix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    #[error("protocol {protocol} is {state} and cannot be {wanted}")]
    WrongState { protocol: ProtocolId, state: &'static str, wanted: &'static str },
    #[error("step {step} is {state} and cannot be {wanted}")]
    StepWrongState { step: StepId, state: &'static str, wanted: &'static str },
    #[error("protocol {protocol} has no step {step}")]
    NoSuchStep { protocol: ProtocolId, step: StepId },
    #[error("protocol {protocol} has no gate {}", gate.as_ref().map_or("open", |gate| gate.as_str()))]
    NoSuchGate { protocol: ProtocolId, gate: Option<GateId> },
    #[error("No pending or failed steps to run")]
    NoStepToRun { protocol: ProtocolId },
    #[error("No failed or blocked steps to retry")]
    NoStepToRetry { protocol: ProtocolId },
    #[error("step {busy} of protocol {protocol} is still {state}")]
    Busy { protocol: ProtocolId, busy: StepId, state: &'static str },
    #[error("step {step} waits for {unmet} step(s) before it")]
    Unmet { step: StepId, unmet: u32 },
    #[error("step {step} waits for gate {gate}: answer it first")]
    WaitsForGate { step: StepId, gate: GateId },
    #[error("attempt {attempt} has asked {asked} questions; no more are put to people")]
    TooManyQuestions { attempt: AttemptId, asked: usize },
    #[error("step {step} has no result that could be checked")]
    NothingToCheck { step: StepId },
    #[error("only people approve, and {person} is not an active person")]
    NotAPerson { person: String },
    #[error("the attempt of protocol {protocol} was taken over")]
    Fenced { protocol: ProtocolId },
    #[error("protocol {protocol} already has a step with index {index}")]
    IndexTaken { protocol: ProtocolId, index: u32 },
    #[error("{}", problems.iter().map(|problem| format!("{}: {}", problem.path, problem.message)).collect::<Vec<_>>().join("; "))]
    Invalid { problems: Vec<SpecProblem> },
    #[error(transparent)]
    Gate(#[from] GateError),
}

/// `(from, event, to)` for every transition there is.
pub const TRANSITIONS: &[(&str, &str, &str)] = &[
    ("", "protocol_created", "pending"),
    ("pending", "planning_enqueued", "planning"),
    ("pending", "running", "running"),
    ("planning", "planned", "planned"),
    ("planning", "protocol_blocked", "blocked"),
    ("planned", "running", "running"),
    ("running", "protocol_blocked", "blocked"),
    ("running", "protocol_completed", "completed"),
    ("blocked", "planning_enqueued", "planning"),
    ("blocked", "running", "running"),
    ("blocked", "protocol_blocked", "blocked"),
    ("pending", "paused", "paused"),
    ("planning", "paused", "paused"),
    ("planned", "paused", "paused"),
    ("running", "paused", "paused"),
    ("blocked", "paused", "paused"),
    ("paused", "resumed", "pending"),
    ("paused", "resumed", "planning"),
    ("paused", "resumed", "planned"),
    ("paused", "resumed", "running"),
    ("paused", "resumed", "blocked"),
    ("pending", "cancelled", "cancelled"),
    ("planning", "cancelled", "cancelled"),
    ("planned", "cancelled", "cancelled"),
    ("running", "cancelled", "cancelled"),
    ("paused", "cancelled", "cancelled"),
    ("blocked", "cancelled", "cancelled"),
];

impl ProtocolState {
    pub const NAMES: [&str; 9] =
        ["pending", "planning", "planned", "running", "paused", "blocked", "failed", "cancelled", "completed"];

    pub fn name(&self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Planning => "planning",
            Self::Planned => "planned",
            Self::Running => "running",
            Self::Paused { .. } => "paused",
            Self::Blocked { .. } => "blocked",
            Self::Failed { .. } => "failed",
            Self::Cancelled { .. } => "cancelled",
            Self::Completed { .. } => "completed",
        }
    }

    pub fn is_finished(&self) -> bool {
        match self {
            Self::Failed { .. } | Self::Cancelled { .. } | Self::Completed { .. } => true,
            Self::Pending
            | Self::Planning
            | Self::Planned
            | Self::Running
            | Self::Paused { .. }
            | Self::Blocked { .. } => false,
        }
    }
}

impl Protocol {
    pub fn subject(&self) -> Subject {
        Subject::new(SubjectKind::Protocol, &self.id)
    }

    pub fn step(&self, id: StepId) -> Option<&Step> {
        self.steps.iter().find(|step| step.id == id)
    }

    pub fn gate(&self, id: &GateId) -> Option<&Gate> {
        self.gates.iter().find(|gate| gate.id == *id)
    }

    /// The gate that waits for an answer, if one does.
    pub fn open_gate(&self) -> Option<&Gate> {
        self.gates.iter().rev().find(|gate| gate.is_open())
    }

    /// `NNNN`, as commit subjects show it.
    pub fn number(&self) -> &str {
        self.name.split('-').next().unwrap_or(&self.name)
    }

    /// Where the protocol's files lie in the repository.
    pub fn folder(&self) -> String {
        format!(".protocols/{}", self.name)
    }

    /// What a planning task of this protocol is to do, just leased.
    pub fn planning_duty(&self, task: &TaskId, stop: bool) -> Duty {
        let asked = self.state == ProtocolState::Planning && self.plan == PlanState::Queued;
        Duty::of(task, stop, asked, self.attempt.as_ref())
    }

    /// The tasks whose attempts are under way.
    fn begun(&self) -> Vec<TaskId> {
        let steps = self.steps.iter().filter_map(Step::running);
        self.planning().into_iter().chain(steps).map(|attempt| attempt.task.clone()).collect()
    }

    /// The attempt at planning that is under way.
    pub fn planning(&self) -> Option<&Attempt> {
        self.attempt.as_ref().filter(|attempt| attempt.is_running())
    }
}

#[cfg(test)]
mod tests;
