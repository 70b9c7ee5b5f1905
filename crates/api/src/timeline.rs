//! `GET /runs/{id}`: a run and its events in the inherited shape, to the letter.
//!
//! Only the inherited event types are here, and the few that the inherited system lacked; the full timeline is
//! `/events?subject=run:…`.

use domain::{
    run::{Run, RunEvent},
    time::Timestamp,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct RunTimeline {
    pub run: InheritedRun,
    pub events: Vec<InheritedRunEvent>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct InheritedRun {
    pub run_id: String,
    pub job_key: String,
    pub status: String,
    pub created_at: String,
    pub requested_by_address: String,
    pub channel_id: String,
    pub conversation_id: String,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct InheritedRunEvent {
    pub run_id: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub at: String,
    pub actor: String,
    /// Keys are in PascalCase.
    #[schema(value_type = Object)]
    pub payload: Map<String, Value>,
}

impl From<&Run> for InheritedRun {
    fn from(run: &Run) -> Self {
        Self {
            run_id: run.id.to_string(),
            job_key: run.job.job.clone(),
            status: run.state.name().to_owned(),
            created_at: run.created_at.to_offset_string(),
            requested_by_address: run.requester.clone(),
            channel_id: run.channel.clone(),
            conversation_id: run.conversation.clone(),
        }
    }
}

impl InheritedRunEvent {
    /// The event as the inherited API shows it; `None` for those it does not show.
    pub fn of(run: &str, kind: &str, event: &RunEvent, actor: &str, at: Timestamp) -> Option<Self> {
        // What follows from a person's command by the rules is the system's doing.
        let actor = match event {
            RunEvent::ApprovalRequested { .. } | RunEvent::ExecutionDispatched { .. } => "system",
            _ => actor,
        };
        let payload = match payload(event)? {
            Value::Object(payload) => payload,
            _ => Map::new(),
        };
        Some(Self {
            run_id: run.to_owned(),
            kind: kind.to_owned(),
            at: at.to_offset_string(),
            actor: actor.to_owned(),
            payload,
        })
    }
}

fn payload(event: &RunEvent) -> Option<Value> {
    match event {
        RunEvent::RunCreated { job, .. } => Some(json!({ "JobKey": job.job })),
        RunEvent::ApprovalRequested { .. } => Some(json!({ "Policy": "DefaultRequireApproval" })),
        RunEvent::RunApproved { .. }
        | RunEvent::RunDenied { .. }
        | RunEvent::RunExpired { .. }
        | RunEvent::RunCanceled { .. }
        | RunEvent::ExecutionDispatched { .. } => Some(json!({})),
        RunEvent::ExecutionStarted { attempt } => Some(json!({ "WorkerId": attempt.worker })),
        RunEvent::ExecutionSucceeded { worker, summary, .. }
        | RunEvent::ExecutionFailed { worker, summary, .. }
        | RunEvent::ExecutionTimedOut { worker, summary, .. }
        | RunEvent::ExecutionInterrupted { worker, summary, .. } => {
            Some(json!({ "WorkerId": worker, "Summary": summary }))
        }
        RunEvent::ExecutionBlocked { why, .. } => Some(json!({ "Reason": why })),
        RunEvent::GateChanged { .. }
        | RunEvent::ExecutionAdopted { .. }
        | RunEvent::ExecutionTold { .. }
        | RunEvent::CancelRequested { .. } => None,
    }
}
