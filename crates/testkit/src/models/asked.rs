//! A request of any dialect, reduced to what rules look at.

use serde::Serialize;

use super::dialect::Dialect;

/// What an agent asked the model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Asked {
    pub dialect: Dialect,
    pub path: String,
    pub model: String,
    pub stream: bool,
    pub tools: Vec<Tool>,
    pub(super) turns: Vec<Turn>,
}

/// A tool that is offered to the model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tool {
    pub name: String,
    /// The group it is offered in, where the dialect has groups.
    pub namespace: Option<String>,
    /// Whether it takes text as it is instead of JSON.
    pub free_form: bool,
}

/// One entry of the conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) enum Turn {
    User(String),
    /// What an agent adds to the user's words by itself: its environment, reminders, instructions found in files.
    Context,
    Model,
    ToolCall,
    ToolResult(String),
}

impl Asked {
    pub(super) fn new(dialect: Dialect, path: &str) -> Self {
        Self {
            dialect,
            path: path.to_owned(),
            model: String::new(),
            stream: false,
            tools: Vec::new(),
            turns: Vec::new(),
        }
    }

    /// The last text of the user.
    pub fn prompt(&self) -> &str {
        self.turns.iter().rev().find_map(Turn::user).unwrap_or_default()
    }

    /// All texts of the user, oldest first.
    pub fn prompts(&self) -> Vec<&str> {
        self.turns.iter().filter_map(Turn::user).collect()
    }

    /// The result of the last tool.
    pub fn tool_output(&self) -> &str {
        self.turns.iter().rev().find_map(Turn::tool_result).unwrap_or_default()
    }

    /// How many rounds of tool results came since the last text of the user. Results that follow one another, as those
    /// of parallel calls do, are one round.
    pub fn step(&self) -> usize {
        let mut step = 0;
        let mut in_round = false;
        for turn in &self.turns {
            match turn {
                Turn::User(_) => (step, in_round) = (0, false),
                Turn::ToolResult(_) if in_round => {}
                Turn::ToolResult(_) => (step, in_round) = (step + 1, true),
                Turn::Context => {}
                Turn::Model | Turn::ToolCall => in_round = false,
            }
        }
        step
    }

    pub fn offers(&self, name: &str) -> bool {
        self.tools.iter().any(|tool| tool.name == name)
    }

    pub fn tool_names(&self) -> Vec<&str> {
        self.tools.iter().map(|tool| tool.name.as_str()).collect()
    }
}

impl Tool {
    pub(super) fn named(name: &str) -> Self {
        Self { name: name.to_owned(), namespace: None, free_form: false }
    }
}

impl Turn {
    fn user(&self) -> Option<&str> {
        match self {
            Self::User(text) => Some(text),
            Self::Context | Self::Model | Self::ToolCall | Self::ToolResult(_) => None,
        }
    }

    fn tool_result(&self) -> Option<&str> {
        match self {
            Self::ToolResult(text) => Some(text),
            Self::User(_) | Self::Context | Self::Model | Self::ToolCall => None,
        }
    }
}
