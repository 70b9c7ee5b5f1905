//! What can happen to a run, and the only code that changes one.

use serde::{Deserialize, Serialize};

use super::{BlockedOn, Run, RunState};
use crate::{
    aggregate::Aggregate,
    attempt::{Attempt, AttemptState, Ending, Fact, Usage},
    catalog::BoundJob,
    commit::SubjectKind,
    gate::{self, Gate, GateEvent},
    ids::{Fence, PersonId, RunId},
    time::Timestamp,
};

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum RunEvent {
    RunCreated {
        id: RunId,
        job: Box<BoundJob>,
        digest: String,
        requested_by: PersonId,
        requester: String,
        reason: Option<String>,
        channel: String,
        conversation: String,
        at: Timestamp,
    },
    /// People are asked; `job` is set when what will run changed since the run was created.
    ApprovalRequested {
        gate: Box<Gate>,
        job: Option<Box<BoundJob>>,
    },
    /// Something happened to a gate short of deciding the run.
    GateChanged {
        change: GateEvent,
    },
    /// The quorum is reached.
    RunApproved {
        change: GateEvent,
    },
    RunDenied {
        change: GateEvent,
    },
    RunExpired {
        change: GateEvent,
    },
    ExecutionDispatched {
        attempt: u32,
    },
    ExecutionStarted {
        attempt: Box<Attempt>,
    },
    ExecutionAdopted {
        fence: Fence,
        worker: String,
    },
    /// Something was learnt of the attempt under way.
    ExecutionTold {
        fact: Fact,
    },
    ExecutionSucceeded {
        worker: String,
        summary: String,
        exit_code: Option<i32>,
        usage: Option<Usage>,
        at: Timestamp,
    },
    ExecutionFailed {
        worker: String,
        summary: String,
        exit_code: Option<i32>,
        usage: Option<Usage>,
        at: Timestamp,
    },
    ExecutionTimedOut {
        worker: String,
        summary: String,
        at: Timestamp,
    },
    /// The attempt was cut off; what it did is not known.
    ExecutionInterrupted {
        worker: String,
        summary: String,
        at: Timestamp,
    },
    ExecutionBlocked {
        on: BlockedOn,
        why: String,
        /// The gate that asks what to do, when one does.
        gate: Option<Box<Gate>>,
    },
    /// The attempt under way is to stop; the run is canceled once its processes are gone.
    CancelRequested {
        by: String,
    },
    RunCanceled {
        by: String,
        at: Timestamp,
    },
}

impl Aggregate for Run {
    type Event = RunEvent;

    const KIND: SubjectKind = SubjectKind::Run;

    fn id(&self) -> String {
        self.id.to_string()
    }

    fn created(event: &RunEvent) -> Option<Self> {
        let RunEvent::RunCreated { id, job, digest, requested_by, requester, reason, channel, conversation, at } =
            event
        else {
            return None;
        };
        Some(Self {
            id: id.clone(),
            job: (**job).clone(),
            digest: digest.clone(),
            requested_by: requested_by.clone(),
            requester: requester.clone(),
            reason: reason.clone(),
            channel: channel.clone(),
            conversation: conversation.clone(),
            created_at: *at,
            state: RunState::Requested,
            attempt: None,
            cancel_requested_by: None,
            gates: Vec::new(),
        })
    }

