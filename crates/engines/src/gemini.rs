//! Gemini CLI: `gemini -o stream-json`, the prompt as its input, the model always named.
//!
//! Left to choose, it asks a model which model to ask. Its write and shell tools exist only when it may use them
//! unasked, and a checkout that it does not trust makes it leave with exit code 55: it is told to trust this one, and
//! what holds it is around it. It says nothing of costs, and its sessions have names that can be chosen.

pub(crate) mod sessions;
#[cfg(test)]
mod tests;

use crate::engine::{
    EngineError, EngineEvent, EngineRequest, ErrorClass, Fields, FileChange, Finished, ParseState, Prepared, Session,
    Transport, Usage, asked_to_answer, headers, text_of, variables,
};
use crate::sandbox::Profile;
use serde_json::{Value, json};

const MODEL: &str = "gemini-2.5-pro";
const EDITORS: [&str; 2] = ["write_file", "replace"];

pub(crate) fn prepare(request: &EngineRequest) -> Result<Prepared, EngineError> {
    let home = request.home();
    let mut argv = request.command("gemini");
    let mut put = |parts: &[&str]| argv.extend(parts.iter().map(|&part| part.to_owned()));
    put(&["-m", request.model.as_deref().unwrap_or(MODEL), "-o", "stream-json", "--skip-trust"]);
    put(&["--approval-mode", if request.access == Profile::ReadOnly { "plan" } else { "yolo" }]);
    match &request.session {
        Session::New => {}
        Session::Preset(id) => put(&["--session-id", id]),
        Session::Resume(id) => put(&["--resume", id]),
    }
    argv.extend(request.settings.extra_args.iter().cloned());
    let mut prepared = Prepared::command(argv).file(home.join(".gemini/settings.json"), settings(request).to_string());
    if let Some(key) = &request.endpoint.key {
        prepared = prepared.env("GEMINI_API_KEY", key.reveal());
    }
    if let Some(url) = &request.endpoint.base_url {
        prepared = prepared.env("GOOGLE_GEMINI_BASE_URL", url);
    }
    let prompt = match &request.output_schema {
        Some(schema) => asked_to_answer(&request.prompt, schema),
        None => request.prompt.clone(),
    };
    prepared.input(home.join("prompt.txt"), &prompt)
}

fn settings(request: &EngineRequest) -> Value {
    let servers = request.mcp_servers.iter().map(|server| {
        let mut entry = match &server.transport {
            Transport::Stdio { command, args, env } => {
                json!({"command": command, "args": args, "env": variables(env), "trust": true})
            }
            Transport::Http { url, token } => {
                json!({"httpUrl": url, "headers": headers(token.as_ref()), "trust": true})
            }
        };
        if !server.tools.is_empty() {
            entry["includeTools"] = json!(server.tools);
        }
        (server.name.clone(), entry)
    });
    let mut settings = json!({
        "security": {
            "auth": {"selectedType": "gemini-api-key"},
            // Its tools would find the key in their environment.
            "environmentVariableRedaction": {"enabled": true},
        },
        "privacy": {"usageStatisticsEnabled": false},
        "telemetry": {"enabled": false},
        // What lasts longer has a class and waits without a process.
        "general": {"enableAutoUpdate": false, "disableAutoUpdate": true, "maxAttempts": 3},
        "mcpServers": servers.collect::<serde_json::Map<_, _>>(),
    });
    let listed = &request.settings.allowed_tools;
    if !listed.is_empty() {
        // What is not listed is not offered to its model.
        settings["tools"] = json!({"core": listed});
    }
    if let Some(turns) = request.max_turns {
        settings["model"] = json!({"maxSessionTurns": turns});
    }
    settings
}

