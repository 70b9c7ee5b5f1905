//! What an engine is asked, what it answers, and which engines there are.
//!
//! An engine is a program. Its adapter turns a request into an argument list and the lines it prints into events; the
//! supervisor does the rest. The set is closed: an engine that is not in it is unavailable and never passes anything.

mod transcript;

pub use transcript::Transcript;

use crate::spec::{Limits, Stream};
use crate::{Launch, scripted, shell};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;

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
    /// The engine session to go on with.
    pub resume: Option<String>,
    /// The JSON schema that its structured answer has to meet.
    pub output_schema: Option<serde_json::Value>,
    pub limits: Limits,
    /// All of its environment.
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

/// What a particular engine has to be told besides.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// The command of `shell`.
    pub argv: Vec<String>,
    /// The scenario of `scripted`.
    pub scenario: Option<PathBuf>,
    /// This binary, for engines that are part of it.
    pub exe: PathBuf,
}

/// The engines that are built in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Engine {
    /// Runs a command as it is.
    Shell,
    /// Plays a scenario file.
    Scripted,
}

/// Why an engine cannot be asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    #[error("engine {engine} is not available here (available: {})", known.join(", "))]
    Unavailable { engine: String, known: Vec<&'static str> },
    #[error("engine {engine} needs {missing}")]
    Misconfigured { engine: &'static str, missing: &'static str },
    #[error("the path {path} is not UTF-8")]
    Path { path: String },
}

/// Something that happened in an engine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum EngineEvent {
    /// By this it can be resumed.
    Session {
        id: String,
    },
    Text {
        text: String,
    },
    Reasoning {
        text: String,
    },
    ToolStarted {
        id: String,
        name: String,
        input: String,
    },
    ToolFinished {
        id: String,
        ok: bool,
        output: String,
    },
    FileChanged {
        path: String,
        change: FileChange,
    },
    Usage(Usage),
    /// Something about the engine itself.
    Notice {
        text: String,
    },
    /// It cannot go on without an answer.
    Question {
        text: String,
    },
    Finished(Finished),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileChange {
    Written,
    Deleted,
}

/// What was used up since the last such event. What is not known is absent, never zero.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Usage {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_tokens: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_tokens: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_tokens: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_micro_usd: Option<u64>,
}

/// An engine's last word.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finished {
    pub outcome: EngineOutcome,
    pub message: String,
    /// Its structured answer, where one was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub structured: Option<serde_json::Value>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EngineOutcome {
    Completed,
    Failed,
}

/// The engine with this id, if it is built in.
pub fn find(id: &str) -> Option<Engine> {
    Engine::ALL.into_iter().find(|engine| engine.id() == id)
}

/// The engine with this id, or the error that says which ones there are.
pub fn require(id: &str) -> Result<Engine, EngineError> {
    find(id).ok_or_else(|| EngineError::Unavailable {
        engine: host::text::one_line(id, 100),
        known: Engine::ALL.iter().map(|engine| engine.id()).collect(),
    })
}

impl Engine {
    pub const ALL: [Self; 2] = [Self::Shell, Self::Scripted];

    /// Its name in specs, policies and on the wire.
    pub fn id(self) -> &'static str {
        match self {
            Self::Shell => "shell",
            Self::Scripted => "scripted",
        }
    }

    /// How it is called wherever its output is shown.
    pub fn label(self) -> &'static str {
        match self {
            Self::Shell => "shell",
            Self::Scripted => "scripted",
        }
    }

    /// Whether what it says was written beforehand by a person.
    pub fn is_scripted(self) -> bool {
        matches!(self, Self::Scripted)
    }

    /// The program and arguments that carry out a request.
    pub fn argv_for(self, request: &EngineRequest) -> Result<Vec<String>, EngineError> {
        match self {
            Self::Shell => shell::argv_for(request),
            Self::Scripted => scripted::argv_for(request),
        }
    }

    /// The stream that its events are read from.
    pub fn stream(self) -> Stream {
        match self {
            Self::Shell => Stream::Output,
            Self::Scripted => Stream::Stdout,
        }
    }

    /// What to start for a request; deadline and nonce are the caller's to set.
    pub fn launch(self, request: &EngineRequest) -> Result<Launch, EngineError> {
        let argv = self.argv_for(request)?;
        let mut launch = Launch::new(&request.attempt_dir, argv, &request.worktree);
        launch.env.clone_from(&request.env);
        launch.limits = request.limits;
        launch.merge_stderr = self.stream() == Stream::Output;
        Ok(launch)
    }

    /// What one line of its output means.
    pub fn parse_line(self, state: &mut ParseState, line: &str) -> Vec<EngineEvent> {
        let events = match self {
            Self::Shell => shell::parse_line(line),
            Self::Scripted => scripted::parse_line(line),
        };
        for event in &events {
            if let EngineEvent::Finished(finished) = event {
                state.finished = Some(finished.clone());
            }
        }
        events
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
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

/// What has to be remembered from line to line.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ParseState {
    /// The engine's last word, if it has been said.
    pub finished: Option<Finished>,
}

impl Finished {
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self { outcome: EngineOutcome::Failed, message: message.into(), structured: None }
    }
}

impl EngineEvent {
    /// The same event with nothing in its texts that could harm whoever looks at it.
    pub(crate) fn cleaned(self) -> Self {
        let clean = |text: String| host::text::clean(text);
        match self {
            Self::Session { id } => Self::Session { id: host::text::one_line(id, 200) },
            Self::Text { text } => Self::Text { text: clean(text) },
            Self::Reasoning { text } => Self::Reasoning { text: clean(text) },
            Self::ToolStarted { id, name, input } => {
                Self::ToolStarted { id: clean(id), name: clean(name), input: clean(input) }
            }
            Self::ToolFinished { id, ok, output } => Self::ToolFinished { id: clean(id), ok, output: clean(output) },
            Self::FileChanged { path, change } => Self::FileChanged { path: clean(path), change },
            Self::Usage(usage) => Self::Usage(usage),
            Self::Notice { text } => Self::Notice { text: clean(text) },
            Self::Question { text } => Self::Question { text: clean(text) },
            // The structured answer is checked against its schema, not shown as it is.
            Self::Finished(finished) => Self::Finished(Finished { message: clean(finished.message), ..finished }),
        }
    }
}

#[cfg(test)]
mod tests;
