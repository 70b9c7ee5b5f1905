//! Steps, in the inherited shape and a little more.

use domain::{
    spec::StepType,
    step::{Candidate, Step, StepState, Work},
    time::Timestamp,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::{
    attempts::AttemptView,
    protocols::{DiffView, gate_of, reason_of},
};

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewStepBody {
    pub step_index: u32,
    pub step_name: String,
    /// `setup`, `work` or `qa`
    pub step_type: String,
    /// Only `pending`.
    #[serde(default)]
    pub status: Option<String>,
    #[serde(default)]
    pub model: Option<String>,
    #[serde(default)]
    pub summary: Option<String>,
    #[serde(default)]
    pub engine_id: Option<String>,
    /// An object or an array of objects.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub policy: Option<Value>,
}

/// Accepts a step's result as it is.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ApproveStepBody {
    pub reason: Option<String>,
}

/// One part of a protocol.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct StepView {
    pub id: i64,
    pub protocol_run_id: i64,
    pub step_index: u32,
    pub step_name: String,
    /// `setup`, `work` or `qa`
    pub step_type: String,
    /// `pending`, `running`, `needs_qa`, `completed`, `failed`, `blocked`, `skipped`, `timed_out` or `cancelled`
    pub status: String,
    pub model: Option<String>,
    pub engine_id: Option<String>,
    #[schema(value_type = Option<Object>)]
    pub policy: Option<Value>,
    #[schema(value_type = Option<Object>)]
    pub runtime_state: Option<Value>,
    pub retries: u32,
    pub summary: Option<String>,
    /// `YYYY-MM-DD HH:MM:SS` in UTC.
    pub created_at: String,
    pub updated_at: String,
    pub depends_on: Vec<i64>,
    /// Why it failed, is blocked or was skipped.
    pub reason: Option<String>,
    /// The stable code of a failure, such as `engine_unavailable`.
    pub failure_code: Option<String>,
    /// The gate that waits for an answer.
    pub gate_id: Option<String>,
    /// The result that waits to be accepted.
    pub candidate: Option<CandidateView>,
    /// The commit that was accepted.
    pub commit: Option<String>,
    /// The latest attempt.
    pub attempt: Option<AttemptView>,
}

/// A result: a commit that no branch points to yet.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct CandidateView {
    pub base: String,
    pub commit: String,
    pub diff: DiffView,
}

impl From<&Candidate> for CandidateView {
    fn from(candidate: &Candidate) -> Self {
        Self { base: candidate.base.clone(), commit: candidate.commit.clone(), diff: DiffView::from(&candidate.diff) }
    }
}

impl StepView {
    pub fn of(step: &Step, created_at: Timestamp, updated_at: Timestamp) -> Self {
        let policies = &step.spec.policies;
        let blocked_on = match &step.state {
            StepState::Blocked { on, .. } => Some(on),
            _ => None,
        };
        let reason = match &step.state {
            StepState::Failed { failure, .. } => Some(failure.why.clone()),
            StepState::Skipped { reason } => Some(reason.clone()),
            StepState::TimedOut { summary, .. } => Some(summary.clone()),
            StepState::Completed { reason, .. } => reason.clone(),
            _ => blocked_on.map(reason_of),
        };
        let failure = match (&step.state, blocked_on) {
            (StepState::Failed { failure, .. }, _) | (_, Some(domain::step::BlockedOn::Failure { failure })) => {
                Some(failure.code.clone())
            }
            _ => None,
        };
        Self {
            id: step.id.0,
            protocol_run_id: step.protocol.0,
            step_index: step.index,
            step_name: step.name().to_owned(),
            step_type: match step.step_type() {
                StepType::Setup => "setup",
                StepType::Work => "work",
                StepType::Qa => "qa",
            }
            .to_owned(),
            status: step.state.name().to_owned(),
            model: step.spec.model.clone(),
            engine_id: step.spec.engine_id.clone(),
            policy: if policies.is_empty() { None } else { serde_json::to_value(policies).ok() },
            runtime_state: runtime_state(&step.state),
            retries: step.retries,
            summary: step.summary.clone(),
            created_at: created_at.to_plain_string(),
            updated_at: updated_at.to_plain_string(),
            depends_on: step.depends_on.iter().map(|id| id.0).collect(),
            reason,
            failure_code: failure,
            gate_id: blocked_on.and_then(gate_of),
            candidate: step.candidate().map(CandidateView::from),
            commit: match &step.state {
                StepState::Completed { commit, .. } => commit.clone(),
                _ => None,
            },
            attempt: step.attempt.as_ref().map(AttemptView::from),
        }
    }
}

/// How far it got within its state.
fn runtime_state(state: &StepState) -> Option<Value> {
    match state {
        StepState::Running { work } => Some(json!({
            "stage": match work {
                Work::Queued => "queued",
                Work::Executing => "executing",
                Work::Integrating { .. } => "integrating",
            }
        })),
        StepState::NeedsQa { review, .. } => Some(json!({ "review": review })),
        StepState::Completed { by, .. } => Some(json!({ "accepted_by": by })),
        StepState::Pending
        | StepState::Failed { .. }
        | StepState::Blocked { .. }
        | StepState::Skipped { .. }
        | StepState::TimedOut { .. }
        | StepState::Cancelled { .. } => None,
    }
}