pub(crate) fn parse_line(state: &mut ParseState, line: &str) -> Vec<EngineEvent> {
    let Ok(event) = serde_json::from_str::<Value>(line) else { return state.strange(line) };
    match event.text("type") {
        Some("init") => match event.text("session_id") {
            Some(id) if state.is_session(id) => {
                state.last_text.clear();
                state.session_event(id).into_iter().collect()
            }
            _ => state.strange(line),
        },
        Some("message") if event.text("role") == Some("assistant") => {
            state.goes_on();
            let text = event.text("content").unwrap_or_default().to_owned();
            // It comes in pieces; what stood before a tool was used is not part of the answer.
            state.say_more(&text);
            vec![EngineEvent::Text { text }]
        }
        Some("tool_use") => tool_use(state, &event),
        Some("tool_result") => tool_result(state, &event),
        Some("error") => {
            let text = event.text("message").unwrap_or("an error without words").to_owned();
            state.trouble = Some((ErrorClass::of_message(&text), text.clone()));
            vec![EngineEvent::notice(text)]
        }
        Some("result") => result(state, &event),
        Some(_) => Vec::new(),
        None => state.strange(line),
    }
}

fn tool_use(state: &mut ParseState, event: &Value) -> Vec<EngineEvent> {
    state.last_text.clear();
    state.goes_on();
    let (id, name) = (event.text("tool_id").unwrap_or_default(), event.text("tool_name").unwrap_or_default());
    let input = event.get("parameters").cloned().unwrap_or_default();
    let path = input.text("file_path").or_else(|| input.text("path")).filter(|_| EDITORS.contains(&name));
    state.remember_tool(id, path.unwrap_or_default());
    vec![EngineEvent::ToolStarted { id: id.to_owned(), name: name.to_owned(), input: text_of(&input) }]
}

fn tool_result(state: &mut ParseState, event: &Value) -> Vec<EngineEvent> {
    let id = event.text("tool_id").unwrap_or_default();
    let ok = event.text("status") == Some("success");
    let mut events = Vec::new();
    if let Some(path) = state.take_tool(id).filter(|path| ok && !path.is_empty()) {
        events.push(EngineEvent::FileChanged { path, change: FileChange::Written });
    }
    let refused = event.get("error").and_then(|error| error.text("message"));
    let output = event.text("output").or(refused).unwrap_or_default().to_owned();
    events.push(EngineEvent::ToolFinished { id: id.to_owned(), ok, output });
    events
}

fn result(state: &mut ParseState, event: &Value) -> Vec<EngineEvent> {
    if event.text("status") == Some("success") {
        state.finished = Some(state.completed());
    } else {
        let error = event.get("error").cloned().unwrap_or_default();
        let message = error.text("message").unwrap_or("it failed without words").to_owned();
        let class = class_of(error.text("type").unwrap_or_default(), &message);
        state.finished = Some(Finished { class, ..Finished::failed(message) });
    }
    let Some(stats) = event.get("stats") else { return Vec::new() };
    let usage = Usage {
        input_tokens: stats.count("input_tokens"),
        cached_tokens: stats.count("cached"),
        output_tokens: stats.count("output_tokens"),
        ..Usage::default()
    };
    if usage.is_nothing() {
        return Vec::new();
    }
    state.counted(usage).into_iter().collect()
}

/// The kind of a failure: by its own name for it, by the code in the API's answer, by its words.
fn class_of(kind: &str, message: &str) -> Option<ErrorClass> {
    if kind.contains("MaxSessionTurns") || kind == "FatalTurnLimitedError" {
        return Some(ErrorClass::LimitsReached);
    }
    let body = message.find('{').and_then(|start| {
        // The document is followed by a bracket of the message around it.
        serde_json::Deserializer::from_str(message.get(start..)?).into_iter::<Value>().next()?.ok()
    });
    let code = body.as_ref().and_then(|body| body.get("error")).and_then(|error| error.count("code"));
    match code {
        Some(status) => Some(ErrorClass::of_status(status, message)),
        None => ErrorClass::of_message(message),
    }
}
