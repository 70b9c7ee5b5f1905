//! Codex: `codex exec --json`, or `codex app-server` where it asks ([`talk`]), in a home of its own for each attempt.
//!
//! Its configuration is written for each attempt, because Codex writes into it and would otherwise trust what other
//! attempts made it trust. It reads the prompt from its input: an input that stays open is waited for. It has a sandbox
//! of its own for tools, in which `.git` is read-only; Pilothouse commits. What it counts is the sum over its thread.

pub(crate) mod config;
mod items;
pub(crate) mod rollout;
mod talk;
#[cfg(test)]
mod tests;

use crate::engine::{
    EngineError, EngineEvent, EngineRequest, ErrorClass, Fields, Finished, ParseState, Permissions, Prepared,
    RateLimit, Session, Usage, utf8,
};
use crate::sandbox::Profile;
use crate::talk::Policy;
use serde_json::Value;
use std::ffi::OsString;
pub use talk::SUBCOMMAND;

/// Where its configuration and its sessions lie beneath the engine's home.
pub(crate) const HOME: &str = ".codex";
/// The variable that its configuration takes the key from.
pub(crate) const KEY_VARIABLE: &str = "PILOTHOUSE_MODEL_KEY";

pub(crate) fn prepare(request: &EngineRequest) -> Result<Prepared, EngineError> {
    let home = request.home();
    let mut argv = request.command("codex");
    if is_talked_with(request) {
        argv.push("app-server".to_owned());
        argv.extend(request.settings.extra_args.iter().cloned());
        let prepared = crate::talk::prepare(request, SUBCOMMAND, argv, conversation(request)?)?;
        return configured(request, prepared);
    }
    let mut put = |parts: &[&str]| argv.extend(parts.iter().map(|&part| part.to_owned()));
    put(&["exec", "--json", "--skip-git-repo-check", "-C", &utf8(&request.worktree)?]);
    // Named also when resuming: without it a resumed thread may write where the first run could not.
    put(&["-s", sandbox_mode(request)]);
    if let Some(model) = &request.model {
        put(&["-m", model]);
    }
    let schema = home.join("schema.json");
    if request.output_schema.is_some() {
        put(&["--output-schema", &utf8(&schema)?]);
    }
    argv.extend(request.settings.extra_args.iter().cloned());
    if let Session::Resume(id) = &request.session {
        argv.extend(["resume".to_owned(), id.clone()]);
    }
    argv.push("-".to_owned());
    let mut prepared = configured(request, Prepared::command(argv))?;
    if let Some(answer) = &request.output_schema {
        prepared = prepared.file(schema, answer.to_string());
    }
    prepared.input(home.join("prompt.txt"), &request.prompt)
}

/// Runs the driver of `app-server`; `args` are those after `engine-codex`, the answer is the process's exit code.
pub fn main(args: impl IntoIterator<Item = OsString>) -> i32 {
    crate::talk::run(SUBCOMMAND, args, talk::Client::new)
}

fn configured(request: &EngineRequest, prepared: Prepared) -> Result<Prepared, EngineError> {
    let codex_home = request.home().join(HOME);
    let mut prepared =
        prepared.env("CODEX_HOME", utf8(&codex_home)?).file(codex_home.join("config.toml"), config::render(request)?);
    if let Some(key) = &request.endpoint.key {
        prepared = prepared.env(KEY_VARIABLE, key.reveal());
    }
    Ok(prepared)
}

/// Whether somebody has to listen to it: because it asks, because `exec` keeps to no list of tools, or because that was
/// configured.
fn is_talked_with(request: &EngineRequest) -> bool {
    let settings = &request.settings;
    settings.permissions != Permissions::Deny || !settings.allowed_tools.is_empty() || settings.app_server
}

fn conversation(request: &EngineRequest) -> Result<talk::Script, EngineError> {
    let approvals = match request.settings.permissions {
        Permissions::Deny if request.settings.allowed_tools.is_empty() => "never",
        // It asks, and what is not listed is answered with no.
        Permissions::Deny | Permissions::Ask => "untrusted",
        Permissions::Allow => "on-request",
    };
    Ok(talk::Script {
        prompt: request.prompt.clone(),
        cwd: utf8(&request.worktree)?,
        resume: match &request.session {
            Session::Resume(id) => Some(id.clone()),
            Session::New | Session::Preset(_) => None,
        },
        model: request.model.clone(),
        effort: request.effort.clone(),
        sandbox: sandbox_mode(request).to_owned(),
        approvals: approvals.to_owned(),
        output_schema: request.output_schema.clone(),
        policy: Policy::of(request),
    })
}

