//! Claude Code: `claude -p --output-format stream-json`, with a session whose name is chosen before the start.
//!
//! Nobody answers its questions unless the configuration says so ([`talk`]): what is not on the list of allowed tools is
//! refused (`dontAsk`), and each refusal is an event. Its `subtype` says "success" of failures; what counts is `is_error`, the reason and the exit code. A run may
//! hold several results, and their costs are the sums of the session.

mod messages;
mod result;
pub(crate) mod sessions;
mod talk;
#[cfg(test)]
mod tests;

use crate::engine::{
    EngineError, EngineEvent, EngineRequest, Fields, ParseState, Permissions, Prepared, Session, Transport, headers,
    utf8, variables,
};
use crate::sandbox::Profile;
use crate::talk::Policy;
use serde_json::{Value, json};
use std::ffi::OsString;
pub use talk::SUBCOMMAND;

const READING: [&str; 4] = ["Read", "Grep", "Glob", "LS"];
const WORKING: [&str; 10] =
    ["Read", "Grep", "Glob", "LS", "Edit", "MultiEdit", "Write", "NotebookEdit", "Bash", "TodoWrite"];
/// Refused whatever else is allowed: what only reads must not be able to write.
const WRITING: [&str; 5] = ["Edit", "MultiEdit", "Write", "NotebookEdit", "Bash"];

pub(crate) fn prepare(request: &EngineRequest) -> Result<Prepared, EngineError> {
    let home = request.home();
    let mut argv = request.command("claude");
    let mut put = |parts: &[&str]| argv.extend(parts.iter().map(|&part| part.to_owned()));
    put(&["-p", "--output-format", "stream-json", "--verbose"]);
    let asks = request.settings.permissions != Permissions::Deny;
    if asks {
        put(&["--input-format", "stream-json", "--permission-prompt-tool", "stdio", "--permission-mode", "default"]);
    } else {
        put(&["--permission-mode", "dontAsk"]);
    }
    put(&["--allowedTools", &allowed_tools(request).join(",")]);
    let mut refused = if request.access == Profile::ReadOnly { WRITING.to_vec() } else { Vec::new() };
    if asks {
        // Questions that are not about a tool have no place to be answered in.
        refused.extend(["AskUserQuestion", "ExitPlanMode"]);
    }
    if !refused.is_empty() {
        put(&["--disallowedTools", &refused.join(",")]);
    }
    // The checkout's own settings would bring hooks, and hooks are commands.
    put(&["--setting-sources", "user"]);
    if let Some(model) = &request.model {
        put(&["--model", model]);
    }
    if let Some(effort) = &request.effort {
        put(&["--effort", effort]);
    }
    let turns = request.max_turns.map(|turns| turns.to_string());
    if let Some(turns) = &turns {
        put(&["--max-turns", turns]);
    }
    let schema = request.output_schema.as_ref().map(ToString::to_string);
    if let Some(schema) = &schema {
        put(&["--json-schema", schema]);
    }
    match &request.session {
        Session::New => {}
        Session::Preset(id) => put(&["--session-id", id]),
        Session::Resume(id) => put(&["--resume", id]),
    }
    let servers = home.join("mcp.json");
    // Also without any, so that those of the checkout are not started.
    put(&["--strict-mcp-config", "--mcp-config", &utf8(&servers)?]);
    let (key, settings) = (home.join("model.key"), home.join("settings.json"));
    let helper = json!({"apiKeyHelper": format!("cat '{}'", utf8(&key)?.replace('\'', "'\\''"))});
    if request.endpoint.key.is_some() {
        argv.extend(["--settings".to_owned(), utf8(&settings)?]);
    }
    argv.extend(request.settings.extra_args.iter().cloned());
    let about = talk::Script { prompt: request.prompt.clone(), policy: Policy::of(request) };
    let prepared = match asks {
        true => crate::talk::prepare(request, SUBCOMMAND, argv, about)?,
        false => Prepared::command(argv).input(home.join("prompt.txt"), &request.prompt)?,
    };
    let mut prepared = prepared
        .file(servers, mcp_servers(request).to_string())
        .env("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1")
        .env("DISABLE_AUTOUPDATER", "1")
        // Ten with growing waits is the default; what lasts longer is a failure with a class.
        .env("CLAUDE_CODE_MAX_RETRIES", "2")
        .env("API_TIMEOUT_MS", "300000");
    if !request.mcp_servers.is_empty() {
        prepared = prepared.env("ENABLE_TOOL_SEARCH", "false");
    }
    if let Some(url) = &request.endpoint.base_url {
        prepared = prepared.env("ANTHROPIC_BASE_URL", url);
    }
    if let Some(secret) = &request.endpoint.key {
        // By a helper rather than in the environment, which its tools inherit. Its own scrubbing of that is no help: it
        // forces a sandbox that needs more programs, and leaves files behind in the checkout.
        prepared = prepared.file(key, secret.reveal()).file(settings, helper.to_string());
    }
    Ok(prepared)
}

