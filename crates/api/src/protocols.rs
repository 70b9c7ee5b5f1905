//! Protocols, in the inherited shape and a little more.

use domain::{
    attempt::Attempt,
    protocol::{Protocol, ProtocolState},
    step::{BlockedOn, Candidate, DiffStat},
    task::{NewTask, Task},
    time::Timestamp,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::{attempts::AttemptView, queue::QueueJobView};

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewProtocolBody {
    /// `NNNN-slug`
    pub protocol_name: String,
    /// Only `pending`.
    #[serde(default)]
    pub status: Option<String>,
    /// The project's when missing.
    #[serde(default)]
    pub base_branch: Option<String>,
    /// Cannot be chosen: only null.
    #[serde(default)]
    pub worktree_path: Option<String>,
    /// Cannot be chosen: only null.
    #[serde(default)]
    pub protocol_root: Option<String>,
    #[serde(default)]
    pub description: Option<String>,
    /// Kept as it is; a spec may be in `protocol_spec`.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub template_config: Option<Value>,
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub template_source: Option<Value>,
    /// The spec to plan from; without one the planning engine writes it.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub spec: Option<Value>,
    /// `manual` when missing: every step is asked for. `auto`: steps follow each other.
    #[serde(default)]
    pub advance: Option<AdvanceBody>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AdvanceBody {
    Auto,
    Manual,
}

/// A stream of coding work.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct ProtocolView {
    pub id: i64,
    pub project_id: i64,
    pub protocol_name: String,
    /// `pending`, `planning`, `planned`, `running`, `paused`, `blocked`, `failed`, `cancelled` or `completed`
    pub status: String,
    pub base_branch: String,
    /// The branch and its tip, `0001-slug@<commit>`; null until there is one.
    pub worktree_path: Option<String>,
    /// The protocol's folder on its branch.
    pub protocol_root: Option<String>,
    pub description: Option<String>,
    #[schema(value_type = Option<Object>)]
    pub template_config: Option<Value>,
    #[schema(value_type = Option<Object>)]
    pub template_source: Option<Value>,
    /// `YYYY-MM-DD HH:MM:SS` in UTC.
    pub created_at: String,
    pub updated_at: String,
    pub spec_hash: Option<String>,
    /// `valid` or `missing`; an invalid spec is never kept.
    pub spec_validation_status: String,
    pub spec_validated_at: Option<String>,
    /// `auto` or `manual`
    pub advance: String,
    pub requester: String,
    /// Why it is blocked or failed.
    pub reason: Option<String>,
    /// The gate that waits for an answer.
    pub gate_id: Option<String>,
    pub branch: BranchView,
    pub steps_total: u32,
    pub steps_done: u32,
    /// The latest attempt at planning.
    pub attempt: Option<AttemptView>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct BranchView {
    pub name: String,
    pub tip: Option<String>,
    /// The commit of the base branch it was made from.
    pub base: Option<String>,
    pub diff: DiffView,
}

/// How much differs, without the protocol's own files.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct DiffView {
    pub files: u32,
    pub insertions: u64,
    pub deletions: u64,
    /// One line for each file, cut to a bound.
    pub lines: Vec<String>,
}

/// What a step's result changes, without the protocol's own files.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct StepDiffView {
    pub files: u32,
    pub insertions: u64,
    pub deletions: u64,
    /// One line for each file, cut to a bound.
    pub lines: Vec<String>,
    /// The commit it was built on.
    pub base: String,
    pub commit: String,
    /// The attempt that made it.
    pub attempt_id: Option<String>,
    /// As git writes it; binary files are only named. Missing when it was not asked for, when the attempt ran on another
    /// machine, and when it is no longer kept.
    pub patch: Option<String>,
    /// The patch was cut off; its last line says so, too.
    pub truncated: bool,
}

/// The spec that drives a protocol.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct ProtocolSpecView {
    pub protocol_run_id: i64,
    pub protocol_name: String,
    pub project_id: i64,
    #[schema(value_type = Option<Object>)]
    pub spec: Option<Value>,
    pub spec_hash: Option<String>,
    /// `valid` or `missing`
    pub validation_status: String,
    pub validation_errors: Vec<String>,
    pub validated_at: Option<String>,
}

/// What an action that starts work answers.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct ActionView {
    pub message: String,
    /// The work that was put into the queue; null when people are asked first.
    pub job: Option<QueueJobView>,
}

impl From<&DiffStat> for DiffView {
    fn from(diff: &DiffStat) -> Self {
        Self { files: diff.files, insertions: diff.insertions, deletions: diff.deletions, lines: diff.lines.clone() }
    }
}