    /// The only code that changes a run.
    fn apply(&mut self, event: &RunEvent) {
        match event {
            RunEvent::RunCreated { .. } => {
                if let Some(created) = Self::created(event) {
                    *self = created;
                }
            }
            RunEvent::ApprovalRequested { gate, job } => {
                if let Some(job) = job {
                    self.job = (**job).clone();
                    self.digest = gate.digest.clone();
                }
                self.gates.push((**gate).clone());
                self.state = RunState::AwaitingApproval { gate: gate.id.clone() };
            }
            RunEvent::GateChanged { change } | RunEvent::RunApproved { change } => {
                gate::apply_to(&mut self.gates, change);
            }
            RunEvent::RunDenied { change } => {
                gate::apply_to(&mut self.gates, change);
                if let GateEvent::Denied { by, account, reason, at, .. } = change {
                    self.state =
                        RunState::Denied { by: by.clone(), account: account.clone(), reason: reason.clone(), at: *at };
                }
            }
            RunEvent::RunExpired { change } => {
                gate::apply_to(&mut self.gates, change);
                if let GateEvent::Expired { at, .. } = change {
                    self.state = RunState::Expired { at: *at };
                }
            }
            RunEvent::ExecutionDispatched { attempt } => {
                self.cancel_requested_by = None;
                self.state = RunState::Dispatching { attempt: *attempt };
            }
            RunEvent::ExecutionStarted { attempt } => {
                self.attempt = Some((**attempt).clone());
                self.state = RunState::Running;
            }
            RunEvent::ExecutionAdopted { fence, worker } => {
                if let Some(attempt) = &mut self.attempt {
                    attempt.fence = *fence;
                    attempt.worker = worker.clone();
                }
            }
            RunEvent::ExecutionTold { fact } => {
                if let Some(attempt) = &mut self.attempt {
                    attempt.learn(fact);
                }
            }
            RunEvent::ExecutionSucceeded { summary, exit_code, usage, at, .. } => {
                self.end(Ending::Succeeded, summary, *exit_code, usage.clone(), *at);
                self.state = RunState::Succeeded { summary: summary.clone(), at: *at };
            }
            RunEvent::ExecutionFailed { summary, exit_code, usage, at, .. } => {
                self.end(Ending::Failed, summary, *exit_code, usage.clone(), *at);
                self.state = RunState::Failed { summary: summary.clone(), at: *at };
            }
            RunEvent::ExecutionTimedOut { summary, at, .. } => {
                self.end(Ending::TimedOut, summary, None, None, *at);
                self.state = RunState::TimedOut { summary: summary.clone(), at: *at };
            }
            RunEvent::ExecutionInterrupted { summary, at, .. } => {
                self.end(Ending::Interrupted, summary, None, None, *at);
            }
            RunEvent::ExecutionBlocked { on, why, gate } => {
                if let Some(gate) = gate {
                    self.gates.push((**gate).clone());
                }
                self.state = RunState::Blocked { on: on.clone(), why: why.clone() };
            }
            RunEvent::CancelRequested { by } => self.cancel_requested_by = Some(by.clone()),
            RunEvent::RunCanceled { by, at } => {
                self.end(Ending::Canceled, "canceled", None, None, *at);
                self.state = RunState::Canceled { by: by.clone(), at: *at };
            }
        }
    }

    fn event_name(event: &RunEvent) -> &'static str {
        match event {
            RunEvent::RunCreated { .. } => "RunCreated",
            RunEvent::ApprovalRequested { .. } => "ApprovalRequested",
            RunEvent::GateChanged { change } => match change {
                GateEvent::Opened { .. } => "GateOpened",
                GateEvent::ApprovalGiven { .. } => "ApprovalGiven",
                GateEvent::Approved { .. } => "GateApproved",
                GateEvent::Denied { .. } => "GateDenied",
                GateEvent::Expired { .. } => "GateExpired",
                GateEvent::Superseded { .. } => "GateSuperseded",
                GateEvent::Withdrawn { .. } => "GateWithdrawn",
            },
            RunEvent::RunApproved { .. } => "RunApproved",
            RunEvent::RunDenied { .. } => "RunDenied",
            RunEvent::RunExpired { .. } => "RunExpired",
            RunEvent::ExecutionDispatched { .. } => "ExecutionDispatched",
            RunEvent::ExecutionStarted { .. } => "ExecutionStarted",
            RunEvent::ExecutionAdopted { .. } => "ExecutionAdopted",
            RunEvent::ExecutionTold { fact } => fact.run_name(),
            RunEvent::ExecutionSucceeded { .. } => "ExecutionSucceeded",
            RunEvent::ExecutionFailed { .. } => "ExecutionFailed",
            RunEvent::ExecutionTimedOut { .. } => "ExecutionTimedOut",
            RunEvent::ExecutionInterrupted { .. } => "ExecutionInterrupted",
            RunEvent::ExecutionBlocked { .. } => "ExecutionBlocked",
            RunEvent::CancelRequested { .. } => "CancelRequested",
            RunEvent::RunCanceled { .. } => "RunCanceled",
        }
    }
}

impl Run {
    /// Ends the attempt that is under way, if one is.
    fn end(&mut self, ending: Ending, summary: &str, exit_code: Option<i32>, usage: Option<Usage>, at: Timestamp) {
        if let Some(attempt) = self.attempt.as_mut().filter(|attempt| attempt.is_running()) {
            attempt.state = AttemptState::Ended { ending, at, summary: summary.to_owned(), exit_code, usage };
        }
    }
}
