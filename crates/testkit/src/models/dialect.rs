//! The four ways in which agents talk to models.

mod chat;
mod gemini;
mod messages;
mod responses;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::answer::{Answer, Ids, Piece};
use super::asked::Asked;
use super::rule::Failure;

/// One way to talk to a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dialect {
    /// OpenAI Responses: `POST …/responses`.
    Responses,
    /// Anthropic Messages: `POST …/messages`.
    Messages,
    /// OpenAI chat completions: `POST …/chat/completions`.
    Chat,
    /// Gemini: `POST …/models/<model>:generateContent` and `:streamGenerateContent`.
    Gemini,
}

impl Dialect {
    /// The dialect of a call to a model, by its path without the query.
    pub(super) fn of_path(path: &str) -> Option<Self> {
        let endings = [
            ("/responses", Self::Responses),
            ("/messages", Self::Messages),
            ("/chat/completions", Self::Chat),
            (":generateContent", Self::Gemini),
            (":streamGenerateContent", Self::Gemini),
        ];
        endings.into_iter().find(|(ending, _)| path.ends_with(ending)).map(|(_, dialect)| dialect)
    }

    pub(super) fn read(self, path: &str, body: &Value) -> Asked {
        let mut asked = Asked::new(self, path);
        body["model"].as_str().unwrap_or_default().clone_into(&mut asked.model);
        asked.stream = body["stream"].as_bool().unwrap_or(false);
        match self {
            Self::Responses => responses::read(&mut asked, body),
            Self::Messages => messages::read(&mut asked, body),
            Self::Chat => chat::read(&mut asked, body),
            Self::Gemini => gemini::read(&mut asked, body),
        }
        asked
    }

    /// The answer as a stream.
    pub(super) fn pieces(self, asked: &Asked, answer: &Answer, ids: &Ids) -> Vec<Piece> {
        match self {
            Self::Responses => responses::pieces(asked, answer, ids),
            Self::Messages => messages::pieces(asked, answer, ids),
            Self::Chat => chat::pieces(asked, answer, ids),
            Self::Gemini => gemini::pieces(asked, answer, ids),
        }
    }

    /// The answer as one document.
    pub(super) fn whole(self, asked: &Asked, answer: &Answer, ids: &Ids) -> Value {
        match self {
            Self::Responses => responses::whole(asked, answer, ids),
            Self::Messages => messages::whole(asked, answer, ids),
            Self::Chat => chat::whole(asked, answer, ids),
            Self::Gemini => gemini::whole(asked, answer, ids),
        }
    }

    /// The body of an answer that is an error.
    pub(super) fn error(self, failure: &Failure, ids: &Ids) -> Value {
        match self {
            Self::Responses | Self::Chat => chat::error(failure),
            Self::Messages => messages::error(failure, ids),
            Self::Gemini => gemini::error(failure),
        }
    }
}

/// The text of a content that is a string, one part or a list of parts; parts without text stand as their JSON.
fn flatten(content: &Value) -> String {
    let part = |part: &Value| match (part, part["text"].as_str()) {
        (Value::String(text), _) => text.clone(),
        (_, Some(text)) => text.to_owned(),
        (other, None) => other.to_string(),
    };
    match content {
        Value::Null => String::new(),
        Value::Array(parts) => parts.iter().map(part).collect::<Vec<_>>().join("\n"),
        one => part(one),
    }
}

/// The entries of a list, none if it is not one.
fn entries(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

/// A field's text, empty if it has none.
fn text<'v>(value: &'v Value, field: &str) -> &'v str {
    value[field].as_str().unwrap_or_default()
}

/// Whether an agent added this to the user's words: it stands in a tag of its own.
fn is_context(text: &str, tags: &[&str]) -> bool {
    let text = text.trim_start();
    tags.iter().any(|tag| text.starts_with(&format!("<{tag}>")))
}
