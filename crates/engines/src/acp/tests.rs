//! The conversation, replayed from recorded ones and with agents that misbehave.

use super::client::Client;
use super::script::Script;
use crate::engine::{Asked, EngineEvent, ErrorClass, Finished, Permission, Permissions, Usage, Wanted};
use crate::sandbox::Profile;
use crate::talk::answers::Answer;
use crate::talk::{Conversation, Lost, Out, Policy};
use serde_json::{Value, json};
use std::path::Path;

fn script() -> Script {
    Script {
        cwd: "/srv/demo/wt".into(),
        prompt: "write file a.txt".into(),
        resume: None,
        model: None,
        wants_answer: false,
        policy: policy(Profile::Workspace),
        mcp_servers: Vec::new(),
        spent_micro_usd: 0,
    }
}

fn policy(access: Profile) -> Policy {
    Policy { access, allowed_tools: Vec::new(), otherwise: Permissions::Deny, servers: Vec::new() }
}

/// What the agent said in a recorded conversation.
fn recorded(name: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/transcripts/{name}.jsonl"));
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().filter_map(|line| line.strip_prefix("< ").map(str::to_owned)).collect()
}

/// What was sent, what was told, and whether it ended.
#[derive(Default)]
struct Held {
    sent: Vec<Value>,
    told: Vec<EngineEvent>,
    done: Option<bool>,
}

impl Held {
    fn take(&mut self, out: Vec<Out>) {
        for step in out {
            match step {
                Out::Send(message) => self.sent.push(message),
                Out::Tell(event) => self.told.push(event.cleaned()),
                Out::Done { ok } => self.done = Some(ok),
                other @ (Out::Pass(_) | Out::Close) => panic!("{other:?}"),
            }
        }
    }

    fn methods(&self) -> Vec<&str> {
        self.sent.iter().filter_map(|message| message["method"].as_str()).collect()
    }

    fn last_word(&self) -> &Finished {
        match self.told.last() {
            Some(EngineEvent::Finished(finished)) => finished,
            other => panic!("the last thing told is {other:?}"),
        }
    }

    fn usage(&self) -> Usage {
        let mut sum = crate::engine::Meter::default();
        for event in &self.told {
            if let EngineEvent::Usage(usage) = event {
                sum.add(*usage);
            }
        }
        sum.total()
    }

    fn asked(&self) -> Vec<&Asked> {
        self.told
            .iter()
            .filter_map(|event| match event {
                EngineEvent::PermissionAsked(asked) => Some(asked),
                _ => None,
            })
            .collect()
    }
}

fn asking() -> Script {
    Script { policy: Policy { otherwise: Permissions::Ask, ..policy(Profile::Workspace) }, ..script() }
}

/// The agent asks whether it may run a command.
fn question(id: &str, command: &str) -> String {
    let call = json!({"toolCallId": id, "kind": "execute", "title": "build", "rawInput": {"command": command},
        "locations": [{"path": "/srv/demo/wt/build"}]});
    let options = json!([{"optionId": "o", "kind": "allow_once"}, {"optionId": "n", "kind": "reject_once"}]);
    let params = json!({"sessionId": "s1", "toolCall": call, "options": options});
    json!({"id": id, "method": "session/request_permission", "params": params}).to_string()
}

fn answer(wanted: &Wanted, allowed: bool) -> Answer {
    Answer { question: wanted.question.clone(), asked: wanted.asked.clone(), allowed, by: "alice".into() }
}

#[test]
fn a_question_waits_for_people_and_gets_their_answer() {
    for (allowed, option) in [(true, "o"), (false, "n")] {
        let (mut client, mut held) = (Client::new(asking()), Held::default());
        held.take(client.start());
        for line in with([]).into_iter().chain([question("t1", "make")]) {
            held.take(client.receive(&line));
        }
        let n_sent = held.sent.len();
        let wanted = client.question().unwrap().clone();
        assert_eq!((wanted.tool.as_str(), wanted.id.as_str()), ("execute", "t1"));
        assert!(wanted.input.contains("make") && wanted.input.contains("build"), "{wanted:?}");
        assert_eq!(wanted.paths, ["/srv/demo/wt/build"]);
        held.take(client.pause());
        assert_eq!((held.sent.len(), held.asked().len()), (n_sent, 0), "nothing is answered before people have");

        held.take(client.answered(&answer(&wanted, allowed)));

        assert_eq!(held.sent.last().unwrap()["result"]["outcome"]["optionId"], option);
        let asked = held.asked()[0];
        assert_eq!((asked.answer == Permission::Allowed, asked.by.as_deref()), (allowed, Some("alice")));
        assert_eq!(asked.question.as_deref(), Some(wanted.question.as_str()));
        assert_eq!(client.question(), None);
    }
}

