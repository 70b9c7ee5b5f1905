//! Projects: a repository and its settings.
//!
//! Setting one up means fetching its repository; until that succeeded nothing can be planned on it. The address is
//! looked at here only far enough to refuse what nobody could mean; git's own types decide what it is.

mod engines;

use serde::{Deserialize, Serialize};

pub use self::engines::{EngineChoice, Engines, Line, NamedEngine, Reviewer};
use crate::{
    aggregate::Aggregate,
    commit::{Subject, SubjectKind},
    decision::{Context, Decision},
    ids::{PersonId, ProjectId},
    spec::SpecProblem,
    task::{Effect, TaskKind},
    time::Timestamp,
};

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Project {
    pub id: ProjectId,
    pub name: String,
    /// A path on this machine or an address.
    pub git_url: String,
    pub base_branch: String,
    pub ci_provider: Option<String>,
    /// Model by phase (`planning`, `exec`, `qa`).
    pub default_models: serde_json::Map<String, serde_json::Value>,
    /// SHA-256 of the `api_token` secret, hex.
    pub api_token_hash: Option<String>,
    pub engines: Engines,
    /// Commands that judge every step's result, each as argv.
    pub checks: Vec<Vec<String>>,
    pub created_by: Option<PersonId>,
    pub created_at: Timestamp,
    pub state: ProjectState,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum ProjectState {
    /// The repository was not fetched yet.
    Pending,
    Ready {
        head: Option<String>,
        at: Timestamp,
    },
    Failed {
        reason: String,
        at: Timestamp,
    },
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ProjectEvent {
    Created { project: Box<Project> },
    SetupEnqueued,
    SetupStarted { worker: String },
    SetupCompleted { head: Option<String>, at: Timestamp },
    SetupFailed { reason: String, at: Timestamp },
}

/// What may be asked of a project.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ProjectCommand {
    /// Fetch again, after a failure or because the repository moved.
    Setup,
    SetupStarted {
        worker: String,
    },
    SetupCompleted {
        head: Option<String>,
    },
    SetupFailed {
        reason: String,
    },
}

/// What a project is made of.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct NewProject {
    pub id: ProjectId,
    pub name: String,
    pub git_url: String,
    /// `main` when missing.
    pub base_branch: Option<String>,
    pub ci_provider: Option<String>,
    pub default_models: serde_json::Map<String, serde_json::Value>,
    pub api_token_hash: Option<String>,
    pub engines: Engines,
    pub checks: Vec<Vec<String>>,
    pub created_by: Option<PersonId>,
}

/// Why a project refused. Every variant is the caller's to fix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProjectError {
    #[error("{}", problems.iter().map(|problem| format!("{}: {}", problem.path, problem.message)).collect::<Vec<_>>().join("; "))]
    Invalid { problems: Vec<SpecProblem> },
    #[error("project {project} is already being set up")]
    AlreadyPending { project: ProjectId },
}

/// `(from, event, to)` for every transition there is.
pub const TRANSITIONS: &[(&str, &str, &str)] = &[
    ("", "project_created", "pending"),
    ("pending", "setup_completed", "ready"),
    ("pending", "setup_failed", "failed"),
    ("ready", "setup_enqueued", "pending"),
    ("failed", "setup_enqueued", "pending"),
];

impl ProjectState {
    pub const NAMES: [&str; 3] = ["pending", "ready", "failed"];

    pub fn name(&self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Ready { .. } => "ready",
            Self::Failed { .. } => "failed",
        }
    }
}

impl Project {
    pub fn subject(&self) -> Subject {
        Subject::new(SubjectKind::Project, &self.id)
    }

    /// What making a project decides: it exists, and its repository is to be fetched.
    pub fn create(new: NewProject, context: &Context) -> Result<Decision<ProjectEvent>, ProjectError> {
        let problems = check(&new);
        if !problems.is_empty() {
            return Err(ProjectError::Invalid { problems });
        }
        let project = Self {
            id: new.id,
            name: new.name,
            git_url: new.git_url,
            base_branch: new.base_branch.unwrap_or_else(|| "main".to_owned()),
            ci_provider: new.ci_provider,
            default_models: new.default_models,
            api_token_hash: new.api_token_hash,
            engines: new.engines,
            checks: new.checks,
            created_by: new.created_by,
            created_at: context.now,
            state: ProjectState::Pending,
        };
        let effect = project.setup_effect();
        let created = ProjectEvent::Created { project: Box::new(project) };
        Ok(Decision::of([created, ProjectEvent::SetupEnqueued]).then(effect))
    }

