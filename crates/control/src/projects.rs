//! Commands to projects.

use std::collections::BTreeMap;

use domain::{
    commit::Table,
    ids::{PersonId, ProjectId},
    project::{Engines, NewProject, Project, ProjectCommand, ProjectEvent},
};
use serde_json::{Map, Value};

use crate::{Cause, Changed, Control, error::CommandError, ledger::Rendered};

/// The secret that a project may have until there is a place to keep others.
const API_TOKEN: &str = "api_token";

/// A request for a project, as it came in.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CreateProject {
    pub name: String,
    pub git_url: String,
    pub base_branch: Option<String>,
    pub ci_provider: Option<String>,
    pub default_models: Map<String, Value>,
    /// Only `api_token` can be kept, as a hash.
    pub secrets: BTreeMap<String, String>,
    pub engines: Engines,
    pub checks: Vec<Vec<String>>,
    pub created_by: Option<PersonId>,
}

impl Control {
    /// Creates a project and asks for its setup.
    pub async fn create_project(
        &self,
        request: CreateProject,
        cause: &Cause,
        render: impl Fn(&Project) -> Rendered,
    ) -> Result<Changed<Project, ProjectEvent>, CommandError> {
        let api_token_hash = hash_of_secrets(&request.secrets)?;
        let mut new = NewProject {
            // A number is drawn only for what passes the rules.
            id: ProjectId(0),
            name: request.name,
            git_url: request.git_url,
            base_branch: request.base_branch,
            ci_provider: request.ci_provider,
            default_models: request.default_models,
            api_token_hash,
            engines: request.engines,
            checks: request.checks,
            created_by: request.created_by,
        };
        Project::create(new.clone(), &self.clock().context())?;
        new.id = ProjectId(self.store().next_number(Table::Projects).await?);
        let decide = |context: &_| {
            let decision = Project::create(new.clone(), context);
            (&new, decision.unwrap_or_else(|_| domain::decision::Decision::nothing()))
        };
        self.create(cause, decide, render).await
    }

    /// Gives a project any command and makes everything that follows from it durable.
    pub async fn command_project(
        &self,
        id: ProjectId,
        command: ProjectCommand,
        cause: &Cause,
        render: impl Fn(&Project) -> Rendered,
    ) -> Result<Changed<Project, ProjectEvent>, CommandError> {
        let decide = |project: &Project, context: &_| project.decide(&command, context);
        self.command(&id.to_string(), &command, cause, decide, render).await
    }

    /// Whether a project's own token is this one. A project without one accepts none.
    pub fn is_project_token(project: &Project, given: &str) -> bool {
        let hash = host::hash::sha256_hex(given.as_bytes());
        let known = project.api_token_hash.as_deref();
        known.is_some_and(|known| host::hash::constant_time_eq(known.as_bytes(), hash.as_bytes()))
    }
}

fn hash_of_secrets(secrets: &BTreeMap<String, String>) -> Result<Option<String>, CommandError> {
    let unknown = secrets.keys().filter(|name| *name != API_TOKEN).map(|name| host::text::one_line(name, 100));
    let problems: Vec<String> = unknown
        .map(|name| format!("secrets.{name}: only {API_TOKEN} can be kept until there is a store for secrets"))
        .collect();
    if !problems.is_empty() {
        return Err(CommandError::Invalid { code: "secrets_not_available", problems });
    }
    match secrets.get(API_TOKEN) {
        None => Ok(None),
        Some(token) if token.len() >= 16 && token.len() <= 500 => Ok(Some(host::hash::sha256_hex(token.as_bytes()))),
        Some(_) => Err(CommandError::Invalid {
            code: "weak_api_token",
            problems: vec![format!("secrets.{API_TOKEN}: between 16 and 500 bytes")],
        }),
    }
}
