//! What happens in an engine, in one vocabulary for all of them.
//!
//! Everything here was said by a program that reads hostile repositories. [`EngineEvent::cleaned`] is called once, where
//! a line becomes an event; what is stored and shown afterwards needs no second look.

use super::class::{ErrorClass, Reset};
use serde::{Deserialize, Serialize};

/// The most of a tool's input or output that an event carries; all of it is in the spool.
const MAX_TOOL_TEXT: usize = 32 * 1024;
const MAX_NAME: usize = 200;
const MAX_ID: usize = 200;
const MAX_PATHS: usize = 100;

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
    /// It asks whether it may, and waits for people.
    PermissionWanted(Wanted),
    /// It asked whether it may, and was answered.
    PermissionAsked(Asked),
    /// The model's host holds it back, or says how near it is to that.
    RateLimit(RateLimit),
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

/// A question of an engine whether it may use a tool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// The tool call that it is about.
    pub id: String,
    pub tool: String,
    pub input: String,
    pub answer: Permission,
    /// The number of the question, where people were asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub question: Option<String>,
    /// Who of them answered, or why nobody did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// A question that waits for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// Its number, drawn at random.
    pub question: String,
    /// The tool call that it is about.
    pub id: String,
    pub tool: String,
    pub input: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<String>,
    /// SHA-256 over all that was asked, hex.
    pub asked: String,
}

/// What becomes of a use of a tool that neither the configuration names nor the work needs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Permissions {
    #[default]
    Deny,
    /// People are asked, and the engine waits.
    Ask,
    Allow,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Permission {
    Allowed,
    Denied,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateLimit {
    /// Whether it is reached.
    pub reached: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reset: Option<Reset>,
    /// How much of it is used up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_percent: Option<u32>,
    pub text: String,
}

/// What was used up since the last such event. What is not known is absent, never zero.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Usage {
    /// All that was read, what came from a cache or went into one included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_tokens: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_tokens: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write_tokens: Option<u64>,
    /// All that was written, what was thought included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_tokens: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning_tokens: Option<u64>,
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
    /// What kind of failure it was, where that can be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<ErrorClass>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EngineOutcome {
    Completed,
    Failed,
}

impl Asked {
    /// Of a use of a tool that was answered without anybody being asked.
    pub(crate) fn by_policy(id: &str, tool: &str, input: String, answer: Permission) -> Self {
        Self { id: id.to_owned(), tool: tool.to_owned(), input, answer, question: None, by: None }
    }
}

impl Permissions {
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Deny, Self::Ask, Self::Allow].into_iter().find(|permissions| permissions.as_str() == text)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deny => "deny",
            Self::Ask => "ask",
            Self::Allow => "allow",
        }
    }
}

impl Finished {
    pub fn completed(message: impl Into<String>) -> Self {
        Self { outcome: EngineOutcome::Completed, message: message.into(), structured: None, class: None }
    }

    pub fn failed(message: impl Into<String>) -> Self {
        Self { outcome: EngineOutcome::Failed, message: message.into(), structured: None, class: None }
    }

    pub fn of_class(class: ErrorClass, message: impl Into<String>) -> Self {
        Self { class: Some(class), ..Self::failed(message) }
    }

    pub fn is_completed(&self) -> bool {
        self.outcome == EngineOutcome::Completed
    }
}

impl Usage {
    /// Adds what is known of more; what neither knows stays unknown.
    pub fn add(&mut self, more: &Self) {
        let add = |sum: &mut Option<u64>, more: Option<u64>| {
            if let Some(more) = more {
                *sum = Some(sum.unwrap_or(0).saturating_add(more));
            }
        };
        add(&mut self.input_tokens, more.input_tokens);
        add(&mut self.cached_tokens, more.cached_tokens);
        add(&mut self.cache_write_tokens, more.cache_write_tokens);
        add(&mut self.output_tokens, more.output_tokens);
        add(&mut self.reasoning_tokens, more.reasoning_tokens);
        add(&mut self.cost_micro_usd, more.cost_micro_usd);
    }

    /// Whether anything at all is known.
    pub fn is_known(&self) -> bool {
        *self != Self::default()
    }

    /// Whether everything that is known of it is zero.
    pub(crate) fn is_nothing(&self) -> bool {
        let Self { input_tokens, cached_tokens, cache_write_tokens, output_tokens, reasoning_tokens, cost_micro_usd } =
            self;
        let all = [input_tokens, cached_tokens, cache_write_tokens, output_tokens, reasoning_tokens, cost_micro_usd];
        all.into_iter().flatten().all(|count| *count == 0)
    }
}

impl EngineEvent {
    pub(crate) fn notice(text: impl Into<String>) -> Self {
        Self::Notice { text: text.into() }
    }

    /// The same event with nothing in its texts that could harm whoever looks at it, each within a bound.
    pub(crate) fn cleaned(self) -> Self {
        let clean = |text: String| host::text::clean(text);
        let short = |text: String| host::text::cut(&host::text::clean(text), MAX_TOOL_TEXT);
        let name = |text: String| host::text::one_line(text, MAX_NAME);
        let id_of = |text: String| host::text::one_line(text, MAX_ID);
        match self {
            Self::Session { id } => Self::Session { id: id_of(id) },
            Self::Text { text } => Self::Text { text: clean(text) },
            Self::Reasoning { text } => Self::Reasoning { text: clean(text) },
            Self::ToolStarted { id, name: tool, input } => {
                Self::ToolStarted { id: id_of(id), name: name(tool), input: short(input) }
            }
            Self::ToolFinished { id, ok, output } => Self::ToolFinished { id: id_of(id), ok, output: short(output) },
            Self::FileChanged { path, change } => Self::FileChanged { path: host::text::one_line(path, 4096), change },
            Self::PermissionWanted(wanted) => Self::PermissionWanted(Wanted {
                question: id_of(wanted.question),
                id: id_of(wanted.id),
                tool: name(wanted.tool),
                input: short(wanted.input),
                paths: wanted.paths.into_iter().take(MAX_PATHS).map(|path| host::text::one_line(path, 4096)).collect(),
                asked: id_of(wanted.asked),
            }),
            Self::PermissionAsked(asked) => Self::PermissionAsked(Asked {
                id: id_of(asked.id),
                tool: name(asked.tool),
                input: short(asked.input),
                answer: asked.answer,
                question: asked.question.map(id_of),
                by: asked.by.map(name),
            }),
            Self::RateLimit(limit) => {
                Self::RateLimit(RateLimit { text: host::text::one_line(limit.text, 500), ..limit })
            }
            Self::Usage(usage) => Self::Usage(usage),
            Self::Notice { text } => Self::Notice { text: short(text) },
            Self::Question { text } => Self::Question { text: clean(text) },
            // The structured answer is checked against its schema, not shown as it is.
            Self::Finished(finished) => Self::Finished(Finished { message: clean(finished.message), ..finished }),
        }
    }
}
