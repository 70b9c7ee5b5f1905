//! The things that happen in a turn of Codex.

use crate::engine::{EngineEvent, ErrorClass, Fields, FileChange, ParseState, text_of};
use serde_json::Value;

pub(super) fn parse(state: &mut ParseState, completed: bool, item: &Value) -> Vec<EngineEvent> {
    let id = item.text("id").unwrap_or_default();
    match (item.text("type"), completed) {
        (Some("agent_message"), true) => {
            state.goes_on();
            let text = item.text("text").unwrap_or_default().to_owned();
            state.last_text.clone_from(&text);
            vec![EngineEvent::Text { text }]
        }
        (Some("reasoning"), true) => {
            state.goes_on();
            vec![EngineEvent::Reasoning { text: item.text("text").unwrap_or_default().to_owned() }]
        }
        (Some("error"), true) => {
            let text = item.text("message").unwrap_or_default();
            // What it warns of is not what stops it, unless nothing follows.
            if ErrorClass::of_message(text).is_some_and(|class| class != ErrorClass::BadRequest) {
                state.trouble = Some((ErrorClass::of_message(text), text.to_owned()));
            }
            vec![EngineEvent::notice(text)]
        }
        (Some("command_execution"), false) => started(state, id, "shell", item.text("command").unwrap_or_default()),
        (Some("command_execution"), true) => {
            let output = item.text("aggregated_output").unwrap_or_default();
            // Its own sandbox says no by letting the command fail; the turn goes on as if nothing were.
            let ok = item.text("status") == Some("completed") && item.get("exit_code").is_none_or(|code| code == 0);
            finished(state, id, "shell", item.text("command").unwrap_or_default(), ok, output)
        }
        (Some("mcp_tool_call"), false) => started(state, id, &tool_of(item), &arguments_of(item)),
        (Some("mcp_tool_call"), true) => {
            let ok = item.text("status") == Some("completed");
            let refused = item.get("error").and_then(|error| error.text("message"));
            let output = refused.map_or_else(|| result_of(item), str::to_owned);
            finished(state, id, &tool_of(item), &arguments_of(item), ok, &output)
        }
        (Some("file_change"), false) => {
            state.goes_on();
            Vec::new()
        }
        (Some("file_change"), true) if item.text("status") == Some("completed") => item
            .items("changes")
            .iter()
            .filter_map(|change| {
                let kind =
                    if change.text("kind") == Some("delete") { FileChange::Deleted } else { FileChange::Written };
                Some(EngineEvent::FileChanged { path: change.text("path")?.to_owned(), change: kind })
            })
            .collect(),
        (Some("file_change"), true) => vec![EngineEvent::notice("codex: a change of files was not made")],
        (Some("web_search"), true) => {
            finished(state, id, "web_search", item.text("query").unwrap_or_default(), true, "")
        }
        _ => Vec::new(),
    }
}

fn started(state: &mut ParseState, id: &str, name: &str, input: &str) -> Vec<EngineEvent> {
    state.goes_on();
    state.remember_tool(id, name);
    vec![EngineEvent::ToolStarted { id: id.to_owned(), name: name.to_owned(), input: input.to_owned() }]
}

/// The end of a tool call, and its beginning where that was not told.
fn finished(state: &mut ParseState, id: &str, name: &str, input: &str, ok: bool, output: &str) -> Vec<EngineEvent> {
    let mut events = if state.take_tool(id).is_some() { Vec::new() } else { started(state, id, name, input) };
    state.take_tool(id);
    state.goes_on();
    events.push(EngineEvent::ToolFinished { id: id.to_owned(), ok, output: output.to_owned() });
    events
}

fn tool_of(item: &Value) -> String {
    format!("{}/{}", item.text("server").unwrap_or("mcp"), item.text("tool").unwrap_or_default())
}

fn arguments_of(item: &Value) -> String {
    item.get("arguments").map(text_of).unwrap_or_default()
}

fn result_of(item: &Value) -> String {
    let texts = item.get("result").map(|result| result.items("content")).unwrap_or_default();
    texts.iter().filter_map(|part| part.text("text")).collect::<Vec<_>>().join("\n")
}
