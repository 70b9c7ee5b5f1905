//! Codex as a server (`codex app-server`): one thread, one turn, questions in between.
//!
//! It tells more than `codex exec`: what each call to the model used, how near the limits of the account are, and which
//! commands and changes it wants to make. What it tells is put into the words of `codex exec`, so that both are read in
//! the same way; usage is told as the sum of the thread, as there.

use crate::engine::{Asked, EngineEvent, ErrorClass, Fields, Finished, Permission, RateLimit, Reset, text_of};
use crate::talk::permissions::Needs;
use crate::talk::{Conversation, Lost, Out, Policy, Questions, wanted};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::VecDeque;

/// The hidden subcommand of the binary that runs the driver.
pub const SUBCOMMAND: &str = "engine-codex";

const NEEDS: Needs = Needs { reading: &[], working: &["execute", "edit"] };
/// Of how many changes is remembered what they change.
const MAX_CHANGES: usize = 64;

/// What the driver is told about its conversation.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Script {
    pub(super) prompt: String,
    pub(super) cwd: String,
    pub(super) resume: Option<String>,
    pub(super) model: Option<String>,
    pub(super) effort: Option<String>,
    pub(super) sandbox: String,
    /// `untrusted`, `on-request` or `never`.
    pub(super) approvals: String,
    pub(super) output_schema: Option<Value>,
    pub(super) policy: Policy,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Initializing,
    Opening,
    Prompting,
    Done,
}

#[derive(Debug)]
pub(super) struct Client {
    script: Script,
    stage: Stage,
    /// The number of the request whose answer is waited for.
    waiting: u64,
    thread: String,
    turn: String,
    /// Changes of files that have begun: who is asked about one is told only its number.
    changes: VecDeque<(String, Value)>,
    /// How the windows of the account stood when they were last told.
    limits: [Option<u32>; 2],
    questions: Questions<Waiting>,
}

#[derive(Debug)]
pub(super) struct Waiting {
    /// The number of its request.
    id: Value,
    call: Asked,
}

impl Client {
    pub(super) fn new(script: Script) -> Self {
        Self {
            script,
            stage: Stage::Initializing,
            waiting: 0,
            thread: String::new(),
            turn: String::new(),
            changes: VecDeque::new(),
            limits: [None; 2],
            questions: Questions::default(),
        }
    }

    fn ask(&mut self, method: &str, params: &Value) -> Out {
        self.waiting += 1;
        Out::Send(json!({"id": self.waiting, "method": method, "params": params}))
    }

    fn response(&mut self, message: &Value) -> Vec<Out> {
        if let Some(error) = message.get("error") {
            let text = error.text("message").unwrap_or("an error without words").to_owned();
            // Before the turn nothing was asked of a model: what is refused then is what we asked for.
            let class = ErrorClass::of_message(&text).unwrap_or(ErrorClass::BadRequest);
            return self.over(Finished::of_class(class, text));
        }
        let result = message.get("result").cloned().unwrap_or_default();
        match self.stage {
            Stage::Initializing => self.open(),
            Stage::Opening => self.begin(&result),
            Stage::Prompting => {
                let turn = result.get("turn").and_then(|turn| turn.text("id"));
                self.turn = turn.unwrap_or_default().to_owned();
                Vec::new()
            }
            Stage::Done => Vec::new(),
        }
    }

    fn open(&mut self) -> Vec<Out> {
        self.stage = Stage::Opening;
        let script = &self.script;
        let mut params = json!({"cwd": script.cwd, "approvalPolicy": script.approvals, "sandbox": script.sandbox});
        if let Some(model) = &script.model {
            params["model"] = model.as_str().into();
        }
        let method = match &script.resume {
            Some(thread) => {
                params["threadId"] = thread.as_str().into();
                params["excludeTurns"] = true.into();
                "thread/resume"
            }
            None => "thread/start",
        };
        vec![Out::Send(json!({"method": "initialized"})), self.ask(method, &params)]
    }

