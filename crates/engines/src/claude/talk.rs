//! Claude Code in its two-way mode: prompts go in, lines come out, and for each use of a tool that nobody allowed
//! beforehand it asks and waits.
//!
//! What it prints is told as it is, so that it is read in the same way as without a driver; only questions and answers
//! are lines of ours. It has to be told that nothing more will come: its input is closed after its first result, and what
//! it still does in the background goes on.

use crate::engine::{Asked, EngineEvent, Fields, Permission, text_of};
use crate::talk::permissions::Needs;
use crate::talk::{Conversation, Lost, Out, Policy, Questions, wanted};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The hidden subcommand of the binary that runs the driver.
pub const SUBCOMMAND: &str = "engine-claude";

/// What the driver is told about its conversation.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Script {
    pub(super) prompt: String,
    pub(super) policy: Policy,
}

const NEEDS: Needs = Needs { reading: &super::READING, working: &super::WORKING };

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Initializing,
    Prompted,
    /// A result was given; what comes now is the rest.
    Leaving,
    Done,
}

#[derive(Debug)]
pub(super) struct Client {
    script: Script,
    stage: Stage,
    /// Whether the last result was a success.
    ok: bool,
    questions: Questions<Waiting>,
}

#[derive(Debug)]
pub(super) struct Waiting {
    /// The number of its request.
    request: String,
    input: Value,
    call: Asked,
}

impl Client {
    pub(super) fn new(script: Script) -> Self {
        Self { script, stage: Stage::Initializing, ok: false, questions: Questions::default() }
    }

    fn prompt(&mut self) -> Vec<Out> {
        self.stage = Stage::Prompted;
        let content = json!([{"type": "text", "text": self.script.prompt}]);
        let message = json!({"role": "user", "content": content});
        let user = json!({"type": "user", "message": message, "parent_tool_use_id": null, "session_id": ""});
        vec![Out::Send(user)]
    }

    fn asked(&mut self, message: &Value) -> Vec<Out> {
        let id = message.text("request_id").unwrap_or_default();
        let request = message.get("request").cloned().unwrap_or_default();
        if request.text("subtype") != Some("can_use_tool") {
            let error = format!("{} is not offered here", request.text("subtype").unwrap_or("that"));
            let response = json!({"subtype": "error", "request_id": id, "error": error});
            return vec![Out::Send(json!({"type": "control_response", "response": response}))];
        }
        let tool = request.text("tool_name").unwrap_or_default();
        let input = request.get("input").cloned().unwrap_or_else(|| json!({}));
        let shown = shown(&input);
        let call = request.text("tool_use_id").unwrap_or_default();
        let waiting = Waiting {
            request: id.to_owned(),
            input: input.clone(),
            call: Asked::by_policy(call, tool, shown.clone(), Permission::Denied),
        };
        let policy = &self.script.policy;
        if let Some(permission) = policy.decide_server(tool).or_else(|| policy.decide(&[tool], NEEDS)) {
            return reply(permission, &waiting, None);
        }
        let named = ["file_path", "notebook_path", "path"].into_iter().filter_map(|key| input.text(key));
        let paths = named.chain(request.text("blocked_path")).map(str::to_owned).collect();
        match self.questions.ask(wanted(call, tool, shown, paths, &request), waiting) {
            Ok(first) => first.cloned().map(EngineEvent::PermissionWanted).map(Out::Tell).into_iter().collect(),
            Err(waiting) => reply(Permission::Denied, &waiting, None),
        }
    }

    /// It no longer waits for an answer.
    fn took_back(&mut self, request: &str) -> Vec<Out> {
        self.questions.take_back(|waiting| waiting.request == request)
    }
}

impl Conversation for Client {
    type Waiting = Waiting;

    fn start(&mut self) -> Vec<Out> {
        let request = json!({"subtype": "initialize"});
        vec![Out::Send(json!({"type": "control_request", "request_id": "begin", "request": request}))]
    }

    fn receive(&mut self, line: &str) -> Vec<Out> {
        if self.stage == Stage::Done || line.trim().is_empty() {
            return Vec::new();
        }
        let Ok(message) = serde_json::from_str::<Value>(line) else { return vec![Out::Pass(line.to_owned())] };
        match message.text("type") {
            Some("control_request") => self.asked(&message),
            Some("control_cancel_request") => self.took_back(message.text("request_id").unwrap_or_default()),
            Some("control_response") if self.stage == Stage::Initializing => {
                let response = message.get("response").cloned().unwrap_or_default();
                if response.text("subtype") == Some("success") {
                    return self.prompt();
                }
                let why = format!("claude did not begin: {}", response.get("error").map(text_of).unwrap_or_default());
                self.stage = Stage::Done;
                vec![Out::Tell(EngineEvent::notice(why)), Out::Done { ok: false }]
            }
            Some("control_response" | "keep_alive") => Vec::new(),
            // Lines of ours are nobody else's.
            Some("permission_wanted" | "permission_asked" | "notice") => Vec::new(),
            Some("result") => {
                self.ok = message.truth("is_error") == Some(false) && message.text("subtype") == Some("success");
                let mut out = vec![Out::Pass(line.to_owned())];
                if self.stage == Stage::Prompted {
                    self.stage = Stage::Leaving;
                    out.push(Out::Close);
                }
                out
            }
            _ => vec![Out::Pass(line.to_owned())],
        }
    }

    fn pause(&mut self) -> Vec<Out> {
        Vec::new()
    }

    fn cancel(&mut self) -> Option<Value> {
        let request = json!({"subtype": "interrupt"});
        (self.stage == Stage::Prompted)
            .then(|| json!({"type": "control_request", "request_id": "interrupt", "request": request}))
    }

    fn lost(&mut self, how: Lost) -> Vec<Out> {
        match std::mem::replace(&mut self.stage, Stage::Done) {
            Stage::Done => Vec::new(),
            Stage::Leaving => vec![Out::Done { ok: self.ok }],
            // How its process ended, and what it wrote to stderr, says more than its silence.
            Stage::Initializing | Stage::Prompted => {
                let notice = EngineEvent::notice(format!("claude {how} before it had answered"));
                vec![Out::Tell(notice), Out::Done { ok: false }]
            }
        }
    }

    fn questions(&mut self) -> &mut Questions<Waiting> {
        &mut self.questions
    }

    fn reply(&mut self, answer: Permission, waiting: &Waiting, by: Option<(String, String)>) -> Vec<Out> {
        reply(answer, waiting, by)
    }
}

/// What of a tool's input says most: a command as it is, anything else as a document.
fn shown(input: &Value) -> String {
    input.text("command").map_or_else(|| text_of(input), str::to_owned)
}

fn reply(permission: Permission, waiting: &Waiting, by: Option<(String, String)>) -> Vec<Out> {
    let answer = match permission {
        Permission::Allowed => json!({"behavior": "allow", "updatedInput": waiting.input}),
        Permission::Denied => {
            let message = match &by {
                Some((_, by)) => format!("This is not allowed ({by}). Go on without it."),
                None => "This is not allowed here. Go on without it.".to_owned(),
            };
            json!({"behavior": "deny", "message": message})
        }
    };
    let (question, by) = by.unzip();
    let asked = Asked { answer: permission, question, by, ..waiting.call.clone() };
    let response = json!({"subtype": "success", "request_id": waiting.request, "response": answer});
    vec![
        Out::Tell(EngineEvent::PermissionAsked(asked)),
        Out::Send(json!({"type": "control_response", "response": response})),
    ]
}
