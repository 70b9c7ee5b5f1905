//! What can happen to a protocol.

use serde::{Deserialize, Serialize};

use super::{Ended, Finding, Protocol, ProtocolState, SpecRef};
use crate::{
    attempt::{Attempt, Fact},
    gate::GateEvent,
    ids::{Fence, StepId},
    step::{BlockedOn, Candidate, DiffStat, Failure, Integration, Step},
    task::TaskKind,
    time::Timestamp,
};

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ProtocolEvent {
    #[serde(rename = "protocol_created")]
    Created {
        protocol: Box<Protocol>,
    },
    StepAdded {
        step: Box<Step>,
    },
    PlanningEnqueued,
    PlanningStarted {
        attempt: Box<Attempt>,
    },
    /// The plan is sound and committed; the branch follows.
    PlanAccepted {
        spec: SpecRef,
        steps: Vec<Step>,
        steps_created: u32,
        base: String,
        old: Option<String>,
        commit: String,
        end: Ended,
        at: Timestamp,
    },
    PlanningFailed {
        failure: Failure,
        end: Option<Ended>,
        at: Timestamp,
    },
    PlanningInterrupted {
        why: String,
        at: Timestamp,
    },
    /// An engine could not be had for planning; another one plans, as a new attempt.
    PlanningFellBack {
        from: String,
        to: String,
        failure: Failure,
        end: Ended,
        at: Timestamp,
    },
    Planned {
        steps: u32,
        spec_hash: Option<String>,
    },
    /// Work goes on.
    Running,
    ProtocolBlocked {
        on: BlockedOn,
    },
    StepEnqueued {
        step: StepId,
    },
    StepRetryEnqueued {
        step: StepId,
    },
    StepStarted {
        step: StepId,
        attempt: Box<Attempt>,
    },
    /// An attempt goes on under a new fence; without a step it is the planning.
    AttemptAdopted {
        step: Option<StepId>,
        fence: Fence,
        worker: String,
        /// The engine session that is gone on with. Absent when the processes themselves were still there, or had ended.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        session: Option<String>,
    },
    /// Something was learnt of an attempt under way; without a step it is the planning.
    AttemptTold {
        step: Option<StepId>,
        fact: Fact,
    },
    StepExecuted {
        step: StepId,
        candidate: Candidate,
        end: Ended,
        at: Timestamp,
    },
    StepExecutionFailed {
        step: StepId,
        failure: Failure,
        end: Option<Ended>,
        candidate: Option<Candidate>,
        at: Timestamp,
    },
    StepTimedOut {
        step: StepId,
        end: Ended,
        at: Timestamp,
    },
    /// An engine could not be had; another one executes from the branch tip, as a new attempt.
    StepFellBack {
        step: StepId,
        from: String,
        to: String,
        failure: Failure,
        end: Ended,
        at: Timestamp,
    },
    /// Stopped because somebody paused; it starts again later.
    StepStopped {
        step: StepId,
        at: Timestamp,
    },
    /// Cut off; it starts again from the branch tip, as a new attempt.
    StepInterrupted {
        step: StepId,
        why: String,
        at: Timestamp,
    },
    StepBlocked {
        step: StepId,
        on: BlockedOn,
    },
    /// People let it go on; `approved` is the digest they saw.
    StepUnblocked {
        step: StepId,
        approved: Option<String>,
    },
    QaSkippedPolicy {
        step: StepId,
    },
    QaEnqueued {
        step: StepId,
    },
    QaStarted {
        step: StepId,
        attempt: Box<Attempt>,
    },
    QaPassed {
        step: StepId,
        findings: Vec<Finding>,
        end: Ended,
        at: Timestamp,
    },
    QaFailed {
        step: StepId,
        failure: Failure,
        findings: Vec<Finding>,
        end: Ended,
        at: Timestamp,
    },
    QaInconclusive {
        step: StepId,
        findings: Vec<Finding>,
        end: Ended,
        at: Timestamp,
    },
    QaInterrupted {
        step: StepId,
        why: String,
        at: Timestamp,
    },
    /// A reviewer could not be had; another one reviews, as a new attempt.
    QaFellBack {
        step: StepId,
        from: String,
        to: String,
        failure: Failure,
        findings: Vec<Finding>,
        end: Ended,
        at: Timestamp,
    },
    ManualApproval {
        step: StepId,
        by: String,
        reason: Option<String>,
        at: Timestamp,
    },
    IntegrationEnqueued {
        step: StepId,
        integration: Box<Integration>,
    },
    BranchAdvanced {
        step: Option<StepId>,
        new: String,
        diff: DiffStat,
    },
    BranchConflict {
        step: Option<StepId>,
        found: Option<String>,
        why: String,
    },
    StepCompleted {
        step: StepId,
        by: String,
        reason: Option<String>,
        commit: Option<String>,
        at: Timestamp,
    },
    GateChanged {
        step: Option<StepId>,
        change: GateEvent,
    },
    Paused {
        by: String,
    },
    Resumed {
        to: Box<ProtocolState>,
    },
    Cancelled {
        by: String,
        at: Timestamp,
    },
    ProtocolCompleted {
        at: Timestamp,
    },
    JobFailed {
        kind: TaskKind,
        step: Option<StepId>,
        why: String,
    },
}

