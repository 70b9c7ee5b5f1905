//! Anthropic Messages, as Claude Code speaks it.

use serde_json::{Value, json};

use super::super::answer::{Answer, Block, Ids, Piece, morsels};
use super::super::asked::{Asked, Tool, Turn};
use super::super::rule::{Failure, Usage};
use super::{entries, flatten, is_context, text};

const CONTEXT: &[&str] = &["system-reminder"];

pub(super) fn read(asked: &mut Asked, body: &Value) {
    asked.tools = entries(&body["tools"]).map(|tool| Tool::named(text(tool, "name"))).collect();
    for message in entries(&body["messages"]) {
        let by_user = text(message, "role") == "user";
        if let Some(content) = message["content"].as_str() {
            asked.turns.push(said(by_user, content));
        }
        for block in entries(&message["content"]) {
            match text(block, "type") {
                "tool_result" => asked.turns.push(Turn::ToolResult(flatten(&block["content"]))),
                "tool_use" => asked.turns.push(Turn::ToolCall),
                "text" => asked.turns.push(said(by_user, text(block, "text"))),
                _ => asked.turns.push(if by_user { Turn::Context } else { Turn::Model }),
            }
        }
    }
}

fn said(by_user: bool, content: &str) -> Turn {
    match by_user {
        true if is_context(content, CONTEXT) => Turn::Context,
        true => Turn::User(content.to_owned()),
        false => Turn::Model,
    }
}

pub(super) fn whole(asked: &Asked, answer: &Answer, ids: &Ids) -> Value {
    let stop = match answer {
        answer if answer.refuses() => "refusal",
        answer if answer.has_calls() => "tool_use",
        _ => "end_turn",
    };
    json!({"id": ids.draw("msg"), "type": "message", "role": "assistant", "model": asked.model,
        "content": answer.blocks.iter().map(|block| content(block, ids)).collect::<Vec<_>>(),
        "stop_reason": stop, "stop_sequence": null, "usage": usage(&answer.usage, answer.usage.output)})
}

pub(super) fn pieces(asked: &Asked, answer: &Answer, ids: &Ids) -> Vec<Piece> {
    let whole = whole(asked, answer, ids);
    let mut start = whole.clone();
    start["content"] = json!([]);
    start["stop_reason"] = Value::Null;
    // The count at the start knows only what went in.
    start["usage"] = usage(&answer.usage, 1);
    let mut pieces = vec![Piece::named("message_start", &json!({"type": "message_start", "message": start}))];
    for (index, block) in entries(&whole["content"]).enumerate() {
        let (opened, deltas) = unfold(block);
        let fields = json!({"type": "content_block_start", "index": index, "content_block": opened});
        pieces.push(Piece::named("content_block_start", &fields));
        for delta in deltas {
            let fields = json!({"type": "content_block_delta", "index": index, "delta": delta});
            pieces.push(Piece::named("content_block_delta", &fields));
        }
        let fields = json!({"type": "content_block_stop", "index": index});
        pieces.push(Piece::named("content_block_stop", &fields));
    }
    let delta = json!({"stop_reason": whole["stop_reason"], "stop_sequence": null});
    let fields = json!({"type": "message_delta", "delta": delta, "usage": whole["usage"]});
    pieces.push(Piece::named("message_delta", &fields));
    pieces.push(Piece::named("message_stop", &json!({"type": "message_stop"})));
    pieces
}

fn content(block: &Block, ids: &Ids) -> Value {
    match block {
        Block::Text(text) | Block::Refusal(text) => json!({"type": "text", "text": text}),
        Block::Reasoning(text) => json!({"type": "thinking", "thinking": text, "signature": "c2NyaXB0ZWQ="}),
        Block::Call(call) => {
            json!({"type": "tool_use", "id": ids.draw("toolu"), "name": call.name, "input": call.input.to_json()})
        }
    }
}

/// A finished block as it is opened, and what is sent to fill it.
fn unfold(block: &Value) -> (Value, Vec<Value>) {
    match text(block, "type") {
        "text" => {
            let deltas = morsels(text(block, "text"));
            let deltas = deltas.into_iter().map(|text| json!({"type": "text_delta", "text": text})).collect();
            (json!({"type": "text", "text": ""}), deltas)
        }
        "thinking" => {
            let deltas = vec![
                json!({"type": "thinking_delta", "thinking": block["thinking"]}),
                json!({"type": "signature_delta", "signature": block["signature"]}),
            ];
            (json!({"type": "thinking", "thinking": "", "signature": ""}), deltas)
        }
        _ => {
            let mut opened = block.clone();
            opened["input"] = json!({});
            let deltas = morsels(&block["input"].to_string());
            let delta = |text| json!({"type": "input_json_delta", "partial_json": text});
            (opened, deltas.into_iter().map(delta).collect())
        }
    }
}

/// Here input counts only what was neither read from the cache nor written to it.
fn usage(usage: &Usage, output: u64) -> Value {
    json!({"input_tokens": usage.input.saturating_sub(usage.cached + usage.cache_write),
        "cache_creation_input_tokens": usage.cache_write, "cache_read_input_tokens": usage.cached,
        "output_tokens": output})
}

pub(super) fn error(failure: &Failure, ids: &Ids) -> Value {
    let usual = match failure.status {
        400 => "invalid_request_error",
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        429 => "rate_limit_error",
        529 => "overloaded_error",
        _ => "api_error",
    };
    let kind = failure.kind.as_deref().unwrap_or(usual);
    let mut error = failure.extra.clone();
    error.insert("type".to_owned(), kind.into());
    error.insert("message".to_owned(), failure.message.as_str().into());
    json!({"type": "error", "error": error, "request_id": ids.draw("req")})
}