    /// Decides what a command does to this project, without doing it.
    pub fn decide(&self, command: &ProjectCommand, context: &Context) -> Result<Decision<ProjectEvent>, ProjectError> {
        let pending = self.state == ProjectState::Pending;
        let at = context.now;
        match command {
            ProjectCommand::Setup if pending => Err(ProjectError::AlreadyPending { project: self.id }),
            ProjectCommand::Setup => Ok(Decision::of([ProjectEvent::SetupEnqueued]).then(self.setup_effect())),
            // Setting up converges: who comes second finds it done and changes nothing.
            ProjectCommand::SetupStarted { .. }
            | ProjectCommand::SetupCompleted { .. }
            | ProjectCommand::SetupFailed { .. }
                if !pending =>
            {
                Ok(Decision::nothing())
            }
            ProjectCommand::SetupStarted { worker } => {
                Ok(Decision::of([ProjectEvent::SetupStarted { worker: worker.clone() }]))
            }
            ProjectCommand::SetupCompleted { head } => {
                Ok(Decision::of([ProjectEvent::SetupCompleted { head: head.clone(), at }]))
            }
            ProjectCommand::SetupFailed { reason } => {
                Ok(Decision::of([ProjectEvent::SetupFailed { reason: reason.clone(), at }]))
            }
        }
    }

    fn setup_effect(&self) -> Effect {
        let mut effect = Effect::new(TaskKind::ProjectSetup, self.subject());
        effect.project = Some(self.id.0);
        effect
    }
}

impl Aggregate for Project {
    type Event = ProjectEvent;

    const KIND: SubjectKind = SubjectKind::Project;

    fn id(&self) -> String {
        self.id.to_string()
    }

    fn created(event: &ProjectEvent) -> Option<Self> {
        match event {
            ProjectEvent::Created { project } => Some((**project).clone()),
            ProjectEvent::SetupEnqueued
            | ProjectEvent::SetupStarted { .. }
            | ProjectEvent::SetupCompleted { .. }
            | ProjectEvent::SetupFailed { .. } => None,
        }
    }

    fn apply(&mut self, event: &ProjectEvent) {
        match event {
            ProjectEvent::Created { project } => *self = (**project).clone(),
            ProjectEvent::SetupEnqueued => self.state = ProjectState::Pending,
            ProjectEvent::SetupStarted { .. } => {}
            ProjectEvent::SetupCompleted { head, at } => {
                self.state = ProjectState::Ready { head: head.clone(), at: *at };
            }
            ProjectEvent::SetupFailed { reason, at } => {
                self.state = ProjectState::Failed { reason: reason.clone(), at: *at };
            }
        }
    }

    fn event_name(event: &ProjectEvent) -> &'static str {
        match event {
            ProjectEvent::Created { .. } => "project_created",
            ProjectEvent::SetupEnqueued => "setup_enqueued",
            ProjectEvent::SetupStarted { .. } => "setup_started",
            ProjectEvent::SetupCompleted { .. } => "setup_completed",
            ProjectEvent::SetupFailed { .. } => "setup_failed",
        }
    }

    fn project_of(&self, _event: &ProjectEvent) -> Option<i64> {
        Some(self.id.0)
    }
}

fn check(new: &NewProject) -> Vec<SpecProblem> {
    let mut problems = Vec::new();
    let mut refuse = |key: &str, message: &str| problems.push(SpecProblem::new(key, message));
    let hidden = |text: &str| text.chars().any(|c| c.is_control() || crate::text::is_hidden(c));
    if new.name.trim().is_empty() || new.name.len() > 200 || hidden(&new.name) {
        refuse("name", "between 1 and 200 bytes, without characters that cannot be seen");
    }
    if !is_source(&new.git_url) {
        refuse(
            "git_url",
            "expected an absolute path, or an address that begins with https://, http://, ssh:// or git@",
        );
    }
    if new.base_branch.as_deref().is_some_and(|branch| !is_branch_name(branch)) {
        refuse("base_branch", "not a name that git accepts for a branch");
    }
    if !matches!(new.ci_provider.as_deref(), None | Some("github" | "gitlab")) {
        refuse("ci_provider", "expected github or gitlab");
    }
    let engines = [("planning", &new.engines.planning), ("execution", &new.engines.execution), ("qa", &new.engines.qa)];
    for (phase, choice) in engines {
        if let Some((key, message)) = choice.as_ref().and_then(EngineChoice::problem) {
            refuse(&format!("engines.{phase}{key}"), message);
        }
    }
    for argv in &new.checks {
        if let Some(message) = crate::spec::argv_problem(argv) {
            refuse("checks", &message);
        }
    }
    problems
}

/// Whether a text can be meant as a repository's place: never an option, a command or a helper's address.
pub fn is_source(text: &str) -> bool {
    let plain = !text.is_empty()
        && text.len() <= 2048
        && !text.chars().any(|c| c.is_control() || c.is_whitespace() && c != ' ' || crate::text::is_hidden(c));
    let known = ["/", "https://", "http://", "ssh://", "git@"].iter().any(|start| text.starts_with(start));
    let after_scheme = text.split_once("://").map_or("", |(_, rest)| rest);
    plain && known && !text.contains("::") && !after_scheme.starts_with('-')
}

/// Whether git accepts a branch of this name, and whether it is one that people write: a strict subset of its rules.
pub fn is_branch_name(name: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty() && !part.starts_with(['.', '-']) && !part.ends_with('.') && !part.ends_with(".lock")
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/' | '+');
    name.len() <= 200 && name.chars().all(plain) && !name.contains("..") && name.split('/').all(part) && name != "HEAD"
}

#[cfg(test)]
mod tests;