#[test]
fn questions_are_put_one_after_another() {
    let (mut client, mut held) = (Client::new(asking()), Held::default());
    held.take(client.start());
    for line in with([]).into_iter().chain([question("t1", "make"), question("t2", "make install")]) {
        held.take(client.receive(&line));
    }
    let told = |held: &Held| held.told.iter().filter(|event| matches!(event, EngineEvent::PermissionWanted(_))).count();
    let first = client.question().unwrap().clone();
    assert_eq!(told(&held), 1);

    held.take(client.answered(&answer(&first, true)));

    let second = client.question().unwrap().clone();
    assert_eq!((told(&held), second.id.as_str()), (2, "t2"));
    assert_ne!((&first.question, &first.asked), (&second.question, &second.asked));
}

/// Plays the agent's side of a recorded conversation. What this client sets before its prompt and the recorded one did
/// not is answered with nothing, and the numbers of the answers are those of this client's requests.
fn replay(script: Script, name: &str) -> Held {
    let mut client = Client::new(script);
    let mut held = Held::default();
    held.take(client.start());
    for line in recorded(name) {
        // The recording is cut where lists of models grow long; what is needed of it stands before them.
        if !line.starts_with("{\"id\"") {
            held.take(client.receive(&line));
            continue;
        }
        let mut message = serde_json::from_str::<Value>(&line).unwrap_or_else(|_| {
            let session = line.split("\"sessionId\": \"").nth(1).and_then(|rest| rest.split('"').next());
            json!({"id": 0, "result": {"sessionId": session, "protocolVersion": 1}})
        });
        loop {
            let last = held.sent.last().unwrap();
            let extra = last["method"].as_str().is_some_and(|method| method.starts_with("session/set_"));
            if !extra {
                break;
            }
            let answer = json!({"id": last["id"], "result": {}});
            held.take(client.receive(&answer.to_string()));
        }
        if message.get("method").is_none() {
            let asked = held.sent.iter().rev().find(|sent| sent.get("method").is_some()).unwrap();
            message["id"] = asked["id"].clone();
        }
        held.take(client.receive(&message.to_string()));
    }
    held
}

fn hold(script: Script, lines: &[String]) -> Held {
    let mut client = Client::new(script);
    let mut held = Held::default();
    held.take(client.start());
    for line in lines {
        held.take(client.receive(line));
    }
    held
}

/// The agent's answers to our first three requests, then whatever a test adds.
fn opened() -> Vec<String> {
    [
        json!({"id": 1, "result": {"protocolVersion": 1, "agentCapabilities": {"loadSession": true}}}),
        json!({"id": 2, "result": {"sessionId": "s1"}}),
    ]
    .map(|message| message.to_string())
    .to_vec()
}

fn with(lines: impl IntoIterator<Item = Value>) -> Vec<String> {
    opened().into_iter().chain(lines.into_iter().map(|line| line.to_string())).collect()
}

fn update(update: &Value) -> Value {
    json!({"method": "session/update", "params": {"sessionId": "s1", "update": update}})
}

fn text_chunk(text: &str) -> Value {
    update(&json!({"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": text}}))
}

fn stop(reason: &str) -> Value {
    json!({"id": 3, "result": {"stopReason": reason}})
}

const AGENTS: [&str; 5] = ["acp-claude-0.100", "acp-claude-0.49", "acp-codex-2.6", "acp-gemini", "acp-opencode"];

