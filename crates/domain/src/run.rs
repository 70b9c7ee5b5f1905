//! Runs: executions of catalogued jobs.
//!
//! `AwaitingApproval → Dispatching → Running → Succeeded | Failed`, with `Denied`, `Expired`, `Blocked`, `TimedOut` and
//! `Canceled`. A run whose job says `approve = "none"` starts at `Dispatching`. The command is fixed when the run is
//! asked for: what was approved, by digest, is what runs. Start at [`Run::decide`].

mod decide;
mod event;

use serde::{Deserialize, Serialize};

pub use self::{
    decide::{API_CHANNEL, Requested, RunRequest},
    event::RunEvent,
};
use crate::{
    attempt::{Attempt, Duty, Ending, Fact, Usage},
    catalog::BoundJob,
    commit::{Subject, SubjectKind},
    gate::{Answer, Gate, GateError},
    ids::{Fence, GateId, PersonId, RunId, TaskId},
    time::Timestamp,
};

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    pub id: RunId,
    /// Exactly what will run and under which policy.
    pub job: BoundJob,
    /// Digest of `job`, hex.
    pub digest: String,
    pub requested_by: PersonId,
    /// The account the request came from, such as `dev:alice`.
    pub requester: String,
    pub reason: Option<String>,
    pub channel: String,
    pub conversation: String,
    pub created_at: Timestamp,
    pub state: RunState,
    /// The latest attempt.
    pub attempt: Option<Attempt>,
    /// Who asked to stop the attempt that is under way.
    pub cancel_requested_by: Option<String>,
    #[serde(skip)]
    pub gates: Vec<Gate>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "status")]
pub enum RunState {
    /// Nothing happened yet: only while a run is being folded from its events.
    Requested,
    AwaitingApproval {
        gate: GateId,
    },
    /// A task will start attempt `attempt`.
    Dispatching {
        attempt: u32,
    },
    /// `Run::attempt` is under way.
    Running,
    Succeeded {
        summary: String,
        at: Timestamp,
    },
    Failed {
        summary: String,
        at: Timestamp,
    },
    TimedOut {
        summary: String,
        at: Timestamp,
    },
    Denied {
        by: PersonId,
        account: String,
        reason: Option<String>,
        at: Timestamp,
    },
    Expired {
        at: Timestamp,
    },
    Blocked {
        on: BlockedOn,
        why: String,
    },
    Canceled {
        by: String,
        at: Timestamp,
    },
}

/// What a blocked run waits for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum BlockedOn {
    /// An answer.
    Gate { gate: GateId },
    /// Somebody who looks: what was approved is no longer what would run, or the worker could not carry it out.
    Operator,
}

/// What may be asked of a run.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum RunCommand {
    Answer {
        /// `None`: the gate that is open.
        gate: Option<GateId>,
        answer: Answer,
    },
    /// The deadline of a gate passed.
    ExpireGate {
        gate: GateId,
    },
    /// The catalog changed while the run waited: `job` is what the same request means now, `None` when it means
    /// nothing any more. `gate` is the id for a new gate.
    Rebind {
        job: Option<Box<BoundJob>>,
        gate: GateId,
    },
    /// A worker begins. `now_digest` is the digest of what the request means in the catalog at this moment.
    Start {
        begin: Begin,
        now_digest: Option<String>,
    },
    /// A worker took the attempt over, under a new fence.
    Adopt {
        old: Fence,
        fence: Fence,
        worker: String,
    },
    /// Something was learnt of the attempt under way.
    Tell {
        fence: Fence,
        fact: Fact,
    },
    /// The attempt under this fence ended. `gate` is the id for a gate, should its end have to be asked about.
    Finish {
        fence: Fence,
        worker: String,
        result: Finished,
        gate: GateId,
    },
    /// The attempt's processes are gone and nobody knows how far they got; `began` is false when it is certain that none
    /// ever started. `gate` is the id for a gate that asks.
    Interrupt {
        worker: String,
        began: bool,
        gate: GateId,
    },
    /// The task was given up by the queue.
    GiveUp {
        worker: String,
        why: String,
    },
    Cancel {
        account: String,
    },
    /// Try a failed run again, as a new attempt of the same command.
    Retry {
        account: String,
        gate: GateId,
    },
}

/// The begin of an attempt.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Begin {
    /// The task that carries the attempt.
    pub task: TaskId,
    pub fence: Fence,
    pub worker: String,
    pub nonce: String,
}

/// How an attempt ended.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Finished {
    pub ending: Ending,
    pub summary: String,
    pub exit_code: Option<i32>,
    pub usage: Option<Usage>,
}

/// Why a run refused a command. Every variant is the caller's to fix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RunError {
    #[error("run {run} is {state} and cannot be {wanted}")]
    WrongState { run: RunId, state: &'static str, wanted: &'static str },
    #[error(transparent)]
    Gate(#[from] GateError),
    #[error("run {run} has no gate {gate}")]
    NoSuchGate { run: RunId, gate: GateId },
    #[error("the attempt of run {run} was taken over")]
    Fenced { run: RunId },
}

