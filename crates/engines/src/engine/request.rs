//! One piece of work for an engine, with everything that it may and may not use.

use super::event::{Permissions, Usage};
use super::json::is_plain_name;
use super::{Asking, McpServer};
use crate::sandbox::Profile;
use crate::spec::Limits;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::{Path, PathBuf};

/// One piece of work for an engine.
#[derive(Debug, Clone)]
pub struct EngineRequest {
    pub subject: Subject,
    pub prompt: String,
    /// The checkout it works in.
    pub worktree: PathBuf,
    /// Where its supervisor keeps what belongs to the attempt.
    pub attempt_dir: PathBuf,
    pub model: Option<String>,
    /// How hard the model is to think, in the engine's own word, such as `low` or `high`.
    pub effort: Option<String>,
    /// After how many turns it is to stop, where the engine can count them.
    pub max_turns: Option<u32>,
    pub session: Session,
    /// What a session that is gone on with had used before, as far as it was told.
    pub spent: Usage,
    /// The JSON schema that its structured answer has to meet.
    pub output_schema: Option<serde_json::Value>,
    pub mcp_servers: Vec<McpServer>,
    pub endpoint: Endpoint,
    /// How far its tools may reach.
    pub access: Profile,
    pub limits: Limits,
    /// All of its environment, the engine's own variables aside.
    pub env: Vec<(String, String)>,
    pub settings: Settings,
}

/// What a piece of work is about, for engines that are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    pub phase: Phase,
    /// The step's name.
    pub step: String,
    pub attempt: u32,
}

/// What a piece of work is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    Plan,
    Setup,
    Work,
    Qa,
}

/// The conversation that the work belongs to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Session {
    /// A new one; the engine says what it is called.
    #[default]
    New,
    /// A new one that is called this: known before the start, so that a crash at once can be continued.
    Preset(String),
    /// Goes on with one.
    Resume(String),
}

/// Where the model is, and what opens it. What is not said is the engine's own default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Endpoint {
    pub base_url: Option<String>,
    pub key: Option<Key>,
}

/// A secret that opens a model. It is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    /// The variable that it was found in.
    variable: String,
    secret: String,
}

/// What a particular engine has to be told besides.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// The command of `shell`.
    pub argv: Vec<String>,
    /// The scenario of `scripted`.
    pub scenario: Option<PathBuf>,
    /// This binary, for engines that are part of it.
    pub exe: PathBuf,
    /// The program of a real engine, with whatever has to stand before our own arguments.
    pub command: Vec<String>,
    /// What people add behind our own arguments.
    pub extra_args: Vec<String>,
    /// What an engine that asks may do without anybody being asked, as names of tools.
    pub allowed_tools: Vec<String>,
    /// What becomes of everything else that it asks for.
    pub permissions: Permissions,
    /// Codex is to be run as a server, also when it asks nobody.
    pub app_server: bool,
    /// How the answers of people reach it.
    pub asking: Option<Asking>,
    /// The engine's command line is already inside a sandbox of ours, so that it needs none of its own.
    pub sandboxed: bool,
}

/// Why an engine cannot be asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    #[error("engine {engine} is not available here (available: {})", known.join(", "))]
    Unavailable { engine: String, known: Vec<String> },
    #[error("engine {engine} needs {missing}")]
    Misconfigured { engine: &'static str, missing: &'static str },
    #[error("engine {engine} cannot {wanted}")]
    Unable { engine: &'static str, wanted: &'static str },
    #[error("the path {path} is not UTF-8")]
    Path { path: String },
    #[error("{what} is not a plain name: {name}")]
    Name { what: &'static str, name: String },
    #[error("cannot prepare the engine's files: {message}")]
    Files { message: String },
}

impl EngineRequest {
    /// A request with nothing beyond the work itself.
    pub fn new(subject: Subject, prompt: impl Into<String>, worktree: &Path, attempt_dir: &Path) -> Self {
        Self {
            subject,
            prompt: prompt.into(),
            worktree: worktree.to_owned(),
            attempt_dir: attempt_dir.to_owned(),
            model: None,
            effort: None,
            max_turns: None,
            session: Session::New,
            spent: Usage::default(),
            output_schema: None,
            mcp_servers: Vec::new(),
            endpoint: Endpoint::default(),
            access: Profile::Workspace,
            limits: Limits::default(),
            env: Vec::new(),
            settings: Settings::default(),
        }
    }

    /// The directory that the engine has to itself: its HOME, its configuration, its sessions.
    pub fn home(&self) -> PathBuf {
        self.attempt_dir.join("home")
    }

    /// What the engine's configuration must not be able to carry: names that become keys or arguments.
    pub(crate) fn check(&self) -> Result<(), EngineError> {
        let refuse = |what, name: &str| Err(EngineError::Name { what, name: host::text::one_line(name, 100) });
        if let Some(model) = self.model.as_deref().filter(|model| !is_plain_name(model)) {
            return refuse("the model", model);
        }
        if let Some(effort) = self.effort.as_deref().filter(|effort| !is_plain_name(effort)) {
            return refuse("the effort", effort);
        }
        for server in &self.mcp_servers {
            server.check()?;
        }
        match &self.session {
            Session::Preset(id) | Session::Resume(id) if !is_plain_name(id) => refuse("the session", id),
            Session::New | Session::Preset(_) | Session::Resume(_) => Ok(()),
        }
    }

    /// The command to start: as configured, else the engine's own name.
    pub(crate) fn command(&self, name: &str) -> Vec<String> {
        if self.settings.command.is_empty() { vec![name.to_owned()] } else { self.settings.command.clone() }
    }
}

impl Phase {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Plan => "plan",
            Self::Setup => "setup",
            Self::Work => "work",
            Self::Qa => "qa",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Self::Plan, Self::Setup, Self::Work, Self::Qa].into_iter().find(|phase| phase.as_str() == text)
    }
}

impl Session {
    /// The name of the session, where it is known before the start.
    pub fn id(&self) -> Option<&str> {
        match self {
            Self::New => None,
            Self::Preset(id) | Self::Resume(id) => Some(id),
        }
    }
}

impl Key {
    pub fn new(variable: impl Into<String>, secret: impl Into<String>) -> Self {
        Self { variable: variable.into(), secret: secret.into() }
    }

    /// The name under which engines that have no name of their own for it are given it.
    pub fn variable(&self) -> &str {
        &self.variable
    }

    /// The secret itself, for the one process that needs it.
    pub fn reveal(&self) -> &str {
        &self.secret
    }

    /// As an `Authorization` says it.
    pub(crate) fn as_bearer(&self) -> String {
        format!("Bearer {}", self.secret)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

/// A path as an argument.
pub(crate) fn utf8(path: &Path) -> Result<String, EngineError> {
    let shown = || EngineError::Path { path: host::text::clean(path.to_string_lossy().as_bytes()) };
    path.to_str().map(str::to_owned).ok_or_else(shown)
}
