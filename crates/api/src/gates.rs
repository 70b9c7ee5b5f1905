//! Gates: what is asked, of whom, until when, and how it was answered.

use domain::{
    commit::SubjectKind,
    gate::{Approval, Approvers, Gate, GateKind, GateState},
    text::command_line,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A yes. Everything is optional: an empty body approves what the gate shows at this moment.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ApproveBody {
    /// The digest that was looked at; another one is refused.
    pub digest: Option<String>,
    pub note: Option<String>,
}

/// A no.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DenyBody {
    /// The digest that was looked at; another one is refused.
    pub digest: Option<String>,
    pub reason: Option<String>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct GateView {
    pub id: String,
    /// `open`, `approved`, `denied`, `expired`, `superseded` or `withdrawn`
    pub status: String,
    /// What waits: `run:7Q4K2MA` or `protocol:3`
    pub subject: String,
    pub run_id: Option<String>,
    pub protocol_id: Option<i64>,
    pub step_id: Option<i64>,
    /// `job`, `run_again`, `step` or `permission`
    pub kind: String,
    pub title: String,
    /// What a yes starts, element by element; empty when it starts no command.
    pub argv: Vec<String>,
    /// The same as one would type it, for people to read.
    pub command: String,
    /// Further lines, such as a diff stat.
    pub lines: Vec<String>,
    /// Of exactly what will run.
    pub digest: String,
    /// Null is whoever holds the right to decide gates; an empty list is nobody.
    pub approvers: Option<Vec<String>>,
    /// How many different people must approve.
    pub quorum: u32,
    pub distinct_from_requester: bool,
    /// The configuration key that says so.
    pub policy: String,
    /// The person.
    pub requested_by: Option<String>,
    /// The account or name the request came from.
    pub requester: String,
    pub reason: Option<String>,
    pub opened_at: String,
    /// When the answer becomes no.
    pub deadline: Option<String>,
    pub approvals: Vec<ApprovalGivenView>,
    pub decided_at: Option<String>,
    /// The account that decided.
    pub decided_by: Option<String>,
    pub decision_reason: Option<String>,
}

/// One person's yes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct ApprovalGivenView {
    /// The person.
    pub by: String,
    pub account: String,
    pub note: Option<String>,
    pub at: String,
}

impl From<&Gate> for GateView {
    fn from(gate: &Gate) -> Self {
        let (decided_at, decided_by, decision_reason) = match &gate.state {
            GateState::Open { .. } => (None, None, None),
            GateState::Approved { approvals, at } => {
                (Some(at), approvals.last().map(|approval| approval.account.clone()), None)
            }
            GateState::Denied { account, reason, at, .. } => (Some(at), Some(account.clone()), reason.clone()),
            GateState::Expired { at } | GateState::Superseded { at } | GateState::Withdrawn { at } => {
                (Some(at), None, None)
            }
        };
        Self {
            id: gate.id.to_string(),
            status: gate.state.name().to_owned(),
            subject: gate.owner.to_string(),
            run_id: (gate.owner.kind == SubjectKind::Run).then(|| gate.owner.id.clone()),
            protocol_id: (gate.owner.kind == SubjectKind::Protocol).then(|| gate.owner.id.parse().ok()).flatten(),
            step_id: gate.step,
            kind: match gate.asks.kind {
                GateKind::Job => "job",
                GateKind::RunAgain => "run_again",
                GateKind::Step => "step",
                GateKind::Permission => "permission",
            }
            .to_owned(),
            title: gate.asks.title.clone(),
            argv: gate.asks.argv.clone(),
            command: command_line(&gate.asks.argv),
            lines: gate.asks.lines.clone(),
            digest: gate.digest.clone(),
            approvers: match &gate.policy.approvers {
                Approvers::Anyone => None,
                Approvers::Listed(principals) => Some(principals.iter().map(ToString::to_string).collect()),
            },
            quorum: gate.policy.quorum,
            distinct_from_requester: gate.policy.distinct_from_requester,
            policy: gate.policy.key.clone(),
            requested_by: gate.requested_by.as_ref().map(ToString::to_string),
            requester: gate.requester.clone(),
            reason: gate.reason.clone(),
            opened_at: gate.opened_at.to_string(),
            deadline: gate.deadline.map(|at| at.to_string()),
            approvals: gate.approvals().iter().map(ApprovalGivenView::from).collect(),
            decided_at: decided_at.map(ToString::to_string),
            decided_by,
            decision_reason,
        }
    }
}

impl From<&Approval> for ApprovalGivenView {
    fn from(approval: &Approval) -> Self {
        Self {
            by: approval.by.to_string(),
            account: approval.account.clone(),
            note: approval.note.clone(),
            at: approval.at.to_string(),
        }
    }
}
