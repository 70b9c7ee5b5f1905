//! opencode: `opencode run --format json`, the prompt as its input.
//!
//! A prompt given as an argument would reach the model in quotes. It says of each step what it used, and never that it
//! is done: a last step that stopped by itself is its end. It allows its shell without asking, so that a reader's tools
//! are denied in its configuration.

#[cfg(test)]
mod tests;

use crate::engine::{
    EngineError, EngineEvent, EngineRequest, ErrorClass, Fields, FileChange, Finished, McpServer, ParseState, Prepared,
    RateLimit, Reset, Session, Transport, Usage, answer_in, asked_to_answer, headers, text_of, utf8, variables,
};
use crate::sandbox::Profile;
use serde_json::{Value, json};

/// The provider that its configuration is given when a base URL is.
const PROVIDER: &str = "pilothouse";
const EDITORS: [&str; 3] = ["write", "edit", "multiedit"];

pub(crate) fn prepare(request: &EngineRequest) -> Result<Prepared, EngineError> {
    let home = request.home();
    let mut argv = request.command("opencode");
    let mut put = |parts: &[&str]| argv.extend(parts.iter().map(|&part| part.to_owned()));
    put(&["run", "--format", "json"]);
    let model = request.model.as_ref().map(|model| match request.endpoint.base_url {
        Some(_) => format!("{PROVIDER}/{model}"),
        None => model.clone(),
    });
    match (&model, &request.endpoint.base_url) {
        (Some(model), _) => put(&["-m", model]),
        (None, Some(_)) => return Err(EngineError::Misconfigured { engine: "opencode", missing: "a model" }),
        (None, None) => {}
    }
    if let Session::Resume(id) = &request.session {
        put(&["-s", id]);
    }
    argv.extend(request.settings.extra_args.iter().cloned());
    let config = home.join("opencode.json");
    let key = home.join("model.key");
    let mut prepared = Prepared::command(argv)
        .env("OPENCODE_CONFIG", utf8(&config)?)
        .env("OPENCODE_DISABLE_MODELS_FETCH", "1")
        .env("OPENCODE_DISABLE_AUTOUPDATE", "1")
        .env("OPENCODE_DISABLE_PROJECT_CONFIG", "1")
        .file(config, configuration(request, &utf8(&key)?).to_string());
    if let Some(secret) = &request.endpoint.key {
        // In a file rather than in the environment, which its tools inherit.
        prepared = prepared.file(key, secret.reveal());
    }
    let prompt = match &request.output_schema {
        Some(schema) => asked_to_answer(&request.prompt, schema),
        None => request.prompt.clone(),
    };
    prepared.input(home.join("prompt.txt"), &prompt)
}

fn configuration(request: &EngineRequest, key: &str) -> Value {
    // A list of tools names everything that is allowed, by its own names for them.
    let may = |names: &[&str]| {
        let listed = &request.settings.allowed_tools;
        let is_listed = listed.is_empty() || listed.iter().any(|tool| names.contains(&tool.as_str()));
        if request.access != Profile::ReadOnly && is_listed { "allow" } else { "deny" }
    };
    let mut config = json!({
        "$schema": "https://opencode.ai/config.json",
        "autoupdate": false,
        "share": "disabled",
        // Questions would never be answered, so that everything is decided here.
        "permission": {
            "edit": may(&["edit", "write"]), "bash": may(&["bash"]), "webfetch": "deny", "external_directory": "deny", "question": "deny",
        },
    });
    if let (Some(url), Some(model)) = (&request.endpoint.base_url, &request.model) {
        let mut options = json!({"baseURL": url});
        if request.endpoint.key.is_some() {
            options["apiKey"] = format!("{{file:{key}}}").into();
        }
        let name = format!("{PROVIDER}/{model}");
        config["model"] = name.clone().into();
        config["small_model"] = name.into();
        config["provider"] = json!({PROVIDER: {
            "npm": "@ai-sdk/openai-compatible",
            "name": "Pilothouse",
            "options": options,
            "models": {model.as_str(): {"name": model, "tool_call": true}},
        }});
    }
    if !request.mcp_servers.is_empty() {
        let servers = request.mcp_servers.iter().map(|server| {
            let entry = match &server.transport {
                Transport::Stdio { command, args, env } => {
                    let argv: Vec<&String> = std::iter::once(command).chain(args).collect();
                    json!({"type": "local", "command": argv, "environment": variables(env), "enabled": true})
                }
                Transport::Http { url, token } => {
                    json!({"type": "remote", "url": url, "headers": headers(token.as_ref()), "enabled": true})
                }
            };
            (server.name.clone(), entry)
        });
        config["mcp"] = Value::Object(servers.collect());
        let kept = request.mcp_servers.iter().filter(|server| !server.tools.is_empty());
        let kept = kept.flat_map(|McpServer { name, tools, .. }| {
            let others = std::iter::once((format!("{name}_*"), false.into()));
            others.chain(tools.iter().map(move |tool| (format!("{name}_{tool}"), true.into())))
        });
        config["tools"] = Value::Object(kept.collect());
    }
    config
}