fn sandbox_mode(request: &EngineRequest) -> &'static str {
    match request.access {
        // Inside a sandbox of ours its own cannot be built, and is not needed.
        _ if request.settings.sandboxed => "danger-full-access",
        Profile::ReadOnly => "read-only",
        Profile::Workspace => "workspace-write",
        Profile::Full => "danger-full-access",
    }
}

pub(crate) fn parse_line(state: &mut ParseState, line: &str) -> Vec<EngineEvent> {
    let Ok(event) = serde_json::from_str::<Value>(line) else { return state.strange(line) };
    match event.text("type") {
        Some("thread.started") => match event.text("thread_id") {
            Some(id) if state.is_session(id) => state.session_event(id).into_iter().collect(),
            // A second thread in one run was not begun by Codex.
            _ => state.strange(line),
        },
        Some("turn.started") => {
            state.finished = None;
            state.acted = false;
            Vec::new()
        }
        Some(kind @ ("item.started" | "item.updated" | "item.completed")) => match event.get("item") {
            Some(item) => items::parse(state, kind == "item.completed", item),
            None => state.strange(line),
        },
        Some("error") => error(state, event.text("message").unwrap_or_default()),
        // What the driver of `app-server` says itself.
        Some("permission_wanted" | "permission_asked" | "rate_limit" | "notice" | "finished") => {
            crate::scripted::parse_line(state, line)
        }
        // The sum of the thread, after each call to the model.
        Some("thread.usage") => {
            event.get("usage").and_then(|usage| state.metered(usage_of(usage))).into_iter().collect()
        }
        Some("turn.completed") => turn_completed(state, &event),
        Some("turn.failed") => {
            let message = event.get("error").and_then(|error| error.text("message")).unwrap_or("the turn failed");
            let (class, message) = explain(message);
            state.finished = Some(Finished { class, ..Finished::failed(message) });
            Vec::new()
        }
        Some(_) => Vec::new(),
        None => state.strange(line),
    }
}

fn turn_completed(state: &mut ParseState, event: &Value) -> Vec<EngineEvent> {
    state.trouble = None;
    state.finished = Some(state.completed());
    event.get("usage").and_then(|usage| state.metered(usage_of(usage))).into_iter().collect()
}

/// What it says of a hitch: it tries again by itself, for ever when there is no network at all.
fn error(state: &mut ParseState, message: &str) -> Vec<EngineEvent> {
    let (class, text) = explain(message);
    state.trouble = Some((class, text.clone()));
    match class {
        Some(ErrorClass::RateLimit { reset } | ErrorClass::UsageLimit { reset }) => {
            vec![EngineEvent::RateLimit(RateLimit { reached: true, reset, used_percent: None, text })]
        }
        _ => vec![EngineEvent::notice(text)],
    }
}

/// The kind of a failure and words for it; a refused request's message is the raw body of the answer.
fn explain(message: &str) -> (Option<ErrorClass>, String) {
    let body = serde_json::from_str::<Value>(message).ok();
    let Some(error) = body.as_ref().and_then(|body| body.get("error")) else {
        return (ErrorClass::of_message(message), message.to_owned());
    };
    let text = error.text("message").unwrap_or(message);
    let kind = error.text("type").or_else(|| error.text("code")).unwrap_or_default();
    (ErrorClass::of_message(&format!("{kind} {text}")), format!("{text} ({kind})"))
}

pub(crate) fn usage_of(usage: &Value) -> Usage {
    Usage {
        input_tokens: usage.count("input_tokens"),
        cached_tokens: usage.count("cached_input_tokens"),
        cache_write_tokens: usage.count("cache_write_input_tokens"),
        output_tokens: usage.count("output_tokens"),
        reasoning_tokens: usage.count("reasoning_output_tokens"),
        cost_micro_usd: None,
    }
}