impl StepDiffView {
    pub fn of(candidate: &Candidate, attempt: Option<&Attempt>, patch: Option<(String, bool)>) -> Self {
        let truncated = patch.as_ref().is_some_and(|(_, truncated)| *truncated);
        let DiffStat { files, insertions, deletions, lines } = candidate.diff.clone();
        Self {
            files,
            insertions,
            deletions,
            lines,
            base: candidate.base.clone(),
            commit: candidate.commit.clone(),
            attempt_id: attempt.map(|attempt| attempt.id.to_string()),
            patch: patch.map(|(text, _)| text),
            truncated,
        }
    }
}

impl ProtocolView {
    /// `protocol` may come without its steps and gates: then the gate is known only while it blocks everything.
    pub fn of(protocol: &Protocol, updated_at: Timestamp) -> Self {
        let blocked_on = match &protocol.state {
            ProtocolState::Blocked { on } => Some(on),
            _ => None,
        };
        let reason = match &protocol.state {
            ProtocolState::Failed { reason, .. } => Some(reason.clone()),
            ProtocolState::Cancelled { by, .. } => Some(format!("cancelled by {by}")),
            _ => blocked_on.map(reason_of),
        };
        let open = protocol.open_gate().map(|gate| gate.id.to_string());
        Self {
            id: protocol.id.0,
            project_id: protocol.project.0,
            protocol_name: protocol.name.clone(),
            status: protocol.state.name().to_owned(),
            base_branch: protocol.base_branch.clone(),
            worktree_path: protocol.branch.tip.as_ref().map(|tip| format!("{}@{tip}", protocol.name)),
            protocol_root: protocol.branch.tip.is_some().then(|| protocol.folder()),
            description: protocol.description.clone(),
            template_config: protocol.template_config.clone(),
            template_source: protocol.template_source.clone(),
            created_at: protocol.created_at.to_plain_string(),
            updated_at: updated_at.to_plain_string(),
            spec_hash: protocol.spec.as_ref().map(|spec| spec.hash.clone()),
            spec_validation_status: validation_status(protocol).to_owned(),
            spec_validated_at: protocol.spec.as_ref().map(|spec| spec.validated_at.to_string()),
            advance: protocol.advance.as_str().to_owned(),
            requester: protocol.requester.clone(),
            reason,
            gate_id: open.or_else(|| blocked_on.and_then(gate_of)),
            branch: BranchView {
                name: protocol.name.clone(),
                tip: protocol.branch.tip.clone(),
                base: protocol.branch.base.clone(),
                diff: DiffView::from(&protocol.branch.diff),
            },
            steps_total: protocol.counts.total,
            steps_done: protocol.counts.done,
            attempt: protocol.attempt.as_ref().map(AttemptView::from),
        }
    }
}

impl From<&Protocol> for ProtocolSpecView {
    fn from(protocol: &Protocol) -> Self {
        let spec = protocol.spec.as_ref();
        Self {
            protocol_run_id: protocol.id.0,
            protocol_name: protocol.name.clone(),
            project_id: protocol.project.0,
            spec: spec.map(|spec| spec.document.clone()),
            spec_hash: spec.map(|spec| spec.hash.clone()),
            validation_status: validation_status(protocol).to_owned(),
            validation_errors: Vec::new(),
            validated_at: spec.map(|spec| spec.validated_at.to_string()),
        }
    }
}

fn validation_status(protocol: &Protocol) -> &'static str {
    if protocol.spec.is_some() { "valid" } else { "missing" }
}

/// What a blocked protocol or step waits for, in words.
pub(crate) fn reason_of(on: &BlockedOn) -> String {
    match on {
        BlockedOn::Gate { gate } => format!("waits for gate {gate}"),
        BlockedOn::Refused { gate, why } => format!("gate {gate}: {why}"),
        BlockedOn::Failure { failure } => failure.why.clone(),
        BlockedOn::Conflict { why } | BlockedOn::Interrupted { why } | BlockedOn::Operator { why } => why.clone(),
    }
}

pub(crate) fn gate_of(on: &BlockedOn) -> Option<String> {
    match on {
        BlockedOn::Gate { gate } => Some(gate.to_string()),
        BlockedOn::Refused { .. }
        | BlockedOn::Failure { .. }
        | BlockedOn::Conflict { .. }
        | BlockedOn::Interrupted { .. }
        | BlockedOn::Operator { .. } => None,
    }
}

impl ActionView {
    /// The first of the tasks that hold an engine is what was asked for; without one, people are asked first.
    pub fn of(message: String, tasks: &[NewTask], now: Timestamp) -> Self {
        let wanted = tasks.iter().find(|task| task.kind.lane() == domain::task::Lane::Engine);
        Self { message, job: wanted.map(|task| QueueJobView::from(&Task::from_new(task.clone(), now))) }
    }
}