/// Runs the driver of the two-way mode; `args` are those after `engine-claude`, the answer is the process's exit code.
pub fn main(args: impl IntoIterator<Item = OsString>) -> i32 {
    crate::talk::run(SUBCOMMAND, args, talk::Client::new)
}

fn allowed_tools(request: &EngineRequest) -> Vec<String> {
    let configured = &request.settings.allowed_tools;
    let own = match request.access {
        Profile::ReadOnly => READING.as_slice(),
        // Whoever wants to be asked wants to be asked about what changes something.
        Profile::Workspace | Profile::Full if request.settings.permissions == Permissions::Ask => READING.as_slice(),
        Profile::Workspace | Profile::Full => WORKING.as_slice(),
    };
    let tools = own.iter().map(|&tool| tool.to_owned());
    let servers = request.mcp_servers.iter().flat_map(|server| match server.tools.as_slice() {
        [] => vec![format!("mcp__{}", server.name)],
        tools => tools.iter().map(|tool| format!("mcp__{}__{tool}", server.name)).collect(),
    });
    match configured.is_empty() {
        true => tools.chain(servers).collect(),
        false => configured.iter().cloned().chain(servers).collect(),
    }
}

fn mcp_servers(request: &EngineRequest) -> Value {
    let servers = request.mcp_servers.iter().map(|server| {
        let entry = match &server.transport {
            Transport::Stdio { command, args, env } => {
                json!({"type": "stdio", "command": command, "args": args, "env": variables(env)})
            }
            Transport::Http { url, token } => json!({"type": "http", "url": url, "headers": headers(token.as_ref())}),
        };
        (server.name.clone(), entry)
    });
    json!({"mcpServers": servers.collect::<serde_json::Map<_, _>>()})
}

pub(crate) fn parse_line(state: &mut ParseState, line: &str) -> Vec<EngineEvent> {
    let Ok(event) = serde_json::from_str::<Value>(line) else { return state.strange(line) };
    let Some(kind) = event.text("type") else { return state.strange(line) };
    // What the driver of the two-way mode says itself.
    if matches!(kind, "permission_wanted" | "permission_asked" | "notice") {
        return crate::scripted::parse_line(state, line);
    }
    let mut events = Vec::new();
    if let Some(id) = event.text("session_id").filter(|id| !id.is_empty()) {
        // Whoever writes into this stream without knowing the session is not Claude Code. A result that says of a session
        // that it does not exist names a new one, and is nobody's claim of success.
        if !state.is_session(id) && event.truth("is_error") != Some(true) {
            return state.strange(line);
        }
        if event.text("subtype") == Some("init") {
            events.extend(state.session_event(id));
        }
    }
    events.extend(match kind {
        "system" => messages::system(state, &event),
        "assistant" => messages::assistant(state, &event),
        "user" => messages::user(state, &event),
        "rate_limit_event" => messages::rate_limit(state, &event),
        "control_request" => messages::control(&event),
        "result" => result::parse(state, &event),
        _ => Vec::new(),
    });
    events
}
