//! The scenario file, as it is written.

use crate::engine::{Phase, Subject, Usage};
use host::path::RelPath;
use serde::Deserialize;
use std::path::{Path, PathBuf};

const MAX_FILE: u64 = 4 << 20;

/// What the scripted engine does, for each piece of work that it may be asked for.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    pub version: u32,
    #[serde(default)]
    pub title: String,
    pub scenes: Vec<Scene>,
}

/// What it does for one piece of work.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scene {
    pub phase: Option<Phase>,
    pub step: Option<String>,
    pub attempt: Option<u32>,
    pub actions: Vec<Action>,
}

/// One thing that it does. Without `fail`, `exit` or `hang` a scene ends as completed.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub enum Action {
    /// Says something.
    Message { text: String },
    /// Thinks aloud.
    Reasoning { text: String },
    /// Names its session.
    Session { id: String },
    /// Sets its structured answer, which it gives when it finishes; `plan` is the same word for a planning answer.
    #[serde(alias = "plan")]
    Answer { value: serde_json::Value },
    /// Writes a whole file beneath the worktree.
    Write {
        path: String,
        text: String,
        #[serde(default)]
        executable: bool,
    },
    /// Adds to the end of a file.
    Append { path: String, text: String },
    /// Replaces every occurrence of a text in a file; fails when there is none.
    Replace { path: String, find: String, with: String },
    /// Removes a file.
    Delete { path: String },
    /// Says that it used a tool, without using one.
    Tool {
        name: String,
        #[serde(default)]
        input: String,
        #[serde(default)]
        output: String,
    },
    /// Reports usage.
    Usage(Usage),
    /// Waits.
    Delay { ms: u64 },
    /// Asks something that it cannot go on without.
    Question { text: String },
    /// Finishes as failed.
    Fail { message: String },
    /// Ends at once, without a last word.
    Exit { code: i32 },
    /// Never ends by itself.
    Hang,
    /// Does not listen to SIGTERM from now on.
    IgnoreTerm,
    /// Starts a process that leaves its session and lives for that long.
    SpawnChild { ms: u64 },
    /// Prints a line that is not an event.
    Noise { text: String },
}

/// Why a scenario cannot be played.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    #[error("cannot read the scenario: {0}")]
    File(#[source] host::fs::FsError),
    #[error("the scenario {path} is not understood: {message}")]
    Malformed { path: PathBuf, message: String },
    #[error("the scenario {path} has version {version}, known is 1")]
    Version { path: PathBuf, version: u32 },
    #[error("the scenario {path} edits {edited}: {reason}")]
    Path { path: PathBuf, edited: String, reason: host::path::RelPathError },
}

/// Reads and checks a scenario file: TOML, or JSON when its name ends in `.json`.
pub fn load(path: &Path) -> Result<Scenario, ScenarioError> {
    parse(&host::fs::read_text(path, MAX_FILE).map_err(ScenarioError::File)?, path)
}

/// Reads and checks what is in a scenario file; its name says how it is written.
pub fn parse(text: &str, path: &Path) -> Result<Scenario, ScenarioError> {
    let scenario: Scenario = if path.extension().is_some_and(|ending| ending == "json") {
        serde_json::from_str(text).map_err(|error| error.to_string())
    } else {
        toml::from_str(text).map_err(|error| error.to_string())
    }
    .map_err(|message| ScenarioError::Malformed { path: path.to_owned(), message })?;
    if scenario.version != 1 {
        return Err(ScenarioError::Version { path: path.to_owned(), version: scenario.version });
    }
    for edited in scenario.scenes.iter().flat_map(|scene| &scene.actions).filter_map(Action::path) {
        RelPath::parse(edited).map_err(|reason| ScenarioError::Path {
            path: path.to_owned(),
            edited: host::text::one_line(edited, 200),
            reason,
        })?;
    }
    Ok(scenario)
}

impl Scenario {
    /// The scene for a piece of work.
    pub fn scene_for(&self, subject: &Subject) -> Option<&Scene> {
        self.scenes.iter().find(|scene| {
            scene.phase.is_none_or(|phase| phase == subject.phase)
                && scene.step.as_ref().is_none_or(|step| *step == subject.step)
                && scene.attempt.is_none_or(|attempt| attempt == subject.attempt)
        })
    }
}

impl Action {
    fn path(&self) -> Option<&str> {
        match self {
            Self::Write { path, .. }
            | Self::Append { path, .. }
            | Self::Replace { path, .. }
            | Self::Delete { path } => Some(path),
            _ => None,
        }
    }
}
