//! One catalogued operation as its file says it, with every default filled in.

use std::{collections::BTreeMap, fmt, time::Duration};

use serde::{Deserialize, Serialize, Serializer};

use super::{alias::Alias, param::Param, principal::Principal, template::Template};
use crate::digest::Digest;

#[derive(Clone, PartialEq, Debug, Serialize)]
#[non_exhaustive]
pub struct Job {
    pub key: String,
    pub title: Template,
    pub owner: String,
    pub description: Option<String>,
    pub runbook: Option<String>,
    pub labels: Vec<String>,
    pub aliases: Vec<Alias>,
    pub risk: Risk,
    /// In the order of the file.
    pub params: Vec<Param>,
    pub exec: Exec,
    pub policy: Policy,
    /// The digest of the catalog it belongs to; no part of what that digest covers.
    #[serde(skip)]
    pub(super) catalog: Digest,
}

/// A label for people; it changes no rule.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Risk {
    #[default]
    None,
    Low,
    Medium,
    High,
}

/// What is started, and within which limits.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[non_exhaustive]
pub struct Exec {
    pub argv: Vec<Template>,
    pub cwd: Cwd,
    pub env: BTreeMap<String, Template>,
    pub inherit_env: Vec<String>,
    #[serde(rename = "timeout_ms", serialize_with = "as_millis")]
    pub timeout: Duration,
    #[serde(rename = "kill_grace_ms", serialize_with = "as_millis")]
    pub kill_grace: Duration,
    /// In bytes.
    pub output_limit: u64,
    pub retry: Retry,
    pub idempotent: bool,
}

/// Where a job starts: written `tmp` or `path:/srv/x`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Cwd {
    /// The run's own empty directory.
    Tmp,
    /// An absolute path without `.` and `..`.
    Path(String),
}

/// How often a job that ran and failed is run again by itself.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retry {
    pub max: u32,
    pub backoff_min_ms: u64,
    pub backoff_max_ms: u64,
    /// The exit codes that are worth another try; empty means any failure.
    pub on_exit: Vec<u8>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[non_exhaustive]
pub struct Policy {
    pub request: Requesters,
    pub approve: Approval,
    /// How long the gate waits before it counts as denied.
    #[serde(rename = "timeout_ms", serialize_with = "as_millis")]
    pub timeout: Duration,
}

/// Who may ask for a run.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Requesters {
    /// Whoever may use the channel.
    Anyone,
    Only(Vec<Principal>),
}

/// Who has to agree.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Approval {
    /// Nobody: the only way to run without a gate.
    None,
    Approvers {
        of: Vec<Principal>,
        quorum: u32,
        distinct_from_requester: bool,
    },
}

impl Job {
    pub fn param(&self, name: &str) -> Option<&Param> {
        self.params.iter().find(|param| param.name == name)
    }

    /// Whether it runs only after people agreed.
    pub fn needs_approval(&self) -> bool {
        match self.policy.approve {
            Approval::None => false,
            Approval::Approvers { .. } => true,
        }
    }
}

impl Requesters {
    pub fn allows(&self, person_name: &str, identities: &[String]) -> bool {
        match self {
            Self::Anyone => true,
            Self::Only(principals) => principals.iter().any(|one| one.matches(person_name, identities)),
        }
    }
}

impl Approval {
    /// Whether a person is one of those who may decide. Nobody decides where no approval is asked for.
    pub fn may_decide(&self, person_name: &str, identities: &[String]) -> bool {
        match self {
            Self::None => false,
            Self::Approvers { of, .. } => of.iter().any(|one| one.matches(person_name, identities)),
        }
    }
}

impl Risk {
    pub(super) const NAMES: [(&str, Self); 4] =
        [("none", Self::None), ("low", Self::Low), ("medium", Self::Medium), ("high", Self::High)];

    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }
}

impl fmt::Display for Cwd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tmp => f.write_str("tmp"),
            Self::Path(path) => write!(f, "path:{path}"),
        }
    }
}

impl From<Cwd> for String {
    fn from(cwd: Cwd) -> Self {
        cwd.to_string()
    }
}

impl TryFrom<String> for Cwd {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if text == "tmp" {
            return Ok(Self::Tmp);
        }
        if text.starts_with("repo:") {
            return Err("a checkout of a repository is not available yet: use `tmp` or `path:/absolute/path`");
        }
        let path = text.strip_prefix("path:").ok_or("expected `tmp` or `path:/absolute/path`")?;
        let is_plain = path.starts_with('/') && !path.split('/').any(|part| part == "." || part == "..");
        if !is_plain || path.chars().any(crate::text::is_hidden) {
            return Err("expected an absolute path without `.`, `..` and control characters");
        }
        Ok(Self::Path(path.to_owned()))
    }
}

fn as_millis<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(millis(*duration))
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