#[test]
fn one_client_holds_the_recorded_conversation_of_every_agent() {
    for name in AGENTS {
        let held = replay(script(), name);
        assert_eq!(held.done, Some(true), "{name}: {:?} {:?}", held.methods(), held.told.last());
        let methods = held.methods();
        assert_eq!(
            (methods[..2].join(" "), methods.last()),
            ("initialize session/new".into(), Some(&"session/prompt")),
            "{name}"
        );
        let word = held.last_word();
        assert!(word.is_completed() && word.message.starts_with("Done: wrote "), "{name}: {word:?}");
        let count = |wanted: fn(&EngineEvent) -> bool| held.told.iter().filter(|event| wanted(event)).count();
        assert_eq!(count(|event| matches!(event, EngineEvent::Session { .. })), 1, "{name}");
        assert_eq!(count(|event| matches!(event, EngineEvent::ToolStarted { .. })), 1, "{name}");
        assert_eq!(count(|event| matches!(event, EngineEvent::ToolFinished { ok: true, .. })), 1, "{name}");
        // The first prompt of each: two calls, of the second of which opencode does not tell.
        let usage = held.usage();
        let expected = if name == "acp-opencode" { (1200, 34) } else { (2400, 68) };
        assert_eq!((usage.input_tokens, usage.output_tokens), (Some(expected.0), Some(expected.1)), "{name}");
    }
}

#[test]
fn what_each_agent_says_of_cost_is_the_sum_of_its_session() {
    let cost = |name: &str, spent| replay(Script { spent_micro_usd: spent, ..script() }, name).usage().cost_micro_usd;
    assert_eq!(cost("acp-claude-0.100", 0), Some(5040));
    assert_eq!(cost("acp-opencode", 0), Some(736));
    assert_eq!(cost("acp-opencode", 700), Some(36));
    assert_eq!(cost("acp-gemini", 0), None);
    assert_eq!(cost("acp-codex-2.6", 0), None);
}

#[test]
fn permissions_are_answered_by_policy_and_told() {
    for name in ["acp-claude-0.100", "acp-claude-0.49", "acp-gemini"] {
        let held = replay(script(), name);
        assert_eq!(held.asked().len(), 1, "{name}");
        assert_eq!(held.asked()[0].answer, Permission::Allowed, "{name}");
        let chosen = |held: &Held| {
            held.sent.iter().find_map(|message| message["result"]["outcome"]["optionId"].as_str().map(str::to_owned))
        };
        assert!(
            matches!(chosen(&held).as_deref(), Some("allow-once" | "allow" | "proceed_once")),
            "{name}: {:?}",
            chosen(&held)
        );

        let held = replay(Script { policy: policy(Profile::ReadOnly), ..script() }, name);
        assert_eq!(held.asked()[0].answer, Permission::Denied, "{name}");
        assert!(
            matches!(chosen(&held).as_deref(), Some("reject-once" | "reject" | "cancel")),
            "{name}: {:?}",
            chosen(&held)
        );
    }
}

#[test]
fn only_what_is_named_is_allowed_and_only_once() {
    let ask = |script: Script, kind: &str, options: Value| {
        let call = json!({"toolCallId": "t", "kind": kind, "title": "do it", "rawInput": {}});
        let params = json!({"sessionId": "s1", "toolCall": call, "options": options});
        let held = hold(script, &with([json!({"id": "q", "method": "session/request_permission", "params": params})]));
        (held.asked()[0].answer, held.sent.last().unwrap()["result"]["outcome"].clone())
    };
    let both = json!([{"optionId": "a", "kind": "allow_always"}, {"optionId": "o", "kind": "allow_once"}, {"optionId": "n", "kind": "reject_once"}]);
    let allowed = (Permission::Allowed, json!({"outcome": "selected", "optionId": "o"}));
    let denied = (Permission::Denied, json!({"outcome": "selected", "optionId": "n"}));
    assert_eq!(ask(script(), "edit", both.clone()), allowed);
    assert_eq!(ask(script(), "fetch", both.clone()), denied);
    assert_eq!(ask(script(), "other", both.clone()), denied);
    assert_eq!(ask(script(), "switch_mode", both.clone()), denied);
    let named = Policy { allowed_tools: vec!["fetch".into()], ..policy(Profile::Workspace) };
    let named = Script { policy: named, ..script() };
    assert_eq!(ask(named.clone(), "fetch", both.clone()), allowed);
    assert_eq!(ask(named, "edit", both), denied);
    // Forever is never allowed; where nothing can be chosen the question is taken back.
    let always = json!([{"optionId": "a", "kind": "allow_always"}]);
    assert_eq!(ask(script(), "edit", always), (Permission::Denied, json!({"outcome": "cancelled"})));
}

