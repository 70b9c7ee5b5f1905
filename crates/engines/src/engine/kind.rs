//! The adapters that there are, and what each of them can do.

use super::{EngineError, EngineEvent, EngineRequest, ParseState, Permissions, Prepared, Usage};
use crate::spec::Stream;
use crate::{Launch, acp, claude, codemachine, codex, gemini, opencode, scripted, shell};
use std::fmt;
use std::path::Path;

/// One adapter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Engine {
    /// Runs a command as it is.
    Shell,
    /// Plays a scenario file.
    Scripted,
    Codex,
    Claude,
    Opencode,
    Gemini,
    /// Any agent that speaks the Agent Client Protocol; the configuration says which.
    Acp,
    CodeMachine,
}

/// What can be asked of an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// It takes a JSON schema itself; the others are asked in words. Either way the answer is checked here.
    pub schema: bool,
    /// A session can be gone on with.
    pub resume: bool,
    /// The name of a session can be chosen before the start.
    pub preset_session: bool,
    /// It says what it cost.
    pub cost: bool,
    /// It says how many tokens it used.
    pub usage: bool,
    /// It says when it is refused a tool, or asks for it.
    pub permissions: bool,
    /// It can wait for people to say whether it may use a tool.
    pub asks: bool,
    /// It takes servers of tools.
    pub mcp: bool,
    /// It keeps its tools from writing where they may not.
    pub own_sandbox: bool,
}

const NOTHING: Capabilities = Capabilities {
    schema: false,
    resume: false,
    preset_session: false,
    cost: false,
    usage: false,
    permissions: false,
    asks: false,
    mcp: false,
    own_sandbox: false,
};

/// The adapter with this id, if there is one that needs no configuration to be named.
pub fn find(id: &str) -> Option<Engine> {
    Engine::ALL.into_iter().find(|engine| engine.id() == id)
}

impl Engine {
    /// Those that have a name of their own.
    pub const ALL: [Self; 7] =
        [Self::Shell, Self::Scripted, Self::Codex, Self::Claude, Self::Opencode, Self::Gemini, Self::CodeMachine];