/// `(from, event, to)` for every transition there is.
pub const TRANSITIONS: &[(&str, &str, &str)] = &[
    ("", "ApprovalRequested", "AwaitingApproval"),
    ("", "ExecutionDispatched", "Dispatching"),
    ("AwaitingApproval", "ApprovalRequested", "AwaitingApproval"),
    ("AwaitingApproval", "ExecutionDispatched", "Dispatching"),
    ("AwaitingApproval", "RunDenied", "Denied"),
    ("AwaitingApproval", "RunExpired", "Expired"),
    ("AwaitingApproval", "ExecutionBlocked", "Blocked"),
    ("AwaitingApproval", "RunCanceled", "Canceled"),
    ("Dispatching", "ExecutionStarted", "Running"),
    ("Dispatching", "ExecutionBlocked", "Blocked"),
    ("Dispatching", "RunCanceled", "Canceled"),
    ("Running", "ExecutionAdopted", "Running"),
    ("Running", "ExecutionContained", "Running"),
    ("Running", "ExecutionMetered", "Running"),
    ("Running", "CancelRequested", "Running"),
    ("Running", "ExecutionSucceeded", "Succeeded"),
    ("Running", "ExecutionFailed", "Failed"),
    ("Running", "ExecutionTimedOut", "TimedOut"),
    ("Running", "ExecutionInterrupted", "Running"),
    ("Running", "ExecutionBlocked", "Blocked"),
    ("Running", "ExecutionDispatched", "Dispatching"),
    ("Running", "RunCanceled", "Canceled"),
    ("Failed", "ExecutionDispatched", "Dispatching"),
    ("Failed", "ApprovalRequested", "AwaitingApproval"),
    ("TimedOut", "ExecutionDispatched", "Dispatching"),
    ("TimedOut", "ApprovalRequested", "AwaitingApproval"),
    ("Blocked", "ExecutionDispatched", "Dispatching"),
    ("Blocked", "ApprovalRequested", "AwaitingApproval"),
    ("Blocked", "RunDenied", "Denied"),
    ("Blocked", "RunExpired", "Expired"),
    ("Blocked", "RunCanceled", "Canceled"),
];

impl RunState {
    pub const NAMES: [&str; 10] = [
        "AwaitingApproval",
        "Dispatching",
        "Running",
        "Succeeded",
        "Failed",
        "Denied",
        "Expired",
        "Blocked",
        "TimedOut",
        "Canceled",
    ];

    pub fn name(&self) -> &'static str {
        match self {
            Self::Requested => "",
            Self::AwaitingApproval { .. } => "AwaitingApproval",
            Self::Dispatching { .. } => "Dispatching",
            Self::Running => "Running",
            Self::Succeeded { .. } => "Succeeded",
            Self::Failed { .. } => "Failed",
            Self::TimedOut { .. } => "TimedOut",
            Self::Denied { .. } => "Denied",
            Self::Expired { .. } => "Expired",
            Self::Blocked { .. } => "Blocked",
            Self::Canceled { .. } => "Canceled",
        }
    }

    /// Nothing but a retry, asked for by a person, leads out of these.
    pub fn is_finished(&self) -> bool {
        match self {
            Self::Succeeded { .. }
            | Self::Failed { .. }
            | Self::TimedOut { .. }
            | Self::Denied { .. }
            | Self::Expired { .. }
            | Self::Canceled { .. } => true,
            Self::Requested
            | Self::AwaitingApproval { .. }
            | Self::Dispatching { .. }
            | Self::Running
            | Self::Blocked { .. } => false,
        }
    }
}

impl Run {
    pub fn subject(&self) -> Subject {
        Subject::new(SubjectKind::Run, &self.id)
    }

    /// The gate that waits for an answer, if one does.
    pub fn open_gate(&self) -> Option<&Gate> {
        self.gates.iter().rev().find(|gate| gate.is_open())
    }

    pub fn gate(&self, id: &GateId) -> Option<&Gate> {
        self.gates.iter().find(|gate| gate.id == *id)
    }

    /// The attempt that is under way.
    pub fn running(&self) -> Option<&Attempt> {
        self.attempt.as_ref().filter(|attempt| attempt.is_running())
    }

    /// What a task of this run is to do, just leased.
    pub fn duty(&self, task: &TaskId, stop: bool) -> Duty {
        let asked = matches!(self.state, RunState::Dispatching { .. });
        Duty::of(task, stop, asked, self.attempt.as_ref())
    }

    fn next_attempt(&self) -> u32 {
        self.attempt.as_ref().map_or(1, |attempt| attempt.number.saturating_add(1))
    }
}

#[cfg(test)]
mod tests;
