//! OpenAI chat completions, as opencode and many others speak it.

use serde_json::{Map, Value, json};

use super::super::answer::{Answer, Block, Ids, Piece, morsels};
use super::super::asked::{Asked, Tool, Turn};
use super::super::rule::{Failure, Usage};
use super::{entries, flatten, is_context, text};

const CONTEXT: &[&str] = &["system-reminder"];

pub(super) fn read(asked: &mut Asked, body: &Value) {
    asked.tools = entries(&body["tools"]).map(|tool| Tool::named(text(&tool["function"], "name"))).collect();
    for message in entries(&body["messages"]) {
        let content = flatten(&message["content"]);
        asked.turns.push(match text(message, "role") {
            "user" if is_context(&content, CONTEXT) => Turn::Context,
            "user" => Turn::User(content),
            "tool" => Turn::ToolResult(content),
            "assistant" if message["tool_calls"].is_array() => Turn::ToolCall,
            "assistant" => Turn::Model,
            _ => Turn::Context,
        });
    }
}

pub(super) fn whole(asked: &Asked, answer: &Answer, ids: &Ids) -> Value {
    let mut message = Map::new();
    message.insert("role".to_owned(), "assistant".into());
    let text = answer.text();
    message.insert("content".to_owned(), if text.is_empty() { Value::Null } else { text.into() });
    if let Some(reasoning) = reasoning(answer) {
        message.insert("reasoning_content".to_owned(), reasoning.into());
    }
    let calls = calls(answer, ids);
    if !calls.is_empty() {
        message.insert("tool_calls".to_owned(), calls.into());
    }
    let mut whole = head(asked, "chat.completion", ids);
    whole["choices"] = json!([{"index": 0, "message": message, "finish_reason": stop(answer)}]);
    whole["usage"] = usage(&answer.usage);
    whole
}

pub(super) fn pieces(asked: &Asked, answer: &Answer, ids: &Ids) -> Vec<Piece> {
    let head = head(asked, "chat.completion.chunk", ids);
    let chunk = |delta: Value, stop: Option<&str>| {
        let mut chunk = head.clone();
        chunk["choices"] = json!([{"index": 0, "delta": delta, "finish_reason": stop}]);
        Piece::plain(&chunk)
    };
    let mut pieces = vec![chunk(json!({"role": "assistant", "content": ""}), None)];
    if let Some(reasoning) = reasoning(answer) {
        pieces.push(chunk(json!({"reasoning_content": reasoning}), None));
    }
    pieces.extend(morsels(&answer.text()).into_iter().map(|text| chunk(json!({"content": text}), None)));
    let calls = calls(answer, ids);
    if !calls.is_empty() {
        pieces.push(chunk(json!({"tool_calls": calls}), None));
    }
    pieces.push(chunk(json!({}), Some(stop(answer))));
    let mut last = head.clone();
    last["choices"] = json!([]);
    last["usage"] = usage(&answer.usage);
    pieces.push(Piece::plain(&last));
    pieces.push(Piece::word("[DONE]"));
    pieces
}

fn head(asked: &Asked, object: &str, ids: &Ids) -> Value {
    json!({"id": ids.draw("chatcmpl"), "object": object, "created": 1_760_000_000, "model": asked.model})
}

fn stop(answer: &Answer) -> &'static str {
    match answer {
        answer if answer.refuses() => "content_filter",
        answer if answer.has_calls() => "tool_calls",
        _ => "stop",
    }
}

fn reasoning(answer: &Answer) -> Option<String> {
    let thought = |block: &Block| match block {
        Block::Reasoning(text) => Some(text.clone()),
        Block::Text(_) | Block::Refusal(_) | Block::Call(_) => None,
    };
    let thoughts: String = answer.blocks.iter().filter_map(thought).collect();
    (!thoughts.is_empty()).then_some(thoughts)
}

fn calls(answer: &Answer, ids: &Ids) -> Vec<Value> {
    let calls = answer.blocks.iter().filter_map(|block| match block {
        Block::Call(call) => Some(call),
        Block::Text(_) | Block::Reasoning(_) | Block::Refusal(_) => None,
    });
    let call = |(index, call): (usize, &super::super::answer::Call)| {
        json!({"index": index, "id": ids.draw("call"), "type": "function",
            "function": {"name": call.name, "arguments": call.input.to_text()}})
    };
    calls.enumerate().map(call).collect()
}

fn usage(usage: &Usage) -> Value {
    json!({"prompt_tokens": usage.input, "completion_tokens": usage.output,
        "total_tokens": usage.input + usage.output,
        "prompt_tokens_details": {"cached_tokens": usage.cached},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning}})
}

/// The shape of both OpenAI dialects.
pub(super) fn error(failure: &Failure) -> Value {
    let usual = match failure.status {
        400 | 404 => "invalid_request_error",
        401 => "invalid_api_key",
        429 => "rate_limit_error",
        _ => "server_error",
    };
    let kind = failure.kind.as_deref().unwrap_or(usual);
    let mut error = Map::new();
    error.insert("message".to_owned(), failure.message.as_str().into());
    error.insert("type".to_owned(), kind.into());
    error.insert("param".to_owned(), Value::Null);
    error.insert("code".to_owned(), kind.into());
    error.extend(failure.extra.clone());
    json!({"error": error})
}
