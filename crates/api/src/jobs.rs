//! The catalog as people and programs see it.

use domain::catalog::{Approval, Job, ParamKind, Requesters};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A catalogued operation.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct JobView {
    pub key: String,
    pub title: String,
    /// A label, not a person.
    pub owner: String,
    pub description: Option<String>,
    pub runbook: Option<String>,
    pub labels: Vec<String>,
    pub aliases: Vec<String>,
    /// `none`, `low`, `medium` or `high`
    pub risk: String,
    pub params: Vec<ParamView>,
    /// Templates: `{{name}}` stands for a parameter.
    pub argv: Vec<String>,
    /// `tmp` or `path:/absolute/path`
    pub cwd: String,
    pub timeout_seconds: u64,
    /// Further attempts after a failure.
    pub retry_max: u32,
    /// Whether it may be run again when nobody knows how far it got.
    pub idempotent: bool,
    /// Who may ask; null is whoever may use the channel.
    pub requesters: Option<Vec<String>>,
    /// Null: it runs without a gate.
    pub approval: Option<ApprovalView>,
    /// Digest of the catalog.
    pub catalog: String,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct ParamView {
    pub name: String,
    /// `enum`, `int`, `string` or `bool`
    #[serde(rename = "type")]
    pub kind: String,
    pub required: bool,
    pub default: Option<String>,
    /// What a value may be, in words.
    pub expected: String,
    /// For `enum`.
    pub values: Option<Vec<String>>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct ApprovalView {
    pub of: Vec<String>,
    pub quorum: u32,
    pub distinct_from_requester: bool,
    pub timeout_seconds: u64,
}

/// The jobs of the catalog in force.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct CatalogView {
    pub items: Vec<JobView>,
    /// Always null: a catalog fits one page.
    pub next_cursor: Option<String>,
    pub digest: String,
    /// What loads but may not do what was meant.
    pub warnings: Vec<String>,
}

impl JobView {
    /// `catalog` is the digest of the catalog that the job belongs to.
    pub fn of(job: &Job, catalog: &str) -> Self {
        Self {
            key: job.key.clone(),
            title: job.title.to_string(),
            owner: job.owner.clone(),
            description: job.description.clone(),
            runbook: job.runbook.clone(),
            labels: job.labels.clone(),
            aliases: job.aliases.iter().map(ToString::to_string).collect(),
            risk: job.risk.name().to_owned(),
            params: job
                .params
                .iter()
                .map(|param| ParamView {
                    name: param.name.clone(),
                    kind: param.kind.name().to_owned(),
                    required: param.required,
                    default: param.default.clone(),
                    expected: param.kind.expected(),
                    values: match &param.kind {
                        ParamKind::Enum { values } => Some(values.clone()),
                        ParamKind::Int { .. } | ParamKind::String { .. } | ParamKind::Bool => None,
                    },
                })
                .collect(),
            argv: job.exec.argv.iter().map(ToString::to_string).collect(),
            cwd: job.exec.cwd.to_string(),
            timeout_seconds: job.exec.timeout.as_secs(),
            retry_max: job.exec.retry.max,
            idempotent: job.exec.idempotent,
            requesters: match &job.policy.request {
                Requesters::Anyone => None,
                Requesters::Only(principals) => Some(principals.iter().map(ToString::to_string).collect()),
            },
            approval: match &job.policy.approve {
                Approval::None => None,
                Approval::Approvers { of, quorum, distinct_from_requester } => Some(ApprovalView {
                    of: of.iter().map(ToString::to_string).collect(),
                    quorum: *quorum,
                    distinct_from_requester: *distinct_from_requester,
                    timeout_seconds: job.policy.timeout.as_secs(),
                }),
            },
            catalog: catalog.to_owned(),
        }
    }
}