impl ProtocolEvent {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Created { .. } => "protocol_created",
            Self::StepAdded { .. } => "step_added",
            Self::PlanningEnqueued => "planning_enqueued",
            Self::PlanningStarted { .. } => "planning_started",
            Self::PlanAccepted { .. } => "plan_accepted",
            Self::PlanningFailed { .. } => "planning_failed",
            Self::PlanningInterrupted { .. } => "planning_interrupted",
            Self::PlanningFellBack { .. } => "planning_fell_back",
            Self::Planned { .. } => "planned",
            Self::Running => "running",
            Self::ProtocolBlocked { .. } => "protocol_blocked",
            Self::StepEnqueued { .. } => "step_enqueued",
            Self::StepRetryEnqueued { .. } => "step_retry_enqueued",
            Self::StepStarted { .. } => "step_started",
            Self::AttemptAdopted { .. } => "attempt_adopted",
            Self::AttemptTold { fact, .. } => fact.name(),
            Self::StepExecuted { .. } => "step_executed",
            Self::StepExecutionFailed { .. } => "step_execution_failed",
            Self::StepTimedOut { .. } => "step_timed_out",
            Self::StepStopped { .. } => "step_stopped",
            Self::StepInterrupted { .. } => "step_interrupted",
            Self::StepFellBack { .. } => "step_fell_back",
            Self::StepBlocked { .. } => "step_blocked",
            Self::StepUnblocked { .. } => "step_unblocked",
            Self::QaSkippedPolicy { .. } => "qa_skipped_policy",
            Self::QaEnqueued { .. } => "qa_enqueued",
            Self::QaStarted { .. } => "qa_started",
            Self::QaPassed { .. } => "qa_passed",
            Self::QaFailed { .. } => "qa_failed",
            Self::QaInconclusive { .. } => "qa_inconclusive",
            Self::QaInterrupted { .. } => "qa_interrupted",
            Self::QaFellBack { .. } => "qa_fell_back",
            Self::ManualApproval { .. } => "manual_approval",
            Self::IntegrationEnqueued { .. } => "integration_enqueued",
            Self::BranchAdvanced { .. } => "branch_advanced",
            Self::BranchConflict { .. } => "branch_conflict",
            Self::StepCompleted { .. } => "step_completed",
            Self::GateChanged { change, .. } => change.name(),
            Self::Paused { .. } => "paused",
            Self::Resumed { .. } => "resumed",
            Self::Cancelled { .. } => "cancelled",
            Self::ProtocolCompleted { .. } => "protocol_completed",
            Self::JobFailed { .. } => "job_failed",
        }
    }

    /// The step whose timeline shows the event.
    pub fn step(&self) -> Option<StepId> {
        match self {
            Self::StepAdded { step } => Some(step.id),
            Self::StepEnqueued { step }
            | Self::StepRetryEnqueued { step }
            | Self::StepStarted { step, .. }
            | Self::StepExecuted { step, .. }
            | Self::StepExecutionFailed { step, .. }
            | Self::StepTimedOut { step, .. }
            | Self::StepFellBack { step, .. }
            | Self::StepStopped { step, .. }
            | Self::StepInterrupted { step, .. }
            | Self::StepBlocked { step, .. }
            | Self::StepUnblocked { step, .. }
            | Self::QaSkippedPolicy { step }
            | Self::QaEnqueued { step }
            | Self::QaStarted { step, .. }
            | Self::QaPassed { step, .. }
            | Self::QaFailed { step, .. }
            | Self::QaInconclusive { step, .. }
            | Self::QaInterrupted { step, .. }
            | Self::QaFellBack { step, .. }
            | Self::ManualApproval { step, .. }
            | Self::IntegrationEnqueued { step, .. }
            | Self::StepCompleted { step, .. } => Some(*step),
            Self::AttemptAdopted { step, .. }
            | Self::AttemptTold { step, .. }
            | Self::BranchAdvanced { step, .. }
            | Self::BranchConflict { step, .. }
            | Self::GateChanged { step, .. }
            | Self::JobFailed { step, .. } => *step,
            Self::Created { .. }
            | Self::PlanningEnqueued
            | Self::PlanningStarted { .. }
            | Self::PlanAccepted { .. }
            | Self::PlanningFailed { .. }
            | Self::PlanningInterrupted { .. }
            | Self::PlanningFellBack { .. }
            | Self::Planned { .. }
            | Self::Running
            | Self::ProtocolBlocked { .. }
            | Self::Paused { .. }
            | Self::Resumed { .. }
            | Self::Cancelled { .. }
            | Self::ProtocolCompleted { .. } => None,
        }
    }
}