#[test]
fn only_what_is_no_command_is_taken_for_a_tool_of_a_server_by_its_title() {
    use crate::talk::permissions::ServerTools;
    let servers = vec![ServerTools { server: "run".into(), tools: Vec::new() }];
    let script = Script { policy: Policy { servers, ..policy(Profile::ReadOnly) }, ..script() };
    let ask = |kind: &str| {
        let call = json!({"toolCallId": "q", "kind": kind, "name": "run_shell_command", "title": "run_shell_command"});
        let options = json!([{"optionId": "o", "kind": "allow_once"}, {"optionId": "n", "kind": "reject_once"}]);
        let params = json!({"sessionId": "s1", "toolCall": call, "options": options});
        let asked = json!({"id": "q", "method": "session/request_permission", "params": params});
        hold(script.clone(), &with([asked])).asked()[0].answer
    };
    assert_eq!(
        (ask("execute"), ask("edit"), ask("fetch")),
        (Permission::Denied, Permission::Denied, Permission::Denied)
    );
    assert_eq!(ask("other"), Permission::Allowed);
}

#[test]
fn what_an_agent_asks_beyond_that_is_not_offered() {
    let held =
        hold(script(), &with([json!({"id": 7, "method": "fs/read_text_file", "params": {"path": "/etc/passwd"}})]));
    let answer = held.sent.last().unwrap();
    assert_eq!((&answer["id"], &answer["error"]["code"]), (&json!(7), &json!(-32601)));
    assert!(answer.get("result").is_none());
}

#[test]
fn a_session_is_gone_on_with_as_the_agent_offers_and_its_past_is_not_told_again() {
    let capabilities =
        |can: Value| json!({"id": 1, "result": {"protocolVersion": 1, "agentCapabilities": can}}).to_string();
    let resumed = Script { resume: Some("s1".into()), ..script() };
    let first = |can: Value| hold(resumed.clone(), &[capabilities(can)]);

    let held = first(json!({"loadSession": true, "sessionCapabilities": {"resume": {}}}));
    assert_eq!(held.methods(), ["initialize", "session/resume"]);
    let held = first(json!({"loadSession": true}));
    assert_eq!(held.methods(), ["initialize", "session/load"]);
    assert_eq!(held.sent[1]["params"]["sessionId"], "s1");
    let held = first(json!({}));
    assert_eq!(held.last_word().class, Some(ErrorClass::BadRequest));

    let lines = [
        capabilities(json!({"loadSession": true})),
        text_chunk("said before").to_string(),
        json!({"id": 2, "result": {}}).to_string(),
        text_chunk("said now").to_string(),
        stop("end_turn").to_string(),
    ];
    let held = hold(resumed, &lines);
    assert_eq!(held.last_word().message, "said now");
    assert_eq!(held.told[0], EngineEvent::Session { id: "s1".into() });
    assert_eq!(held.told[1], EngineEvent::Text { text: "said now".into() });
}

#[test]
fn why_an_agent_stopped_decides_what_it_came_to() {
    let class = |line: Value| {
        let held = hold(script(), &with([line]));
        assert_eq!(held.done, Some(false));
        held.last_word().class
    };
    assert_eq!(class(stop("max_tokens")), Some(ErrorClass::LimitsReached));
    assert_eq!(class(stop("max_turn_requests")), Some(ErrorClass::LimitsReached));
    assert_eq!(class(stop("refusal")), Some(ErrorClass::Refused));
    assert_eq!(class(stop("cancelled")), Some(ErrorClass::Killed));
    assert_eq!(class(stop("bored")), Some(ErrorClass::ProtocolError));
    assert_eq!(class(json!({"id": 3, "result": null})), Some(ErrorClass::ProtocolError));
    assert_eq!(
        class(json!({"id": 3, "error": {"code": -32000, "message": "log in first"}})),
        Some(ErrorClass::NotLoggedIn)
    );
    let limited = json!({"code": -32603, "message": "Internal error", "data": {"details": "429 Too Many Requests"}});
    assert_eq!(class(json!({"id": 3, "error": limited})), Some(ErrorClass::RateLimit { reset: None }));
}

