//! Projects, in the inherited shape and a little more.

use std::collections::BTreeMap;

use domain::{
    project::{EngineChoice, Engines, NamedEngine, Project, ProjectState},
    time::Timestamp,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewProjectBody {
    #[schema(min_length = 1, max_length = 200)]
    pub name: String,
    /// An address, or for admins an absolute path on the server's machine.
    #[schema(min_length = 1)]
    pub git_url: String,
    /// `main` when missing.
    #[serde(default)]
    pub base_branch: Option<String>,
    /// `github` or `gitlab`
    #[serde(default)]
    pub ci_provider: Option<String>,
    /// Model by phase: `planning`, `exec`, `qa`.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub default_models: Option<Map<String, Value>>,
    /// Only `api_token` is kept, as a hash.
    #[serde(default)]
    pub secrets: Option<BTreeMap<String, String>>,
    /// Which engine does what, unless a step names another.
    #[serde(default)]
    pub engines: Option<EnginesBody>,
    /// Commands that judge every step's result, each as argv.
    #[serde(default)]
    pub checks: Option<Vec<Vec<String>>>,
}

#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EnginesBody {
    pub planning: Option<EngineBody>,
    pub execution: Option<EngineBody>,
    pub qa: Option<EngineBody>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EngineBody {
    /// Such as `scripted` or `shell`.
    pub id: String,
    /// The scenario that the scripted engine plays.
    #[serde(default)]
    pub scenario: Option<String>,
    /// The engines that are tried after it, in this order, when one cannot be had; at most four.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fallback: Vec<FallbackBody>,
}

/// An engine to fall back on.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FallbackBody {
    /// Such as `scripted` or `shell`.
    pub id: String,
    /// The scenario that the scripted engine plays.
    #[serde(default)]
    pub scenario: Option<String>,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct ProjectView {
    pub id: i64,
    pub name: String,
    /// Without a password, if it had one.
    pub git_url: String,
    pub base_branch: String,
    pub ci_provider: Option<String>,
    #[schema(value_type = Object)]
    pub default_models: Map<String, Value>,
    /// Whether callers who are not admins have to send `X-Project-Token`.
    pub has_api_token: bool,
    pub engines: EnginesBody,
    pub checks: Vec<Vec<String>>,
    /// `pending`, `ready` or `failed`
    pub status: String,
    /// Why its setup failed.
    pub reason: Option<String>,
    /// The commit of its base branch that was fetched.
    pub head: Option<String>,
    /// `YYYY-MM-DD HH:MM:SS` in UTC.
    pub created_at: String,
    pub updated_at: String,
}

impl EnginesBody {
    pub fn into_domain(self) -> Engines {
        let named = |body: FallbackBody| NamedEngine { id: body.id, scenario: body.scenario };
        let choice = |body: Option<EngineBody>| {
            let body = body?;
            let fallback = body.fallback.into_iter().map(named).collect();
            Some(EngineChoice { id: body.id, scenario: body.scenario, fallback })
        };
        Engines { planning: choice(self.planning), execution: choice(self.execution), qa: choice(self.qa) }
    }
}

impl From<&Engines> for EnginesBody {
    fn from(engines: &Engines) -> Self {
        let body = |choice: &Option<EngineChoice>| {
            choice.as_ref().map(|choice| EngineBody {
                id: choice.id.clone(),
                scenario: choice.scenario.clone(),
                fallback: choice.fallback.iter().map(FallbackBody::from).collect(),
            })
        };
        Self { planning: body(&engines.planning), execution: body(&engines.execution), qa: body(&engines.qa) }
    }
}

impl From<&NamedEngine> for FallbackBody {
    fn from(engine: &NamedEngine) -> Self {
        Self { id: engine.id.clone(), scenario: engine.scenario.clone() }
    }
}

impl ProjectView {
    pub fn of(project: &Project, updated_at: Timestamp) -> Self {
        let (reason, head) = match &project.state {
            ProjectState::Pending => (None, None),
            ProjectState::Ready { head, .. } => (None, head.clone()),
            ProjectState::Failed { reason, .. } => (Some(reason.clone()), None),
        };
        Self {
            id: project.id.0,
            name: project.name.clone(),
            git_url: without_password(&project.git_url),
            base_branch: project.base_branch.clone(),
            ci_provider: project.ci_provider.clone(),
            default_models: project.default_models.clone(),
            has_api_token: project.api_token_hash.is_some(),
            engines: EnginesBody::from(&project.engines),
            checks: project.checks.clone(),
            status: project.state.name().to_owned(),
            reason,
            head,
            created_at: project.created_at.to_plain_string(),
            updated_at: updated_at.to_plain_string(),
        }
    }
}

/// An address whose user part, which may hold a password, is not shown.
pub fn without_password(address: &str) -> String {
    let Some((scheme, rest)) = address.split_once("://") else { return address.to_owned() };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    match authority.rsplit_once('@') {
        Some((user, host)) if user.contains(':') || scheme.starts_with("http") => format!("{scheme}://…@{host}{path}"),
        _ => address.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_in_addresses_are_not_shown() {
        assert_eq!(without_password("https://u:p@h/x.git"), "https://…@h/x.git");
        assert_eq!(without_password("https://token@h/x.git"), "https://…@h/x.git");
        assert_eq!(without_password("ssh://git@h/x.git"), "ssh://git@h/x.git");
        assert_eq!(without_password("git@h:x.git"), "git@h:x.git");
        assert_eq!(without_password("/srv/a@b"), "/srv/a@b");
    }
}