    fn begin(&mut self, result: &Value) -> Vec<Out> {
        let Some(thread) = result.get("thread").and_then(|thread| thread.text("id")).map(str::to_owned) else {
            let message = "codex opened a thread without a name";
            return self.over(Finished::of_class(ErrorClass::ProtocolError, message));
        };
        self.stage = Stage::Prompting;
        let mut params = json!({"threadId": thread, "input": [{"type": "text", "text": self.script.prompt}]});
        if let Some(effort) = &self.script.effort {
            params["effort"] = effort.as_str().into();
        }
        if let Some(schema) = &self.script.output_schema {
            params["outputSchema"] = schema.clone();
        }
        let started = line(&json!({"type": "thread.started", "thread_id": thread}));
        self.thread = thread;
        vec![started, self.ask("turn/start", &params)]
    }

    fn over(&mut self, finished: Finished) -> Vec<Out> {
        self.stage = Stage::Done;
        let ok = finished.is_completed();
        vec![Out::Tell(EngineEvent::Finished(finished)), Out::Done { ok }]
    }

    fn told(&mut self, method: &str, params: &Value) -> Vec<Out> {
        // What belongs to another thread is a helper's, whose work this one tells of.
        if self.stage != Stage::Prompting || params.text("threadId").is_some_and(|thread| thread != self.thread) {
            return Vec::new();
        }
        match method {
            "turn/started" => {
                if let Some(turn) = params.get("turn").and_then(|turn| turn.text("id")) {
                    turn.clone_into(&mut self.turn);
                }
                vec![line(&json!({"type": "turn.started"}))]
            }
            "item/started" => self.item("item.started", params),
            "item/completed" => self.item("item.completed", params),
            "thread/tokenUsage/updated" => {
                let total = params.get("tokenUsage").and_then(|usage| usage.get("total"));
                total
                    .map(|total| line(&json!({"type": "thread.usage", "usage": in_words(total)})))
                    .into_iter()
                    .collect()
            }
            "account/rateLimits/updated" => self.rate_limits(params.get("rateLimits").unwrap_or(&Value::Null)),
            "error" => {
                let message = params.get("error").and_then(|error| error.text("message")).unwrap_or_default();
                vec![line(&json!({"type": "error", "message": message}))]
            }
            "warning" => {
                let message = params.text("message").unwrap_or_default();
                vec![Out::Tell(EngineEvent::notice(message))]
            }
            "serverRequest/resolved" => self.took_back(params.get("requestId").unwrap_or(&Value::Null)),
            "turn/completed" => self.turn_completed(params.get("turn").unwrap_or(&Value::Null)),
            _ => Vec::new(),
        }
    }

    fn item(&mut self, kind: &str, params: &Value) -> Vec<Out> {
        let Some(item) = params.get("item") else { return Vec::new() };
        if item.text("type") == Some("fileChange") && kind == "item.started" {
            if self.changes.len() >= MAX_CHANGES {
                self.changes.pop_front();
            }
            let changes = item.get("changes").cloned().unwrap_or_default();
            self.changes.push_back((item.text("id").unwrap_or_default().to_owned(), changes));
        }
        in_old_words(item).map(|item| line(&json!({"type": kind, "item": item}))).into_iter().collect()
    }

    /// How near the limits of the account are: told when it changes.
    fn rate_limits(&mut self, limits: &Value) -> Vec<Out> {
        let mut out = Vec::new();
        for (place, name) in ["primary", "secondary"].into_iter().enumerate() {
            let Some(window) = limits.get(name).filter(|window| window.is_object()) else { continue };
            let used = window.count("usedPercent").and_then(|used| u32::try_from(used).ok());
            if self.limits[place] == used {
                continue;
            }
            self.limits[place] = used;
            let minutes =
                window.count("windowDurationMins").map_or(String::new(), |span| format!(" of {span} minutes"));
            let text = format!("codex: {}% of the window{minutes} is used", used.unwrap_or(0));
            let reset = window.get("resetsAt").and_then(Value::as_i64).map(Reset::At);
            let reached = used.is_some_and(|used| used >= 100);
            out.push(Out::Tell(EngineEvent::RateLimit(RateLimit { reached, reset, used_percent: used, text })));
        }
        out
    }

