//! What Claude Code says while it works.

use crate::engine::{
    Asked, EngineEvent, ErrorClass, Fields, FileChange, ParseState, Permission, RateLimit, Reset, text_of,
};
use serde_json::Value;

/// Tools that change the file that they name.
const EDITORS: [&str; 4] = ["Edit", "MultiEdit", "Write", "NotebookEdit"];
/// Stands before a remembered path, so that it is not mistaken for a tool's name.
const PATH: &str = "path:";

pub(super) fn system(state: &mut ParseState, event: &Value) -> Vec<EngineEvent> {
    match event.text("subtype") {
        Some("init") => {
            let broken = event.items("mcp_servers").iter().filter(|server| server.text("status") == Some("failed"));
            broken
                .map(|server| {
                    let name = server.text("name").unwrap_or("?");
                    EngineEvent::notice(format!("claude: the MCP server {name} could not be reached"))
                })
                .collect()
        }
        Some("api_retry") => {
            let class = class_of(event.text("error"), event.count("error_status"), "");
            let status =
                event.count("error_status").map_or("no answer".to_owned(), |status| format!("status {status}"));
            let text = format!(
                "claude: asks the model again after {} ms ({status}, {})",
                event.count("retry_delay_ms").unwrap_or(0),
                event.text("error").unwrap_or("unknown"),
            );
            state.trouble = Some((class, text.clone()));
            vec![match class {
                Some(ErrorClass::RateLimit { .. } | ErrorClass::UsageLimit { .. }) => {
                    let reset = event.count("retry_delay_ms").map(Reset::After);
                    EngineEvent::RateLimit(RateLimit { reached: true, reset, used_percent: None, text })
                }
                _ => EngineEvent::notice(text),
            }]
        }
        Some("permission_denied") => {
            state.n_denied = state.n_denied.saturating_add(1);
            vec![EngineEvent::PermissionAsked(Asked::by_policy(
                event.text("tool_use_id").unwrap_or_default(),
                event.text("tool_name").unwrap_or_default(),
                event.text("message").unwrap_or_default().to_owned(),
                Permission::Denied,
            ))]
        }
        _ => Vec::new(),
    }
}

pub(super) fn assistant(state: &mut ParseState, event: &Value) -> Vec<EngineEvent> {
    let content = event.get("message").map(|message| message.items("content")).unwrap_or_default();
    if event.truth("is_api_error_message") == Some(true) || event.text("error").is_some() {
        let text = content.iter().find_map(|part| part.text("text")).unwrap_or("the model's host failed").to_owned();
        let class = class_of(event.text("error"), event.count("api_error_status"), &text);
        state.trouble = Some((class, text.clone()));
        return vec![EngineEvent::notice(text)];
    }
    state.goes_on();
    // What a helper of its own says is not its answer.
    let is_helper = event.get("parent_tool_use_id").is_some_and(|parent| !parent.is_null());
    let mut events = Vec::new();
    for part in content {
        match part.text("type") {
            Some("text") => {
                let text = part.text("text").unwrap_or_default().to_owned();
                if !is_helper {
                    state.last_text.clone_from(&text);
                }
                events.push(EngineEvent::Text { text });
            }
            Some("thinking") => {
                events.push(EngineEvent::Reasoning { text: part.text("thinking").unwrap_or_default().to_owned() });
            }
            Some("tool_use") => events.push(tool_started(state, part)),
            _ => {}
        }
    }
    events
}

fn tool_started(state: &mut ParseState, part: &Value) -> EngineEvent {
    let (id, name) = (part.text("id").unwrap_or_default(), part.text("name").unwrap_or_default());
    let input = part.get("input").cloned().unwrap_or_default();
    let path = input.text("file_path").or_else(|| input.text("notebook_path"));
    match path.filter(|_| EDITORS.contains(&name)) {
        Some(path) => state.remember_tool(id, &format!("{PATH}{path}")),
        None => state.remember_tool(id, name),
    }
    EngineEvent::ToolStarted { id: id.to_owned(), name: name.to_owned(), input: text_of(&input) }
}

pub(super) fn user(state: &mut ParseState, event: &Value) -> Vec<EngineEvent> {
    let content = event.get("message").map(|message| message.items("content")).unwrap_or_default();
    let mut events = Vec::new();
    for part in content.iter().filter(|part| part.text("type") == Some("tool_result")) {
        let id = part.text("tool_use_id").unwrap_or_default();
        let ok = part.truth("is_error") != Some(true);
        let remembered = state.take_tool(id);
        if let Some(path) = remembered.as_deref().and_then(|known| known.strip_prefix(PATH)).filter(|_| ok) {
            events.push(EngineEvent::FileChanged { path: path.to_owned(), change: FileChange::Written });
        }
        events.push(EngineEvent::ToolFinished { id: id.to_owned(), ok, output: output_of(part) });
    }
    events
}

fn output_of(part: &Value) -> String {
    match part.get("content") {
        Some(Value::Array(parts)) => parts.iter().filter_map(|part| part.text("text")).collect::<Vec<_>>().join("\n"),
        Some(other) => text_of(other),
        None => String::new(),
    }
}

/// How near a limit of the account is, as the model's host says with its answers.
pub(super) fn rate_limit(state: &mut ParseState, event: &Value) -> Vec<EngineEvent> {
    let Some(info) = event.get("rate_limit_info") else { return Vec::new() };
    let reset = info.get("resetsAt").and_then(Value::as_i64).map(Reset::At);
    let reached = info.text("status") == Some("rejected");
    if reached {
        state.reset = reset;
    }
    let kind = info.text("rateLimitType").unwrap_or("limit");
    let text = format!("claude: {kind} {}", info.text("status").unwrap_or("unknown"));
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the value is clamped to what fits")]
    let used_percent = info.number("utilization").map(|share| (share * 100.0).clamp(0.0, 1000.0) as u32);
    vec![EngineEvent::RateLimit(RateLimit { reached, reset, used_percent, text })]
}

/// A question on the two-way stream. Nobody listens there, so that it is not an answer either way.
pub(super) fn control(event: &Value) -> Vec<EngineEvent> {
    let Some(request) = event.get("request") else { return Vec::new() };
    if request.text("subtype") != Some("can_use_tool") {
        return Vec::new();
    }
    let tool = request.text("tool_name").unwrap_or("a tool");
    let input = request.get("input").map(text_of).unwrap_or_default();
    vec![EngineEvent::Question { text: format!("claude asks whether it may use {tool}: {input}") }]
}

/// The class that its own word, the status and the text mean together.
pub(super) fn class_of(word: Option<&str>, status: Option<u64>, text: &str) -> Option<ErrorClass> {
    match word {
        Some("rate_limit") if matches!(ErrorClass::of_message(text), Some(ErrorClass::UsageLimit { .. })) => {
            Some(ErrorClass::UsageLimit { reset: None })
        }
        Some("rate_limit") => Some(ErrorClass::RateLimit { reset: None }),
        Some("authentication_failed" | "oauth_org_not_allowed") => Some(ErrorClass::NotLoggedIn),
        Some("billing_error") => Some(ErrorClass::Billing),
        Some("invalid_request") => Some(ErrorClass::BadRequest),
        Some("server_error" | "overloaded") => Some(
            ErrorClass::of_message(text).filter(|class| *class == ErrorClass::Network).unwrap_or(ErrorClass::Server),
        ),
        _ => match status {
            Some(status) => Some(ErrorClass::of_status(status, text)),
            None if text.is_empty() => Some(ErrorClass::Network),
            None => ErrorClass::of_message(text),
        },
    }
}