    /// Its name in specs, policies and on the wire.
    pub fn id(self) -> &'static str {
        match self {
            Self::Shell => "shell",
            Self::Scripted => "scripted",
            Self::Codex => "codex",
            Self::Claude => "claude",
            Self::Opencode => "opencode",
            Self::Gemini => "gemini",
            Self::Acp => "acp",
            Self::CodeMachine => "codemachine",
        }
    }

    /// How it is called wherever its output is shown.
    pub fn label(self) -> &'static str {
        self.id()
    }

    /// Whether what it says was written beforehand by a person.
    pub fn is_scripted(self) -> bool {
        matches!(self, Self::Scripted)
    }

    /// Whether its exit code says nothing, so that only what it changed does.
    pub fn is_judged_by_its_diff(self) -> bool {
        matches!(self, Self::CodeMachine)
    }

    /// Whether it can be asked for a structured answer.
    pub fn answers(self) -> bool {
        match self {
            Self::Shell | Self::CodeMachine => false,
            Self::Scripted | Self::Codex | Self::Claude | Self::Opencode | Self::Gemini | Self::Acp => true,
        }
    }

    /// The program that is started unless the configuration names another; `None`: it is part of this binary, or a
    /// command of the step's.
    pub fn program(self) -> Option<&'static str> {
        match self {
            Self::Shell | Self::Scripted | Self::Acp => None,
            Self::Codex => Some("codex"),
            Self::Claude => Some("claude"),
            Self::Opencode => Some("opencode"),
            Self::Gemini => Some("gemini"),
            Self::CodeMachine => Some("codemachine"),
        }
    }

    pub fn capabilities(self) -> Capabilities {
        match self {
            Self::Shell | Self::CodeMachine => NOTHING,
            Self::Scripted => Capabilities { cost: true, usage: true, ..NOTHING },
            Self::Codex => Capabilities {
                schema: true,
                resume: true,
                usage: true,
                asks: true,
                mcp: true,
                own_sandbox: true,
                ..NOTHING
            },
            Self::Claude => Capabilities { own_sandbox: false, ..ALL },
            Self::Opencode => {
                Capabilities { resume: true, cost: true, usage: true, permissions: true, mcp: true, ..NOTHING }
            }
            Self::Gemini => Capabilities { resume: true, preset_session: true, usage: true, mcp: true, ..NOTHING },
            Self::Acp => Capabilities {
                resume: true,
                cost: true,
                usage: true,
                permissions: true,
                asks: true,
                mcp: true,
                ..NOTHING
            },
        }
    }

    /// The stream that its events are read from.
    pub fn stream(self) -> Stream {
        match self {
            Self::Shell | Self::CodeMachine => Stream::Output,
            Self::Scripted | Self::Codex | Self::Claude | Self::Opencode | Self::Gemini | Self::Acp => Stream::Stdout,
        }
    }

    /// What has to be there and what is to be started for a request. Nothing is touched yet.
    pub fn prepare(self, request: &EngineRequest) -> Result<Prepared, EngineError> {
        request.check()?;
        // What cannot be honoured is refused: an engine that nobody can ask would do as it likes.
        if request.settings.permissions != Permissions::Deny && !self.capabilities().asks {
            return Err(EngineError::Unable { engine: self.id(), wanted: "ask for permissions; it knows only `deny`" });
        }
        match self {
            Self::Shell => shell::prepare(request),
            Self::Scripted => scripted::prepare(request),
            Self::Codex => codex::prepare(request),
            Self::Claude => claude::prepare(request),
            Self::Opencode => opencode::prepare(request),
            Self::Gemini => gemini::prepare(request),
            Self::Acp => acp::prepare(request),
            Self::CodeMachine => codemachine::prepare(request),
        }
    }

    /// Writes what has to be there and says what to start; deadline and nonce are the caller's to set.
    pub fn launch(self, request: &EngineRequest) -> Result<Launch, EngineError> {
        let prepared = self.prepare(request)?;
        prepared.write()?;
        let mut launch = Launch::new(&request.attempt_dir, prepared.argv, &request.worktree);
        launch.env.clone_from(&request.env);
        launch.env.extend(prepared.env);
        launch.limits = request.limits;
        launch.merge_stderr = self.stream() == Stream::Output;
        Ok(launch)
    }

    /// What one line of its output means, not yet cleaned.
    pub(crate) fn parse(self, state: &mut ParseState, line: &str) -> Vec<EngineEvent> {
        match self {
            Self::Shell | Self::CodeMachine => shell::parse_line(line),
            Self::Scripted | Self::Acp => scripted::parse_line(state, line),
            Self::Codex => codex::parse_line(state, line),
            Self::Claude => claude::parse_line(state, line),
            Self::Opencode => opencode::parse_line(state, line),
            Self::Gemini => gemini::parse_line(state, line),
        }
    }

    /// What a session has used in all by the engine's own files, where it keeps such. `home` is the engine's alone.
    pub(super) fn session_total(self, session: &str, home: &Path) -> Option<Usage> {
        match self {
            Self::Codex => codex::rollout::total(&home.join(codex::HOME), session),
            Self::Claude => claude::sessions::total(home, session),
            Self::Gemini => gemini::sessions::total(home, session),
            // opencode says of each step what it used, as soon as it is done.
            Self::Shell | Self::Scripted | Self::Opencode | Self::Acp | Self::CodeMachine => None,
        }
    }
}

const ALL: Capabilities = Capabilities {
    schema: true,
    resume: true,
    preset_session: true,
    cost: true,
    usage: true,
    permissions: true,
    asks: true,
    mcp: true,
    own_sandbox: true,
};

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}