    fn turn_completed(&mut self, turn: &Value) -> Vec<Out> {
        self.stage = Stage::Done;
        let (told, ok) = match turn.text("status") {
            Some("completed") => (json!({"type": "turn.completed"}), true),
            Some("interrupted") => {
                let finished = Finished::of_class(ErrorClass::Killed, "the turn was interrupted");
                return vec![Out::Tell(EngineEvent::Finished(finished)), Out::Done { ok: false }];
            }
            _ => {
                let error = turn.get("error").and_then(|error| error.text("message"));
                let message = error.unwrap_or("the turn failed without words");
                (json!({"type": "turn.failed", "error": {"message": message}}), false)
            }
        };
        vec![line(&told), Out::Done { ok }]
    }

    fn asked(&mut self, method: &str, id: &Value, params: &Value) -> Vec<Out> {
        let item = params.text("itemId").unwrap_or_default();
        let (tool, input, paths, whole) = match method {
            "item/commandExecution/requestApproval" => {
                let command = params.text("command").unwrap_or_default().to_owned();
                ("execute", command, params.text("cwd").map(str::to_owned).into_iter().collect(), params.clone())
            }
            "item/fileChange/requestApproval" => {
                let changes = self.changes.iter().find(|(known, _)| known == item);
                let changes = changes.map(|(_, changes)| changes.clone()).unwrap_or_default();
                let all = changes.as_array().map(Vec::as_slice).unwrap_or_default();
                let paths: Vec<String> =
                    all.iter().filter_map(|change| change.text("path").map(str::to_owned)).collect();
                let diffs: Vec<&str> = all.iter().filter_map(|change| change.text("diff")).collect();
                ("edit", diffs.join("\n"), paths, json!({"params": params, "changes": changes}))
            }
            // More reach than its sandbox has is given to nobody.
            "item/permissions/requestApproval" => {
                return vec![Out::Send(json!({"id": id, "result": {"permissions": {}}}))];
            }
            "mcpServer/elicitation/request" => {
                return vec![Out::Send(json!({"id": id, "result": {"action": "decline"}}))];
            }
            other => {
                let error = json!({"code": -32601, "message": format!("{other} is not offered here")});
                return vec![Out::Send(json!({"id": id, "error": error}))];
            }
        };
        let ours = self.stage == Stage::Prompting && params.text("threadId").is_none_or(|thread| thread == self.thread);
        let call = Asked::by_policy(item, tool, input.clone(), Permission::Denied);
        let waiting = Waiting { id: id.clone(), call };
        let decided = if ours { self.script.policy.decide(&[tool], NEEDS) } else { Some(Permission::Denied) };
        if let Some(permission) = decided {
            return reply(permission, &waiting, None);
        }
        match self.questions.ask(wanted(item, tool, input, paths, &whole), waiting) {
            Ok(first) => first.cloned().map(EngineEvent::PermissionWanted).map(Out::Tell).into_iter().collect(),
            Err(waiting) => reply(Permission::Denied, &waiting, None),
        }
    }

    /// It no longer waits for an answer. One that was just given is gone from here already.
    fn took_back(&mut self, request: &Value) -> Vec<Out> {
        self.questions.take_back(|waiting| waiting.id == *request)
    }
}

impl Conversation for Client {
    type Waiting = Waiting;

    fn start(&mut self) -> Vec<Out> {
        let client = json!({"name": "pilothouse", "title": "Pilothouse", "version": env!("CARGO_PKG_VERSION")});
        vec![self.ask("initialize", &json!({"clientInfo": client}))]
    }

    fn receive(&mut self, text: &str) -> Vec<Out> {
        if self.stage == Stage::Done || text.trim().is_empty() {
            return Vec::new();
        }
        let Ok(message) = serde_json::from_str::<Value>(text) else {
            return vec![Out::Tell(EngineEvent::notice(host::text::cut(text, 2000)))];
        };
        let params = message.get("params").unwrap_or(&Value::Null);
        match (message.text("method"), message.get("id")) {
            (Some(method), Some(id)) => self.asked(method, id, params),
            (Some(method), None) => self.told(method, params),
            (None, Some(id)) if id.as_u64() == Some(self.waiting) => self.response(&message),
            (None, _) => Vec::new(),
        }
    }

