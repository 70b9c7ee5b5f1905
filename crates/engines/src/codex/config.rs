//! The configuration that an attempt's Codex is given: nothing of anybody's own, nothing of the repository's.

use super::KEY_VARIABLE;
use crate::engine::{EngineError, EngineRequest, McpServer, Transport, utf8};
use toml::{Table, Value};

/// Where the model is when only a key is configured.
const OPENAI: &str = "https://api.openai.com/v1";
/// What tools do not find in their environment, whatever it is called.
const SECRETS: [&str; 7] = ["*KEY*", "*TOKEN*", "*SECRET*", "*PASSWORD*", "*CREDENTIAL*", "PILOTHOUSE_*", "CODEX_*"];

pub(super) fn render(request: &EngineRequest) -> Result<String, EngineError> {
    let mut config = table([
        ("approval_policy", "never".into()),
        ("check_for_update_on_startup", false.into()),
        ("analytics", table([("enabled", false.into())]).into()),
        ("history", table([("persistence", "none".into())]).into()),
        ("features", table([("apps", false.into())]).into()),
        ("shell_environment_policy", environment_policy()),
        ("projects", projects(request)?),
    ]);
    if let Some(effort) = &request.effort {
        config.insert("model_reasoning_effort".into(), effort.as_str().into());
    }
    if request.endpoint.base_url.is_some() || request.endpoint.key.is_some() {
        config.insert("model_provider".into(), "pilothouse".into());
        config.insert("model_providers".into(), table([("pilothouse", provider(request))]).into());
    }
    if !request.mcp_servers.is_empty() {
        let servers = request.mcp_servers.iter().map(|server| (server.name.clone(), mcp_server(server)));
        config.insert("mcp_servers".into(), Value::Table(servers.collect()));
    }
    toml::to_string(&config).map_err(|error| EngineError::Files { message: error.to_string() })
}

/// Retries are few and bounded: what lasts longer is a failure with a class, and is waited for without a process.
fn provider(request: &EngineRequest) -> Value {
    let mut provider = table([
        ("name", "Pilothouse".into()),
        ("base_url", request.endpoint.base_url.as_deref().unwrap_or(OPENAI).into()),
        ("wire_api", "responses".into()),
        ("request_max_retries", 2.into()),
        ("stream_max_retries", 2.into()),
        ("stream_idle_timeout_ms", 120_000.into()),
    ]);
    if request.endpoint.key.is_some() {
        provider.insert("env_key".into(), KEY_VARIABLE.into());
    }
    provider.into()
}

/// Tools see what a login shell would, without anything that could be a key.
fn environment_policy() -> Value {
    let exclude: Vec<Value> = SECRETS.iter().map(|&pattern| pattern.into()).collect();
    table([("inherit", "core".into()), ("exclude", exclude.into())]).into()
}

/// The checkout's own configuration is hostile until proven otherwise; it is never loaded.
fn projects(request: &EngineRequest) -> Result<Value, EngineError> {
    let untrusted = table([("trust_level", "untrusted".into())]);
    let mut projects = Table::new();
    projects.insert(utf8(&request.worktree)?, untrusted.into());
    Ok(projects.into())
}

/// In a run that nobody watches a tool has to be approved beforehand, or every call of it is refused.
fn mcp_server(server: &McpServer) -> Value {
    let mut entry = match &server.transport {
        Transport::Stdio { command, args, env } => {
            let args: Vec<Value> = args.iter().map(|arg| arg.as_str().into()).collect();
            let env = env.iter().map(|key| (key.variable().to_owned(), key.reveal().into()));
            table([("command", command.as_str().into()), ("args", args.into()), ("env", Value::Table(env.collect()))])
        }
        Transport::Http { url, token } => {
            let headers = token.iter().map(|token| ("Authorization".to_owned(), token.as_bearer().into()));
            table([("url", url.as_str().into()), ("http_headers", Value::Table(headers.collect()))])
        }
    };
    if !server.tools.is_empty() {
        let tools: Vec<Value> = server.tools.iter().map(|tool| tool.as_str().into()).collect();
        entry.insert("enabled_tools".into(), tools.into());
    }
    entry.insert("default_tools_approval_mode".into(), "approve".into());
    entry.into()
}

fn table<const N: usize>(entries: [(&str, Value); N]) -> Table {
    entries.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}
