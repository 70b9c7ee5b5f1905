//! Runs, and what may be asked of them.

use std::collections::BTreeMap;

use domain::{
    run::{BlockedOn, Run, RunState},
    text::command_line,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::attempts::AttemptView;

/// Asks for a run of a catalogued job.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewRunBody {
    /// The job's key.
    pub job: String,
    #[serde(default)]
    pub params: BTreeMap<String, ParamValue>,
    /// Shown to whoever approves.
    #[serde(default)]
    pub reason: Option<String>,
}

/// A parameter's value, as text or as what it is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum ParamValue {
    Text(String),
    Int(i64),
    Bool(bool),
}

/// One execution of a job.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct RunView {
    pub id: String,
    /// The job's key.
    pub job: String,
    pub title: String,
    /// `AwaitingApproval`, `Dispatching`, `Running`, `Succeeded`, `Failed`, `Denied`, `Expired`, `Blocked`, `TimedOut` or
    /// `Canceled`
    pub status: String,
    /// Nothing but a retry leads on from here.
    pub finished: bool,
    pub params: BTreeMap<String, String>,
    /// What runs, element by element.
    pub argv: Vec<String>,
    /// The same as one would type it, for people to read.
    pub command: String,
    /// Of exactly what runs; what an approval is bound to.
    pub digest: String,
    /// The person.
    pub requested_by: String,
    /// The account or name the request came from.
    pub requester: String,
    pub reason: Option<String>,
    pub channel: String,
    pub conversation: String,
    pub created_at: String,
    pub finished_at: Option<String>,
    /// The gate that waits for an answer.
    pub gate_id: Option<String>,
    /// How it ended, or why it is blocked.
    pub summary: Option<String>,
    /// The latest attempt.
    pub attempt: Option<AttemptView>,
    /// Who asked to stop the attempt that is under way.
    pub cancel_requested_by: Option<String>,
}

impl ParamValue {
    /// The value as the job's rules read it.
    pub fn into_text(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Int(number) => number.to_string(),
            Self::Bool(truth) => truth.to_string(),
        }
    }
}

impl From<&Run> for RunView {
    fn from(run: &Run) -> Self {
        let (finished_at, summary) = ending(&run.state);
        let gate_id = match &run.state {
            RunState::AwaitingApproval { gate } | RunState::Blocked { on: BlockedOn::Gate { gate }, .. } => {
                Some(gate.to_string())
            }
            _ => None,
        };
        Self {
            id: run.id.to_string(),
            job: run.job.job.clone(),
            title: run.job.title.clone(),
            status: run.state.name().to_owned(),
            finished: run.state.is_finished(),
            params: run.job.params.clone(),
            argv: run.job.argv.clone(),
            command: command_line(&run.job.argv),
            digest: run.digest.clone(),
            requested_by: run.requested_by.to_string(),
            requester: run.requester.clone(),
            reason: run.reason.clone(),
            channel: run.channel.clone(),
            conversation: run.conversation.clone(),
            created_at: run.created_at.to_string(),
            finished_at,
            gate_id,
            summary,
            attempt: run.attempt.as_ref().map(AttemptView::from),
            cancel_requested_by: run.cancel_requested_by.clone(),
        }
    }
}

fn ending(state: &RunState) -> (Option<String>, Option<String>) {
    match state {
        RunState::Requested | RunState::AwaitingApproval { .. } | RunState::Dispatching { .. } | RunState::Running => {
            (None, None)
        }
        RunState::Succeeded { summary, at } | RunState::Failed { summary, at } | RunState::TimedOut { summary, at } => {
            (Some(at.to_string()), Some(summary.clone()))
        }
        RunState::Denied { account, reason, at, .. } => {
            let why = reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
            (Some(at.to_string()), Some(format!("denied by {account}{why}")))
        }
        RunState::Expired { at } => (Some(at.to_string()), Some("expired without enough approvals".to_owned())),
        RunState::Blocked { why, .. } => (None, Some(why.clone())),
        RunState::Canceled { by, at } => (Some(at.to_string()), Some(format!("canceled by {by}"))),
    }
}