    fn pause(&mut self) -> Vec<Out> {
        Vec::new()
    }

    fn cancel(&mut self) -> Option<Value> {
        if self.stage != Stage::Prompting || self.turn.is_empty() {
            return None;
        }
        self.waiting += 1;
        let params = json!({"threadId": self.thread, "turnId": self.turn});
        Some(json!({"id": self.waiting, "method": "turn/interrupt", "params": params}))
    }

    fn lost(&mut self, how: Lost) -> Vec<Out> {
        if self.stage == Stage::Done {
            return Vec::new();
        }
        // How its process ended, and what it wrote to stderr, says more than its silence.
        self.stage = Stage::Done;
        let notice = EngineEvent::notice(format!("codex {how} before it had answered"));
        vec![Out::Tell(notice), Out::Done { ok: false }]
    }

    fn questions(&mut self) -> &mut Questions<Waiting> {
        &mut self.questions
    }

    fn reply(&mut self, answer: Permission, waiting: &Waiting, by: Option<(String, String)>) -> Vec<Out> {
        reply(answer, waiting, by)
    }
}

fn line(value: &Value) -> Out {
    Out::Pass(value.to_string())
}

/// Once, and never for what may come later.
fn reply(permission: Permission, waiting: &Waiting, by: Option<(String, String)>) -> Vec<Out> {
    let decision = match permission {
        Permission::Allowed => "accept",
        Permission::Denied => "decline",
    };
    let (question, by) = by.unzip();
    let asked = Asked { answer: permission, question, by, ..waiting.call.clone() };
    vec![
        Out::Tell(EngineEvent::PermissionAsked(asked)),
        Out::Send(json!({"id": waiting.id, "result": {"decision": decision}})),
    ]
}

fn in_words(total: &Value) -> Value {
    json!({
        "input_tokens": total.get("inputTokens"),
        "cached_input_tokens": total.get("cachedInputTokens"),
        "cache_write_input_tokens": total.get("cacheWriteInputTokens"),
        "output_tokens": total.get("outputTokens"),
        "reasoning_output_tokens": total.get("reasoningOutputTokens"),
    })
}

/// An item as `codex exec` would tell it; `None`: it would not.
fn in_old_words(item: &Value) -> Option<Value> {
    let id = item.text("id").unwrap_or_default();
    let status = match item.text("status") {
        Some("inProgress") => "in_progress",
        Some("completed") => "completed",
        _ => "failed",
    };
    Some(match item.text("type")? {
        "agentMessage" => json!({"id": id, "type": "agent_message", "text": item.get("text")}),
        "reasoning" => {
            let texts = |name: &str| item.items(name).iter().map(text_of).collect::<Vec<_>>().join("\n");
            let summary = texts("summary");
            let text = if summary.is_empty() { texts("content") } else { summary };
            json!({"id": id, "type": "reasoning", "text": text})
        }
        "commandExecution" => json!({"id": id, "type": "command_execution", "command": item.get("command"),
            "aggregated_output": item.get("aggregatedOutput"), "exit_code": item.get("exitCode"), "status": status}),
        "fileChange" => {
            let change = |change: &Value| {
                let kind = change.get("kind").and_then(|kind| kind.text("type").or(kind.as_str()));
                json!({"path": change.get("path"), "kind": kind})
            };
            let changes: Vec<Value> = item.items("changes").iter().map(change).collect();
            json!({"id": id, "type": "file_change", "changes": changes, "status": status})
        }
        "mcpToolCall" => json!({"id": id, "type": "mcp_tool_call", "server": item.get("server"),
            "tool": item.get("tool"), "arguments": item.get("arguments"), "result": item.get("result"),
            "error": item.get("error"), "status": status}),
        "webSearch" => json!({"id": id, "type": "web_search", "query": item.get("query")}),
        _ => return None,
    })
}
