//! What the model says, before a dialect has put it into its own shape.

use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::Value;

use super::rule::Usage;

/// One answer.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) blocks: Vec<Block>,
    pub(super) usage: Usage,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Block {
    Text(String),
    Reasoning(String),
    Refusal(String),
    Call(Call),
}

/// A tool that the model wants to be called.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Call {
    pub(super) name: String,
    pub(super) namespace: Option<String>,
    pub(super) input: Input,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Input {
    Json(Value),
    /// For tools that take text as it is.
    Text(String),
}

impl Answer {
    pub(super) fn has_calls(&self) -> bool {
        self.blocks.iter().any(|block| matches!(block, Block::Call(_)))
    }

    pub(super) fn refuses(&self) -> bool {
        self.blocks.iter().any(|block| matches!(block, Block::Refusal(_)))
    }

    /// All text that is shown, a refusal's too.
    pub(super) fn text(&self) -> String {
        let text = |block: &Block| match block {
            Block::Text(text) | Block::Refusal(text) => Some(text.clone()),
            Block::Reasoning(_) | Block::Call(_) => None,
        };
        self.blocks.iter().filter_map(text).collect()
    }
}

impl Input {
    /// As the JSON that dialects without free-form tools carry.
    pub(super) fn to_json(&self) -> Value {
        match self {
            Self::Json(value) => value.clone(),
            Self::Text(text) => Value::String(text.clone()),
        }
    }

    /// As text, whether it is JSON or not.
    pub(super) fn to_text(&self) -> String {
        match self {
            Self::Json(value) => value.to_string(),
            Self::Text(text) => text.clone(),
        }
    }
}

/// One piece of a stream.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Piece {
    name: Option<&'static str>,
    data: String,
}

impl Piece {
    pub(super) fn named(name: &'static str, data: &Value) -> Self {
        Self { name: Some(name), data: data.to_string() }
    }

    pub(super) fn plain(data: &Value) -> Self {
        Self { name: None, data: data.to_string() }
    }

    /// Data that is not JSON.
    pub(super) fn word(data: &str) -> Self {
        Self { name: None, data: data.to_owned() }
    }

    /// As it travels.
    pub(super) fn to_wire(&self) -> String {
        let name = self.name.map_or_else(String::new, |name| format!("event: {name}\n"));
        format!("{name}data: {}\n\n", self.data)
    }
}

/// Cuts a text as a model would send it, a few characters at a time.
pub(super) fn morsels(text: &str) -> Vec<String> {
    let letters: Vec<char> = text.chars().collect();
    letters.chunks(24).map(|chunk| chunk.iter().collect()).collect()
}

/// Ids that are drawn in order, so that two runs of one script answer alike.
#[derive(Debug, Default)]
pub(super) struct Ids(AtomicU64);

impl Ids {
    pub(super) fn draw(&self, prefix: &str) -> String {
        format!("{prefix}_{:08}", self.0.fetch_add(1, Ordering::Relaxed) + 1)
    }
}
