//! Engines that are talked with: a driver of ours inside the tree holds the conversation, with the engine as its child.
//!
//! An engine is a tree whose output is a file; that is what lets it outlive its worker. One that asks and waits for an
//! answer needs somebody who lives as long as it does. The driver is that: it answers by policy what the policy answers,
//! tells what people have to answer, and waits for their word ([`answers`]). Each conversation is a machine without input
//! or output of its own ([`Conversation`]), so that recorded ones can be replayed; [`driver`] carries it out.

pub(crate) mod answers;
mod driver;
pub(crate) mod permissions;
mod questions;

pub(crate) use driver::run;
pub(crate) use permissions::Policy;
pub(crate) use questions::{Questions, wanted};

use crate::engine::{EngineError, EngineEvent, EngineRequest, ErrorClass, Permission, Prepared, Wanted, utf8};
use answers::Answer;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use std::path::Path;

/// What is to be done after something was heard.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Out {
    Send(Value),
    Tell(EngineEvent),
    /// A line of the engine's that is told as it is.
    Pass(String),
    /// Nothing more will be sent.
    Close,
    /// Nothing more will be said.
    Done {
        ok: bool,
    },
}

/// Why nothing more will be heard of an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lost {
    /// It ended, or closed its output.
    Ended,
    /// A signal ended it.
    Killed { signal: i32 },
    /// It was asked to stop and did not say that it had.
    Deaf,
    /// Somebody wants it to end, and there is nothing to ask it to stop.
    Unwanted,
}

impl Lost {
    pub(crate) fn class(self) -> ErrorClass {
        match self {
            Self::Killed { .. } => ErrorClass::Killed,
            Self::Ended | Self::Deaf | Self::Unwanted => ErrorClass::ProtocolError,
        }
    }
}

impl std::fmt::Display for Lost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ended => f.write_str("ended"),
            Self::Killed { signal } => write!(f, "was ended by signal {signal}"),
            Self::Deaf => f.write_str("did not stop when it was asked to"),
            Self::Unwanted => f.write_str("was told to end"),
        }
    }
}

/// One side of a conversation, ours.
pub(crate) trait Conversation {
    /// What the answer to a question of the engine's needs.
    type Waiting;

    fn start(&mut self) -> Vec<Out>;
    /// Takes one line of the engine's.
    fn receive(&mut self, line: &str) -> Vec<Out>;
    /// Nothing came for a moment: what is held back to be told in one piece is told.
    fn pause(&mut self) -> Vec<Out>;
    /// Asks the engine to stop what it does.
    fn cancel(&mut self) -> Option<Value>;
    /// The engine is gone before its answer came.
    fn lost(&mut self, how: Lost) -> Vec<Out>;
    /// What people are asked, one after the other.
    fn questions(&mut self) -> &mut Questions<Self::Waiting>;
    /// Answers a question on the wire and tells what it came to. `by`: which question it was and who answered, where it
    /// was not the policy.
    fn reply(&mut self, answer: Permission, waiting: &Self::Waiting, by: Option<(String, String)>) -> Vec<Out>;

    /// What people are asked at the moment.
    fn question(&mut self) -> Option<&Wanted> {
        self.questions().first()
    }

    /// People answered what they were asked.
    fn answered(&mut self, answer: &Answer) -> Vec<Out> {
        let Some((wanted, waiting)) = self.questions().settle() else { return Vec::new() };
        let permission = if answer.allowed { Permission::Allowed } else { Permission::Denied };
        let mut out = self.reply(permission, &waiting, Some((wanted.question, answer.by.clone())));
        out.extend(self.questions().told());
        out
    }
}

/// What a driver is told: a private file that it reads and removes at its start, before the engine runs.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Script<S> {
    /// The engine and its arguments.
    pub(crate) command: Vec<String>,
    pub(crate) cwd: String,
    /// How answers of people reach the driver, where people are asked.
    pub(crate) asking: Option<answers::Asking>,
    /// What the conversation is about.
    pub(crate) about: S,
}

/// The command that runs a driver, with its script among the files.
pub(crate) fn prepare<S: Serialize>(
    request: &EngineRequest,
    subcommand: &str,
    command: Vec<String>,
    about: S,
) -> Result<Prepared, EngineError> {
    let path = request.home().join("driver.json");
    let script = Script { command, cwd: utf8(&request.worktree)?, asking: request.settings.asking.clone(), about };
    let text = serde_json::to_vec(&script).map_err(|error| EngineError::Files { message: error.to_string() })?;
    let exe = utf8(&request.settings.exe)?;
    Ok(Prepared::command(vec![exe, subcommand.to_owned(), format!("--script={}", utf8(&path)?)]).file(path, text))
}

fn read_script<S: DeserializeOwned>(path: &Path) -> Result<Script<S>, String> {
    const MAX_SCRIPT: u64 = 16 << 20;
    let bytes = host::fs::read(path, MAX_SCRIPT).map_err(|error| error.to_string())?;
    serde_json::from_slice(&bytes).map_err(|error| format!("the script is not understood: {error}"))
}