#[test]
fn an_agent_of_another_version_and_a_model_that_is_not_there_are_refused() {
    let held = hold(script(), &[json!({"id": 1, "result": {"protocolVersion": 2}}).to_string()]);
    assert_eq!(held.last_word().class, Some(ErrorClass::BadRequest));

    let wanting = Script { model: Some("big".into()), ..script() };
    let held = hold(wanting.clone(), &opened());
    assert_eq!(held.last_word().message, "the agent does not offer the model big");
    let offer = |field: &str, offer: Value| {
        let mut result = json!({"sessionId": "s1"});
        result[field] = offer;
        let lines = [
            opened()[0].clone(),
            json!({"id": 2, "result": result}).to_string(),
            json!({"id": 3, "result": {}}).to_string(),
        ];
        hold(wanting.clone(), &lines).methods().join(" ")
    };
    let models = json!({"availableModels": [{"modelId": "big"}]});
    assert_eq!(offer("models", models), "initialize session/new session/set_model session/prompt");
    let options = json!([{"id": "model", "options": [{"value": "big"}]}]);
    assert_eq!(offer("configOptions", options), "initialize session/new session/set_config_option session/prompt");
}

#[test]
fn an_agent_that_only_reads_is_put_into_its_reading_mode() {
    let modes = json!({"currentModeId": "agent", "availableModes": [{"id": "agent"}, {"id": "read-only"}]});
    let lines = [opened()[0].clone(), json!({"id": 2, "result": {"sessionId": "s1", "modes": modes}}).to_string()];
    let held = hold(Script { policy: policy(Profile::ReadOnly), ..script() }, &lines);
    assert_eq!(held.sent.last().unwrap()["params"]["modeId"], "read-only");
}

#[test]
fn a_structured_answer_is_what_was_said_last() {
    let wanting = Script { wants_answer: true, ..script() };
    let tool = update(&json!({"sessionUpdate": "tool_call", "toolCallId": "t", "title": "look"}));
    let done = update(&json!({"sessionUpdate": "tool_call_update", "toolCallId": "t", "status": "completed"}));
    let lines =
        with([text_chunk("{\"a\": 0}"), tool, done, text_chunk("{\"a\":"), text_chunk(" 1}"), stop("end_turn")]);
    let held = hold(wanting, &lines);
    assert_eq!(held.last_word().structured, Some(json!({"a": 1})));
    assert!(held.told.contains(&EngineEvent::Text { text: "{\"a\": 1}".into() }), "{:?}", held.told);
}

#[test]
fn an_agent_that_is_gone_or_talks_nonsense_has_not_finished() {
    let mut client = Client::new(script());
    let mut held = Held::default();
    held.take(client.start());
    for line in
        ["", "garbage", "[]", "3", "{\"id\":99,\"result\":{}}", "{\"method\":\"session/update\"}", &"[".repeat(100_000)]
    {
        held.take(client.receive(line));
    }
    assert_eq!(held.done, None);
    held.take(client.lost(Lost::Ended));
    assert_eq!(held.last_word().class, Some(ErrorClass::ProtocolError));
    held.take(client.lost(Lost::Ended));
    held.take(client.receive(&stop("end_turn").to_string()));
    assert_eq!(held.told.iter().filter(|event| matches!(event, EngineEvent::Finished(_))).count(), 1);
}

#[test]
fn an_agent_that_was_killed_has_not_failed_by_itself() {
    let mut client = Client::new(script());
    let mut held = Held::default();
    held.take(client.start());

    held.take(client.lost(Lost::Killed { signal: 9 }));

    assert_eq!(held.last_word().class, Some(ErrorClass::Killed));
    assert_eq!(held.last_word().message, "the agent was ended by signal 9 before it had answered");
}

#[test]
fn what_belongs_to_another_session_is_nobodys() {
    let foreign = json!({"method": "session/update", "params": {"sessionId": "other", "update": {
        "sessionUpdate": "agent_message_chunk", "content": {"text": "forged"}}}});
    let question = json!({"id": 9, "method": "session/request_permission", "params": {
        "sessionId": "other", "toolCall": {"kind": "edit"}, "options": [{"optionId": "o", "kind": "allow_once"}]}});
    let held = hold(script(), &with([foreign, question, stop("end_turn")]));
    assert_eq!(held.last_word().message, "");
    assert_eq!(held.asked()[0].answer, Permission::Denied);
}