pub(crate) fn parse_line(state: &mut ParseState, line: &str) -> Vec<EngineEvent> {
    let Ok(event) = serde_json::from_str::<Value>(line) else { return state.strange(line) };
    let mut events = Vec::new();
    match event.text("sessionID") {
        Some(id) if state.is_session(id) => events.extend(state.session_event(id)),
        // Whoever writes here without the session's name is not opencode.
        _ => return state.strange(line),
    }
    let part = event.get("part").cloned().unwrap_or_default();
    match event.text("type") {
        Some("step_start") => {
            state.goes_on();
            state.finished = None;
        }
        Some("text") => {
            let text = part.text("text").unwrap_or_default().to_owned();
            state.last_text.clone_from(&text);
            events.push(EngineEvent::Text { text });
        }
        Some("reasoning") => {
            events.push(EngineEvent::Reasoning { text: part.text("text").unwrap_or_default().to_owned() });
        }
        Some("tool_use") => tool(state, &part, &mut events),
        Some("step_finish") => step_finish(state, &part, &mut events),
        Some("error") => events.push(error(state, event.get("error").unwrap_or(&Value::Null))),
        _ => {}
    }
    events
}

fn tool(state: &mut ParseState, part: &Value, events: &mut Vec<EngineEvent>) {
    let call = part.get("state").cloned().unwrap_or_default();
    let (id, name) = (part.text("callID").unwrap_or_default().to_owned(), part.text("tool").unwrap_or_default());
    let input = call.get("input").cloned().unwrap_or_default();
    events.push(EngineEvent::ToolStarted { id: id.clone(), name: name.to_owned(), input: text_of(&input) });
    let exit = call.get("metadata").and_then(|metadata| metadata.get("exit")).and_then(Value::as_i64);
    let ok = call.text("status") == Some("completed") && exit.is_none_or(|code| code == 0);
    let output = call.text("output").or_else(|| call.text("error")).unwrap_or_default().to_owned();
    if let Some(path) = input.text("filePath").filter(|_| ok && EDITORS.contains(&name)) {
        events.push(EngineEvent::FileChanged { path: path.to_owned(), change: FileChange::Written });
    }
    // By its own word for why the call failed: what a tool prints can say anything.
    let refused = call.text("status") == Some("error")
        && call.text("error").is_some_and(|why| why.contains("rule which prevents you from using"));
    if refused {
        state.n_denied = state.n_denied.saturating_add(1);
        let (input, answer) = (text_of(&input), crate::engine::Permission::Denied);
        events.push(EngineEvent::PermissionAsked(crate::engine::Asked::by_policy(&id, name, input, answer)));
    }
    events.push(EngineEvent::ToolFinished { id, ok, output });
}

fn step_finish(state: &mut ParseState, part: &Value, events: &mut Vec<EngineEvent>) {
    let tokens = part.get("tokens").cloned().unwrap_or_default();
    let cache = tokens.get("cache").cloned().unwrap_or_default();
    let (read, write) = (cache.count("read"), cache.count("write"));
    let sum = |parts: &[Option<u64>]| parts.iter().copied().flatten().reduce(u64::saturating_add);
    let usage = Usage {
        input_tokens: sum(&[tokens.count("input"), read, write]),
        cached_tokens: read,
        cache_write_tokens: write,
        output_tokens: sum(&[tokens.count("output"), tokens.count("reasoning")]),
        reasoning_tokens: tokens.count("reasoning"),
        cost_micro_usd: part.micro_usd("cost"),
    };
    events.extend(state.counted(usage));
    match part.text("reason") {
        Some("stop") => {
            let text = state.last_text.clone();
            let structured = state.wants_answer.then(|| answer_in(&text)).flatten();
            state.finished = Some(Finished { structured, ..Finished::completed(text) });
        }
        Some("length") => {
            let message = "the model ran out of room for its answer";
            state.finished = Some(Finished::of_class(ErrorClass::LimitsReached, message));
        }
        Some("content-filter") => {
            state.finished = Some(Finished::of_class(ErrorClass::Refused, "the model's host refused the answer"));
        }
        _ => {}
    }
}

fn error(state: &mut ParseState, error: &Value) -> EngineEvent {
    let data = error.get("data").cloned().unwrap_or_default();
    let name = error.text("name").unwrap_or("error");
    let message = data.text("message").or_else(|| error.text("message")).unwrap_or(name).to_owned();
    let body = data.text("responseBody").unwrap_or_default();
    let class = match (data.count("statusCode"), name) {
        (_, "ContentFilterError") => Some(ErrorClass::Refused),
        (Some(status), _) => Some(ErrorClass::of_status(status, &format!("{message} {body}"))),
        (None, "ProviderAuthError") => Some(ErrorClass::NotLoggedIn),
        (None, "MessageOutputLengthError") => Some(ErrorClass::LimitsReached),
        (None, "MessageAbortedError") => Some(ErrorClass::Killed),
        (None, _) => ErrorClass::of_message(&message),
    };
    let reset = data
        .get("responseHeaders")
        .and_then(|headers| headers.text("retry-after"))
        .and_then(|seconds| seconds.trim().parse::<u64>().ok())
        .map(|seconds| Reset::After(seconds.saturating_mul(1000)));
    let class = class.map(|class| class.with_reset(reset));
    state.finished = Some(Finished { class, ..Finished::failed(message.clone()) });
    state.trouble = Some((class, message.clone()));
    match class {
        Some(ErrorClass::RateLimit { reset } | ErrorClass::UsageLimit { reset }) => {
            EngineEvent::RateLimit(RateLimit { reached: true, reset, used_percent: None, text: message })
        }
        _ => EngineEvent::notice(message),
    }
}
