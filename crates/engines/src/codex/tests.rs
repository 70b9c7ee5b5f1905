use super::talk::{Client, Script};
use crate::engine::{
    Endpoint, Engine, EngineRequest, Key, McpServer, Phase, Prepared, Session, Subject, Transport, Usage,
};
use crate::engine::{EngineEvent, Permission, Permissions, Transcript};
use crate::sandbox::Profile;
use crate::talk::answers::Answer;
use crate::talk::{Conversation, Out, Policy};
use serde_json::{Value, json};
use std::path::Path;

fn request() -> EngineRequest {
    let subject = Subject { phase: Phase::Work, step: "01-fix".into(), attempt: 1 };
    EngineRequest::new(subject, "--help me", Path::new("/work"), Path::new("/attempt"))
}

fn prepared(request: &EngineRequest) -> Prepared {
    Engine::Codex.prepare(request).unwrap()
}

/// What stands behind the shell that gives it its input.
fn argv(request: &EngineRequest) -> String {
    let argv = prepared(request).argv;
    assert_eq!(argv[..4], ["/bin/sh", "-c", r#"exec "$@" < "$0""#, "/attempt/home/prompt.txt"]);
    argv[4..].join(" ")
}

fn config(request: &EngineRequest) -> toml::Table {
    let files = prepared(request).files;
    let file = files.iter().find(|file| file.path == Path::new("/attempt/home/.codex/config.toml")).unwrap();
    toml::from_str(std::str::from_utf8(&file.content).unwrap()).unwrap()
}

#[test]
fn it_is_started_with_its_prompt_as_its_input_and_its_sandbox_named() {
    assert_eq!(argv(&request()), "codex exec --json --skip-git-repo-check -C /work -s workspace-write -");
    let prompt = prepared(&request()).files.into_iter().find(|file| file.path.ends_with("prompt.txt")).unwrap();
    assert_eq!(prompt.content, b"--help me");

    let resumed = EngineRequest {
        session: Session::Resume("01a1fc66".into()),
        access: Profile::ReadOnly,
        model: Some("gpt-5.5".into()),
        output_schema: Some(json!({"type": "object"})),
        ..request()
    };
    assert_eq!(
        argv(&resumed),
        "codex exec --json --skip-git-repo-check -C /work -s read-only -m gpt-5.5 --output-schema \
         /attempt/home/schema.json resume 01a1fc66 -"
    );
}

#[test]
fn inside_a_sandbox_of_ours_it_builds_none_of_its_own() {
    let mut inside = request();
    inside.settings.sandboxed = true;
    assert!(argv(&inside).contains("-s danger-full-access"));
}

#[test]
fn the_key_reaches_it_and_not_its_tools() {
    let asked = EngineRequest {
        endpoint: Endpoint { base_url: Some("http://127.0.0.1:1/v1".into()), key: Some(Key::new("K", "sk-123")) },
        ..request()
    };
    let prepared = prepared(&asked);
    assert!(prepared.env.contains(&("PILOTHOUSE_MODEL_KEY".into(), "sk-123".into())));
    assert!(prepared.files.iter().all(|file| !String::from_utf8_lossy(&file.content).contains("sk-123")));
    assert!(!format!("{asked:?}").contains("sk-123"));

    let config = config(&asked);
    let provider = &config["model_providers"]["pilothouse"];
    assert_eq!(provider["base_url"].as_str(), Some("http://127.0.0.1:1/v1"));
    assert_eq!(provider["env_key"].as_str(), Some("PILOTHOUSE_MODEL_KEY"));
    let policy = &config["shell_environment_policy"];
    assert_eq!(policy["inherit"].as_str(), Some("core"));
    let excluded: Vec<&str> = policy["exclude"].as_array().unwrap().iter().filter_map(|name| name.as_str()).collect();
    assert!(excluded.contains(&"*KEY*") && excluded.contains(&"PILOTHOUSE_*"));
}

#[test]
fn the_checkout_is_not_trusted_and_nobody_is_asked() {
    let config = config(&request());
    assert_eq!(config["projects"]["/work"]["trust_level"].as_str(), Some("untrusted"));
    assert_eq!(config["approval_policy"].as_str(), Some("never"));
    assert_eq!(config["check_for_update_on_startup"].as_bool(), Some(false));
    assert_eq!(config["analytics"]["enabled"].as_bool(), Some(false));
    assert!(config.get("model_provider").is_none());
}

#[test]
fn tools_of_our_servers_are_approved_beforehand() {
    let args = vec!["\"]\nx = 1".into()];
    let stdio = Transport::Stdio { command: "/bin/mcp".into(), args, env: vec![Key::new("DOCS", "secret")] };
    let http = Transport::Http { url: "http://127.0.0.1:2/mcp".into(), token: Some(Key::new("TOKEN", "secret")) };
    let servers =
        vec![McpServer { tools: vec!["find".into()], ..McpServer::new("orch", stdio) }, McpServer::new("docs", http)];
    let config = config(&EngineRequest { mcp_servers: servers, ..request() });
    assert_eq!(config["mcp_servers"]["docs"]["http_headers"]["Authorization"].as_str(), Some("Bearer secret"));
    let server = &config["mcp_servers"]["orch"];
    assert_eq!(server["default_tools_approval_mode"].as_str(), Some("approve"));
    assert_eq!(server["args"][0].as_str(), Some("\"]\nx = 1"));
    assert_eq!(server["env"]["DOCS"].as_str(), Some("secret"));
    assert_eq!(server["enabled_tools"][0].as_str(), Some("find"));
}

#[test]
fn names_that_would_mean_something_else_are_refused() {
    for name in ["-c", "--model", "a b", "x\"]", "", "a\nb", "é"] {
        let asked = EngineRequest { model: Some(name.into()), ..request() };
        assert!(Engine::Codex.prepare(&asked).is_err(), "{name:?}");
        let asked = EngineRequest { session: Session::Resume(name.into()), ..request() };
        assert!(Engine::Codex.prepare(&asked).is_err(), "{name:?}");
    }
}

#[test]
fn what_a_failed_turn_used_is_found_in_its_file() {
    let home = tempfile::tempdir().unwrap();
    let day = home.path().join("sessions/2026/11/21");
    std::fs::create_dir_all(&day).unwrap();
    let count = |input: u64| {
        json!({"type": "event_msg", "payload": {"type": "token_count", "info": {
            "total_token_usage": {"input_tokens": input, "cached_input_tokens": 1000, "output_tokens": 34,
                "reasoning_output_tokens": 5, "total_tokens": 1234},
            "last_token_usage": {"input_tokens": 1}}}})
    };
    let lines = [
        count(1200).to_string(),
        count(2400).to_string(),
        json!({"type": "event_msg", "payload": {"type": "token_count", "info": null}}).to_string(),
        json!({"type": "response_item", "payload": {"text": "token_count total_token_usage"}}).to_string(),
        "{\"type\":\"event_msg\",\"payload\":{\"type\":\"token_count\",\"inf".to_owned(),
    ];
    std::fs::write(day.join("rollout-2026-11-21T05-37-57-01a1fc9c.jsonl"), lines.join("\n")).unwrap();
    std::fs::write(day.join("rollout-2026-11-21T05-37-57-other.jsonl"), count(9).to_string()).unwrap();

    let expected = Usage {
        input_tokens: Some(2400),
        cached_tokens: Some(1000),
        output_tokens: Some(34),
        reasoning_tokens: Some(5),
        ..Usage::default()
    };
    assert_eq!(super::rollout::total(home.path(), "01a1fc9c"), Some(expected));
    assert_eq!(super::rollout::total(home.path(), "missing"), None);
    assert_eq!(super::rollout::total(Path::new("/nowhere"), "01a1fc9c"), None);
}

fn script() -> Script {
    let policy = Policy {
        access: Profile::Workspace,
        allowed_tools: Vec::new(),
        otherwise: Permissions::Ask,
        servers: Vec::new(),
    };
    Script {
        prompt: "commit it".into(),
        cwd: "/srv/demo/wt".into(),
        resume: None,
        model: None,
        effort: None,
        sandbox: "workspace-write".into(),
        approvals: "untrusted".into(),
        output_schema: None,
        policy,
    }
}

/// What was sent, and what the driver printed.
#[derive(Default)]
struct Held {
    sent: Vec<Value>,
    printed: String,
    done: Option<bool>,
}

impl Held {
    fn take(&mut self, out: Vec<Out>) {
        for step in out {
            match step {
                Out::Send(message) => self.sent.push(message),
                Out::Tell(event) => self.printed += &format!("{}\n", serde_json::to_string(&event).unwrap()),
                Out::Pass(line) => self.printed += &format!("{line}\n"),
                Out::Done { ok } => self.done = Some(ok),
                Out::Close => panic!("its input stays open"),
            }
        }
    }

    fn events(&self) -> Vec<EngineEvent> {
        Transcript::new(Engine::Codex).feed(self.printed.as_bytes())
    }
}

/// The server's side of a recorded conversation, up to the end of its first turn; people answer as they are told to.
fn replay(allowed: bool) -> Held {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts/codex-app-server.jsonl");
    let text = std::fs::read_to_string(path).unwrap();
    let (mut client, mut held) = (Client::new(script()), Held::default());
    held.take(client.start());
    for line in text.lines().filter_map(|line| line.strip_prefix("< ")) {
        held.take(client.receive(line));
        if let Some(wanted) = client.question().cloned() {
            let (question, asked) = (wanted.question, wanted.asked);
            held.take(client.answered(&Answer { question, asked, allowed, by: "alice".into() }));
        }
        if held.done.is_some() {
            break;
        }
    }
    held
}

#[test]
fn a_recorded_conversation_is_held_and_read_like_any_other_run() {
    let held = replay(true);

    assert_eq!(held.done, Some(true));
    let methods: Vec<&str> = held.sent.iter().filter_map(|sent| sent["method"].as_str()).collect();
    assert_eq!(methods, ["initialize", "initialized", "thread/start", "turn/start"]);
    assert_eq!(held.sent.last().unwrap()["result"]["decision"], "accept");
    let events = held.events();
    let count = |wanted: fn(&EngineEvent) -> bool| events.iter().filter(|event| wanted(event)).count();
    assert_eq!(count(|event| matches!(event, EngineEvent::Session { .. })), 1);
    assert_eq!(count(|event| matches!(event, EngineEvent::ToolStarted { .. })), 1);
    assert_eq!(count(|event| matches!(event, EngineEvent::PermissionWanted(_))), 1);
    let text = events.iter().rev().find_map(|event| match event {
        EngineEvent::Text { text } => Some(text.as_str()),
        _ => None,
    });
    assert_eq!(text, Some("commit attempted"));
    let mut transcript = Transcript::new(Engine::Codex);
    transcript.feed(held.printed.as_bytes());
    // Two calls to the model, told one after the other as the sum of the thread.
    let usage = transcript.usage().unwrap();
    assert_eq!((usage.input_tokens, usage.output_tokens), (Some(2400), Some(68)));
}

#[test]
fn what_people_deny_is_declined() {
    let held = replay(false);

    let answers: Vec<&Value> = held.sent.iter().filter(|sent| sent.get("result").is_some()).collect();
    assert_eq!(answers[0]["result"]["decision"], "decline");
    let denied = |event: &EngineEvent| matches!(event, EngineEvent::PermissionAsked(asked) if asked.answer == Permission::Denied);
    assert!(held.events().iter().any(denied));
}

#[test]
fn the_server_is_used_where_somebody_may_be_asked() {
    let mut request = request();
    assert!(argv(&request).contains(" exec --json "));
    request.settings.exe = "/bin/pilothouse".into();
    for permissions in [Permissions::Ask, Permissions::Allow] {
        request.settings.permissions = permissions;
        assert_eq!(prepared(&request).argv, ["/bin/pilothouse", "engine-codex", "--script=/attempt/home/driver.json"]);
    }
    request.settings.permissions = Permissions::Deny;
    request.settings.app_server = true;
    assert_eq!(prepared(&request).argv[1], "engine-codex");
}

#[test]
fn a_list_of_tools_makes_it_ask_its_driver_and_nobody_else() {
    let mut request = request();
    request.settings.exe = "/bin/pilothouse".into();
    let approvals = |request: &EngineRequest| crate::codex::conversation(request).unwrap().approvals;
    assert_eq!(approvals(&request), "never");

    request.settings.allowed_tools = vec!["edit".to_owned()];

    assert_eq!(prepared(&request).argv[1], "engine-codex");
    assert_eq!(approvals(&request), "untrusted");
    assert_eq!(crate::codex::conversation(&request).unwrap().policy.otherwise, Permissions::Deny);
}

#[test]
fn what_it_asks_for_beyond_its_sandbox_is_given_to_nobody() {
    let (mut client, mut held) = (Client::new(script()), Held::default());
    held.take(client.start());
    for (id, method) in
        [(1, "item/permissions/requestApproval"), (2, "mcpServer/elicitation/request"), (3, "item/tool/call")]
    {
        held.take(client.receive(&json!({"id": id, "method": method, "params": {"threadId": "t"}}).to_string()));
    }
    let last: Vec<&Value> = held.sent.iter().skip(1).collect();
    assert_eq!(last[0]["result"], json!({"permissions": {}}));
    assert_eq!(last[1]["result"], json!({"action": "decline"}));
    assert_eq!(last[2]["error"]["code"], -32601);
    assert_eq!(client.question(), None);
}
