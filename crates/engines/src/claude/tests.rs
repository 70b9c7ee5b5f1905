use crate::engine::{Endpoint, Engine, EngineRequest, Key, McpServer, Phase, Prepared, Session, Subject, Transport};
use crate::sandbox::Profile;
use serde_json::{Value, json};
use std::path::Path;

fn request() -> EngineRequest {
    let subject = Subject { phase: Phase::Work, step: "01-fix".into(), attempt: 1 };
    EngineRequest::new(subject, "fix it", Path::new("/work"), Path::new("/attempt"))
}

fn prepared(request: &EngineRequest) -> Prepared {
    Engine::Claude.prepare(request).unwrap()
}

fn argv(request: &EngineRequest) -> Vec<String> {
    prepared(request).argv[4..].to_vec()
}

fn value<'a>(argv: &'a [String], flag: &str) -> Option<&'a str> {
    argv.iter().position(|arg| arg == flag).map(|place| argv[place + 1].as_str())
}

#[test]
fn nobody_is_asked_and_only_what_is_listed_is_allowed() {
    let argv = argv(&request());
    assert_eq!(argv[..5], ["claude", "-p", "--output-format", "stream-json", "--verbose"]);
    assert_eq!(value(&argv, "--permission-mode"), Some("dontAsk"));
    assert_eq!(
        value(&argv, "--allowedTools"),
        Some("Read,Grep,Glob,LS,Edit,MultiEdit,Write,NotebookEdit,Bash,TodoWrite")
    );
    assert!(!argv.iter().any(|arg| arg.contains("dangerously") || arg == "--continue"));
    // Neither the checkout's settings nor its servers: both are commands.
    assert_eq!(value(&argv, "--setting-sources"), Some("user"));
    assert!(argv.iter().any(|arg| arg == "--strict-mcp-config"));
}

#[test]
fn what_only_reads_cannot_write_whatever_is_configured() {
    let mut asked = EngineRequest { access: Profile::ReadOnly, ..request() };
    assert_eq!(value(&argv(&asked), "--allowedTools"), Some("Read,Grep,Glob,LS"));
    asked.settings.allowed_tools = vec!["Bash".into()];
    assert_eq!(value(&argv(&asked), "--disallowedTools"), Some("Edit,MultiEdit,Write,NotebookEdit,Bash"));
}

#[test]
fn a_session_is_named_beforehand_or_gone_on_with() {
    let id = "7b5a1c1e-0000-4000-8000-000000000001";
    let preset = argv(&EngineRequest { session: Session::Preset(id.into()), ..request() });
    assert_eq!((value(&preset, "--session-id"), value(&preset, "--resume")), (Some(id), None));
    let resumed = argv(&EngineRequest { session: Session::Resume(id.into()), ..request() });
    assert_eq!((value(&resumed, "--session-id"), value(&resumed, "--resume")), (None, Some(id)));
}

#[test]
fn its_environment_says_where_the_model_is_and_keeps_the_key_from_its_tools() {
    let asked = EngineRequest {
        endpoint: Endpoint { base_url: Some("http://127.0.0.1:1".into()), key: Some(Key::new("K", "sk-123")) },
        ..request()
    };
    let prepared = prepared(&asked);
    let variable = |name: &str| prepared.env.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    assert_eq!(variable("ANTHROPIC_BASE_URL"), Some("http://127.0.0.1:1"));
    assert!(prepared.env.iter().all(|(_, value)| !value.contains("sk-123")));
    let file = |name: &str| prepared.files.iter().find(|file| file.path.ends_with(name)).unwrap().content.clone();
    assert_eq!(file("model.key"), b"sk-123");
    assert_eq!(file("settings.json"), br#"{"apiKeyHelper":"cat '/attempt/home/model.key'"}"#);
    assert_eq!(value(&prepared.argv, "--settings"), Some("/attempt/home/settings.json"));
    // It would force a sandbox that needs more programs and leaves files in the checkout.
    assert_eq!(variable("CLAUDE_CODE_SUBPROCESS_ENV_SCRUB"), None);
    assert_eq!(variable("CLAUDE_CODE_MAX_RETRIES"), Some("2"));
    assert_eq!(variable("DISABLE_AUTOUPDATER"), Some("1"));
    // Whatever but "1" makes one of its relatives refuse to start.
    assert_eq!(variable("IS_SANDBOX"), None);
}

#[test]
fn servers_of_tools_are_listed_in_a_file_of_their_own() {
    let key = |name: &str| Key::new(name, "secret");
    let args = vec!["-x".into()];
    let stdio = Transport::Stdio { command: "/bin/mcp".into(), args, env: vec![key("DOCS")] };
    let http = Transport::Http { url: "http://127.0.0.1:2/mcp".into(), token: Some(key("TOKEN")) };
    let asked = EngineRequest {
        mcp_servers: vec![
            McpServer::new("one", stdio),
            McpServer { tools: vec!["find".into(), "read".into()], ..McpServer::new("two", http) },
        ],
        output_schema: Some(json!({"type": "object"})),
        max_turns: Some(7),
        ..request()
    };
    let argv = argv(&asked);
    assert!(value(&argv, "--allowedTools").unwrap().ends_with(",mcp__one,mcp__two__find,mcp__two__read"));
    assert_eq!(value(&argv, "--json-schema"), Some(r#"{"type":"object"}"#));
    assert_eq!(value(&argv, "--max-turns"), Some("7"));
    let prepared = prepared(&asked);
    assert!(prepared.env.contains(&("ENABLE_TOOL_SEARCH".into(), "false".into())));
    let file = prepared.files.iter().find(|file| file.path == Path::new("/attempt/home/mcp.json")).unwrap();
    let config: Value = serde_json::from_slice(&file.content).unwrap();
    let stdio = json!({"type": "stdio", "command": "/bin/mcp", "args": ["-x"], "env": {"DOCS": "secret"}});
    assert_eq!(config["mcpServers"]["one"], stdio);
    let headers = json!({"Authorization": "Bearer secret"});
    assert_eq!(
        config["mcpServers"]["two"],
        json!({"type": "http", "url": "http://127.0.0.1:2/mcp", "headers": headers})
    );
}
