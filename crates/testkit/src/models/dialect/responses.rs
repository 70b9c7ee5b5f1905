//! OpenAI Responses, as Codex speaks it.

use serde_json::{Value, json};

use super::super::answer::{Answer, Block, Call, Ids, Input, Piece, morsels};
use super::super::asked::{Asked, Tool, Turn};
use super::super::rule::Usage;
use super::{entries, flatten, is_context, text};

/// What Codex puts into messages of the user besides the user's words.
const CONTEXT: &[&str] =
    &["environment_context", "user_instructions", "INSTRUCTIONS", "skills_instructions", "turn_aborted", "permissions"];
const AGENTS_FILE: &str = "# AGENTS.md";

pub(super) fn read(asked: &mut Asked, body: &Value) {
    for tool in entries(&body["tools"]) {
        add_tool(asked, tool, None);
    }
    if let Some(input) = body["input"].as_str() {
        asked.turns.push(Turn::User(input.to_owned()));
    }
    for item in entries(&body["input"]) {
        match item["type"].as_str().unwrap_or("message") {
            "message" => asked.turns.push(message(item)),
            "additional_tools" => {
                for tool in entries(&item["tools"]) {
                    add_tool(asked, tool, None);
                }
            }
            kind if kind.ends_with("_output") => asked.turns.push(Turn::ToolResult(flatten(&item["output"]))),
            kind if kind.ends_with("_call") => asked.turns.push(Turn::ToolCall),
            _ => asked.turns.push(Turn::Context),
        }
    }
}

fn message(item: &Value) -> Turn {
    let content = flatten(&item["content"]);
    match text(item, "role") {
        "user" if is_context(&content, CONTEXT) || content.starts_with(AGENTS_FILE) => Turn::Context,
        "user" => Turn::User(content),
        "assistant" => Turn::Model,
        _ => Turn::Context,
    }
}

fn add_tool(asked: &mut Asked, tool: &Value, namespace: Option<&str>) {
    if text(tool, "type") == "namespace" {
        for inner in entries(&tool["tools"]) {
            add_tool(asked, inner, tool["name"].as_str());
        }
        return;
    }
    // Tools that the provider runs itself have a type and no name.
    let name = tool["name"].as_str().unwrap_or_else(|| text(tool, "type"));
    asked.tools.push(Tool {
        name: name.to_owned(),
        namespace: namespace.map(str::to_owned),
        free_form: text(tool, "type") == "custom",
    });
}

pub(super) fn whole(asked: &Asked, answer: &Answer, ids: &Ids) -> Value {
    let output: Vec<Value> = answer.blocks.iter().map(|block| item(asked, block, ids)).collect();
    let mut response = head(asked, ids);
    finish(&mut response, output, &answer.usage);
    response
}

pub(super) fn pieces(asked: &Asked, answer: &Answer, ids: &Ids) -> Vec<Piece> {
    let mut stream = Stream::default();
    let mut response = head(asked, ids);
    stream.say("response.created", json!({"response": response}));
    let mut output = Vec::new();
    for (index, block) in answer.blocks.iter().enumerate() {
        let item = item(asked, block, ids);
        stream.item(index, block, &item);
        output.push(item);
    }
    finish(&mut response, output, &answer.usage);
    stream.say("response.completed", json!({"response": response}));
    stream.pieces
}

#[derive(Default)]
struct Stream {
    pieces: Vec<Piece>,
}

impl Stream {
    fn say(&mut self, kind: &'static str, mut fields: Value) {
        fields["type"] = kind.into();
        fields["sequence_number"] = self.pieces.len().into();
        self.pieces.push(Piece::named(kind, &fields));
    }

    fn item(&mut self, index: usize, block: &Block, item: &Value) {
        let mut opened = item.clone();
        for list in ["content", "summary"] {
            if opened[list].is_array() {
                opened[list] = json!([]);
            }
        }
        if opened["status"].is_string() {
            opened["status"] = "in_progress".into();
        }
        self.say("response.output_item.added", json!({"output_index": index, "item": opened}));
        let place = |field: &str| json!({"item_id": item["id"], "output_index": index, field: 0});
        let with = |place: Value, field: &str, value: Value| {
            let mut place = place;
            place[field] = value;
            place
        };
        match block {
            Block::Text(text) => {
                let empty = json!({"type": "output_text", "text": "", "annotations": []});
                self.say("response.content_part.added", with(place("content_index"), "part", empty));
                for morsel in morsels(text) {
                    let delta = with(place("content_index"), "delta", morsel.into());
                    self.say("response.output_text.delta", delta);
                }
                let done = with(place("content_index"), "text", text.as_str().into());
                self.say("response.output_text.done", done);
                let part = item["content"][0].clone();
                self.say("response.content_part.done", with(place("content_index"), "part", part));
            }
            Block::Refusal(text) => {
                let empty = json!({"type": "refusal", "refusal": ""});
                self.say("response.content_part.added", with(place("content_index"), "part", empty));
                self.say("response.refusal.delta", with(place("content_index"), "delta", text.as_str().into()));
                self.say("response.refusal.done", with(place("content_index"), "refusal", text.as_str().into()));
            }
            Block::Reasoning(text) => {
                let empty = json!({"type": "summary_text", "text": ""});
                self.say("response.reasoning_summary_part.added", with(place("summary_index"), "part", empty));
                let delta = with(place("summary_index"), "delta", text.as_str().into());
                self.say("response.reasoning_summary_text.delta", delta);
            }
            Block::Call(_) => {}
        }
        self.say("response.output_item.done", json!({"output_index": index, "item": item}));
    }
}

fn head(asked: &Asked, ids: &Ids) -> Value {
    json!({"id": ids.draw("resp"), "object": "response", "created_at": 1_760_000_000, "status": "in_progress",
        "model": asked.model, "output": []})
}

fn finish(response: &mut Value, output: Vec<Value>, usage: &Usage) {
    response["status"] = "completed".into();
    response["output"] = output.into();
    response["usage"] = json!({
        "input_tokens": usage.input,
        "input_tokens_details": {"cached_tokens": usage.cached, "cache_write_tokens": usage.cache_write},
        "output_tokens": usage.output,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.input + usage.output,
    });
}

/// One finished entry of the output.
fn item(asked: &Asked, block: &Block, ids: &Ids) -> Value {
    let message = |part: Value| json!({"type": "message", "id": ids.draw("msg"), "role": "assistant", "status": "completed", "content": [part]});
    match block {
        Block::Text(text) => message(json!({"type": "output_text", "text": text, "annotations": []})),
        Block::Refusal(text) => message(json!({"type": "refusal", "refusal": text})),
        Block::Reasoning(text) => json!({"type": "reasoning", "id": ids.draw("rs"), "encrypted_content": null,
            "summary": [{"type": "summary_text", "text": text}]}),
        Block::Call(call) => call_item(asked, call, ids),
    }
}

fn call_item(asked: &Asked, call: &Call, ids: &Ids) -> Value {
    let free_form = asked.tools.iter().any(|tool| tool.name == call.name && tool.free_form);
    let mut item = if free_form || matches!(call.input, Input::Text(_)) {
        json!({"type": "custom_tool_call", "id": ids.draw("ctc"), "call_id": ids.draw("call"), "name": call.name,
            "input": call.input.to_text(), "status": "completed"})
    } else {
        json!({"type": "function_call", "id": ids.draw("fc"), "call_id": ids.draw("call"), "name": call.name,
            "arguments": call.input.to_text(), "status": "completed"})
    };
    if let Some(namespace) = &call.namespace {
        item["namespace"] = namespace.as_str().into();
    }
    item
}
