//! Gemini's `generateContent` and `streamGenerateContent`, as Gemini CLI speaks them.

use serde_json::{Map, Value, json};

use super::super::answer::{Answer, Block, Ids, Piece};
use super::super::asked::{Asked, Tool, Turn};
use super::super::rule::{Failure, Usage};
use super::{entries, is_context, text};

const CONTEXT: &[&str] = &["session_context"];

pub(super) fn read(asked: &mut Asked, body: &Value) {
    // The model and the way it answers stand in the path.
    let call = asked.path.rsplit('/').next().unwrap_or_default();
    let (model, verb) = call.split_once(':').unwrap_or((call, ""));
    (asked.stream, asked.model) = (verb.starts_with("stream"), model.to_owned());
    for group in entries(&body["tools"]) {
        for list in ["functionDeclarations", "function_declarations"] {
            asked.tools.extend(entries(&group[list]).map(|tool| Tool::named(text(tool, "name"))));
        }
    }
    for content in entries(&body["contents"]) {
        let by_user = text(content, "role") != "model";
        asked.turns.extend(entries(&content["parts"]).map(|part| turn(by_user, part)));
    }
}

fn turn(by_user: bool, part: &Value) -> Turn {
    let words = text(part, "text");
    match by_user {
        _ if part["functionResponse"].is_object() => Turn::ToolResult(part["functionResponse"].to_string()),
        _ if part["functionCall"].is_object() => Turn::ToolCall,
        true if part["text"].is_null() || is_context(words, CONTEXT) => Turn::Context,
        true => Turn::User(words.to_owned()),
        false => Turn::Model,
    }
}

pub(super) fn whole(asked: &Asked, answer: &Answer, ids: &Ids) -> Value {
    let part = |block: &Block| match block {
        Block::Text(text) | Block::Refusal(text) => json!({"text": text}),
        Block::Reasoning(text) => json!({"text": text, "thought": true}),
        Block::Call(call) => json!({"functionCall": {"name": call.name, "args": call.input.to_json()}}),
    };
    let parts: Vec<Value> = answer.blocks.iter().map(part).collect();
    let stop = if answer.refuses() { "SAFETY" } else { "STOP" };
    json!({"candidates": [{"content": {"role": "model", "parts": parts}, "finishReason": stop, "index": 0}],
        "usageMetadata": usage(&answer.usage), "modelVersion": asked.model, "responseId": ids.draw("gem")})
}

/// A stream of one piece: the agent puts pieces together by appending, and one is a stream too.
pub(super) fn pieces(asked: &Asked, answer: &Answer, ids: &Ids) -> Vec<Piece> {
    vec![Piece::plain(&whole(asked, answer, ids))]
}

/// Here what was thought is counted beside what was said.
fn usage(usage: &Usage) -> Value {
    json!({"promptTokenCount": usage.input,
        "candidatesTokenCount": usage.output.saturating_sub(usage.reasoning),
        "cachedContentTokenCount": usage.cached, "thoughtsTokenCount": usage.reasoning,
        "totalTokenCount": usage.input + usage.output})
}

pub(super) fn error(failure: &Failure) -> Value {
    let usual = match failure.status {
        400 => "INVALID_ARGUMENT",
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        429 => "RESOURCE_EXHAUSTED",
        503 => "UNAVAILABLE",
        _ => "INTERNAL",
    };
    let mut error = Map::new();
    error.insert("code".to_owned(), failure.status.into());
    error.insert("message".to_owned(), failure.message.as_str().into());
    error.insert("status".to_owned(), failure.kind.as_deref().unwrap_or(usual).into());
    error.extend(failure.extra.clone());
    json!({"error": error})
}
