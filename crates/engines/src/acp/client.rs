//! The conversation with an agent, as a machine: a line goes in, messages to send and events to tell come out.
//!
//! `initialize`, a session (new, or gone on with), its mode and model where they are wanted, one prompt. Permissions that
//! the agent asks for in between are answered by policy or by people, anything else with "not offered here".

use super::script::Script;
use super::updates::Updates;
use crate::engine::{Asked, EngineEvent, ErrorClass, Fields, Finished, Permission, Usage, answer_in, text_of};
use crate::sandbox::Profile;
use crate::talk::permissions::Needs;
use crate::talk::{Conversation, Lost, Out, Questions, wanted};
use serde_json::{Value, json};

const NEEDS: Needs = Needs {
    reading: &["read", "search", "think"],
    working: &["read", "search", "think", "edit", "delete", "move", "execute"],
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Initializing,
    Opening,
    /// Modes and models are being set.
    Settling,
    Prompting,
    Done,
}

#[derive(Debug)]
pub(super) struct Client {
    script: Script,
    stage: Stage,
    /// The number of the request whose answer is waited for.
    waiting: u64,
    session: String,
    /// What is still to be set before the prompt.
    wishes: Vec<(&'static str, Value)>,
    updates: Updates,
    questions: Questions<Waiting>,
}

/// What the answer to a question of the agent needs.
#[derive(Debug)]
pub(super) struct Waiting {
    /// The number of the agent's request.
    id: Value,
    options: Vec<Value>,
    call: Asked,
}

impl Client {
    pub(super) fn new(script: Script) -> Self {
        let updates = Updates::new(script.spent_micro_usd);
        let questions = Questions::default();
        let (stage, session) = (Stage::Initializing, String::new());
        Self { script, stage, waiting: 0, session, wishes: Vec::new(), updates, questions }
    }
}

impl Conversation for Client {
    type Waiting = Waiting;

    fn start(&mut self) -> Vec<Out> {
        let nothing = json!({"fs": {"readTextFile": false, "writeTextFile": false}, "terminal": false});
        let params = json!({
            "protocolVersion": 1,
            "clientInfo": {"name": "pilothouse", "version": env!("CARGO_PKG_VERSION")},
            "clientCapabilities": nothing,
        });
        vec![self.ask("initialize", &params)]
    }

    fn receive(&mut self, line: &str) -> Vec<Out> {
        if self.stage == Stage::Done || line.trim().is_empty() {
            return Vec::new();
        }
        let Ok(message) = serde_json::from_str::<Value>(line) else {
            return vec![Out::Tell(EngineEvent::notice(host::text::cut(line, 2000)))];
        };
        match (message.text("method"), message.get("id")) {
            (Some(method), Some(id)) => self.asked(method, id, message.get("params").unwrap_or(&Value::Null)),
            (Some("session/update"), None) => self.update(message.get("params").unwrap_or(&Value::Null)),
            (Some(_), None) => Vec::new(),
            (None, Some(id)) if id.as_u64() == Some(self.waiting) => self.response(&message),
            (None, _) => Vec::new(),
        }
    }

    fn pause(&mut self) -> Vec<Out> {
        self.updates.flush().into_iter().map(Out::Tell).collect()
    }

    fn cancel(&mut self) -> Option<Value> {
        let cancel = json!({"jsonrpc": "2.0", "method": "session/cancel", "params": {"sessionId": self.session}});
        (self.stage == Stage::Prompting).then_some(cancel)
    }

    fn lost(&mut self, how: Lost) -> Vec<Out> {
        if self.stage == Stage::Done {
            return Vec::new();
        }
        self.finish(Finished::of_class(how.class(), format!("the agent {how} before it had answered")))
    }

    fn questions(&mut self) -> &mut Questions<Waiting> {
        &mut self.questions
    }

    fn reply(&mut self, answer: Permission, waiting: &Waiting, by: Option<(String, String)>) -> Vec<Out> {
        let (answer, result) = chosen(answer, &waiting.options);
        let (question, by) = by.unzip();
        let asked = Asked { answer, question, by, ..waiting.call.clone() };
        let mut out = self.pause();
        out.push(Out::Tell(EngineEvent::PermissionAsked(asked)));
        out.push(Out::Send(json!({"jsonrpc": "2.0", "id": waiting.id, "result": result})));
        out
    }
}

impl Client {
    fn ask(&mut self, method: &str, params: &Value) -> Out {
        self.waiting += 1;
        Out::Send(json!({"jsonrpc": "2.0", "id": self.waiting, "method": method, "params": params}))
    }

    fn finish(&mut self, finished: Finished) -> Vec<Out> {
        self.stage = Stage::Done;
        let ok = finished.is_completed();
        let mut out = self.pause();
        out.push(Out::Tell(EngineEvent::Finished(finished)));
        out.push(Out::Done { ok });
        out
    }

    fn update(&mut self, params: &Value) -> Vec<Out> {
        // While a session is loaded its past is told again; what belongs to another session is nobody's.
        if self.stage != Stage::Prompting || params.text("sessionId") != Some(&self.session) {
            return Vec::new();
        }
        let update = params.get("update").unwrap_or(&Value::Null);
        self.updates.take(update).into_iter().map(Out::Tell).collect()
    }

    fn asked(&mut self, method: &str, id: &Value, params: &Value) -> Vec<Out> {
        if method != "session/request_permission" {
            let error = json!({"code": -32601, "message": format!("{method} is not offered here")});
            return vec![Out::Send(json!({"jsonrpc": "2.0", "id": id, "error": error}))];
        }
        let call = params.get("toolCall").cloned().unwrap_or_default();
        let ours =
            self.stage == Stage::Prompting && params.text("sessionId").is_none_or(|session| session == self.session);
        let input = call.get("rawInput").map(text_of).filter(|input| !input.is_empty() && input != "{}");
        let kind = call.text("kind").unwrap_or("other");
        let name = call.text("name").unwrap_or_default();
        let input = input.or_else(|| call.text("title").map(str::to_owned)).unwrap_or_default();
        let tool = call.text("name").unwrap_or(kind);
        let id_of_call = call.text("toolCallId").unwrap_or_default();
        let waiting = Waiting {
            id: id.clone(),
            options: params.items("options").to_vec(),
            call: Asked::by_policy(id_of_call, tool, input, Permission::Denied),
        };
        // A title is the agent's word, and for a command it is the command: only of a call that is no command, edit or
        // fetch is it the name of a server's tool.
        let named = if kind == "other" { call.text("title").unwrap_or(name) } else { "" };
        let policy = &self.script.policy;
        let decided = match ours {
            true => policy.decide_server(named).or_else(|| policy.decide(&[kind, name], NEEDS)),
            false => Some(Permission::Denied),
        };
        match decided {
            Some(permission) => self.reply(permission, &waiting, None),
            None => self.put_to_people(params, &call, waiting),
        }
    }

    fn put_to_people(&mut self, params: &Value, call: &Value, waiting: Waiting) -> Vec<Out> {
        let paths = call.items("locations").iter().filter_map(|place| place.text("path").map(str::to_owned)).collect();
        // Of what it calls the call and what it would run, both are shown: the one is its word, the other the thing.
        let title = call.text("title").unwrap_or_default();
        let input = match title {
            "" => waiting.call.input.clone(),
            title if waiting.call.input == title => title.to_owned(),
            title => format!("{}\n({title})", waiting.call.input),
        };
        let question = wanted(&waiting.call.id, &waiting.call.tool, input, paths, params);
        match self.questions.ask(question, waiting) {
            Ok(Some(first)) => {
                let told = Out::Tell(EngineEvent::PermissionWanted(first.clone()));
                let mut out = self.pause();
                out.push(told);
                out
            }
            Ok(None) => Vec::new(),
            Err(waiting) => self.reply(Permission::Denied, &waiting, None),
        }
    }

    fn response(&mut self, message: &Value) -> Vec<Out> {
        if let Some(error) = message.get("error") {
            return self.finish(refused(self.stage, error));
        }
        let result = message.get("result").cloned().unwrap_or_default();
        match self.stage {
            Stage::Initializing => self.open(&result),
            Stage::Opening => self.opened(&result),
            Stage::Settling => self.settle(),
            Stage::Prompting => self.prompted(&result),
            Stage::Done => Vec::new(),
        }
    }

    fn open(&mut self, result: &Value) -> Vec<Out> {
        if result.count("protocolVersion") != Some(1) {
            let version = result.get("protocolVersion").map(text_of).unwrap_or_default();
            let message = format!("the agent speaks version {version} of the protocol, this speaks version 1");
            return self.finish(Finished::of_class(ErrorClass::BadRequest, message));
        }
        let can = result.get("agentCapabilities").cloned().unwrap_or_default();
        self.stage = Stage::Opening;
        let mut params = json!({"cwd": self.script.cwd, "mcpServers": self.script.mcp_servers});
        let Some(session) = self.script.resume.clone() else { return vec![self.ask("session/new", &params)] };
        params["sessionId"] = session.clone().into();
        self.session = session;
        let resumes = can.get("sessionCapabilities").is_some_and(|session| session.get("resume").is_some());
        match (resumes, can.truth("loadSession") == Some(true)) {
            (true, _) => vec![self.ask("session/resume", &params)],
            (false, true) => vec![self.ask("session/load", &params)],
            (false, false) => {
                let message = "the agent cannot go on with a session";
                self.finish(Finished::of_class(ErrorClass::BadRequest, message))
            }
        }
    }

    fn opened(&mut self, result: &Value) -> Vec<Out> {
        if self.script.resume.is_none() {
            match result.text("sessionId") {
                Some(id) => self.session = id.to_owned(),
                None => {
                    let message = "the agent opened a session without a name";
                    return self.finish(Finished::of_class(ErrorClass::ProtocolError, message));
                }
            }
        }
        let mut out = vec![Out::Tell(EngineEvent::Session { id: self.session.clone() })];
        match self.wishes_for(result) {
            Ok(wishes) => self.wishes = wishes,
            Err(message) => {
                out.extend(self.finish(Finished::of_class(ErrorClass::BadRequest, message)));
                return out;
            }
        }
        out.extend(self.settle());
        out
    }

    /// What is to be set before the prompt. A model that the agent does not offer is refused rather than replaced.
    fn wishes_for(&self, opened: &Value) -> Result<Vec<(&'static str, Value)>, String> {
        let mut wishes = Vec::new();
        let session = &self.session;
        let modes = opened.get("modes").cloned().unwrap_or_default();
        let offered = |mode: &str| modes.items("availableModes").iter().any(|offer| offer.text("id") == Some(mode));
        let wanted: &[&str] = match self.script.policy.access {
            Profile::ReadOnly => &["read-only", "plan"],
            // Whoever has a mode that asks is asked to ask; the others keep to what they begin with.
            Profile::Workspace | Profile::Full => &["workspace-write", "default"],
        };
        if let Some(mode) = wanted.iter().find(|mode| offered(mode))
            && modes.text("currentModeId") != Some(mode)
        {
            wishes.push(("session/set_mode", json!({"sessionId": session, "modeId": mode})));
        }
        if let Some(model) = &self.script.model {
            let models = opened.get("models").cloned().unwrap_or_default();
            let named = models.items("availableModels").iter().any(|offer| offer.text("modelId") == Some(model));
            let option = opened.items("configOptions").iter().find(|option| option.text("id") == Some("model"));
            let has = |option: &Value| option.items("options").iter().any(|offer| offer.text("value") == Some(model));
            if named {
                wishes.push(("session/set_model", json!({"sessionId": session, "modelId": model})));
            } else if option.is_some_and(has) {
                let params = json!({"sessionId": session, "configId": "model", "value": model});
                wishes.push(("session/set_config_option", params));
            } else {
                return Err(format!("the agent does not offer the model {model}"));
            }
        }
        wishes.reverse();
        Ok(wishes)
    }

    fn settle(&mut self) -> Vec<Out> {
        self.stage = Stage::Settling;
        if let Some((method, params)) = self.wishes.pop() {
            return vec![self.ask(method, &params)];
        }
        self.stage = Stage::Prompting;
        let prompt = json!([{"type": "text", "text": self.script.prompt}]);
        vec![self.ask("session/prompt", &json!({"sessionId": self.session, "prompt": prompt}))]
    }

    fn prompted(&mut self, result: &Value) -> Vec<Out> {
        let mut out = self.pause();
        out.extend(usage_of(result).map(EngineEvent::Usage).map(Out::Tell));
        let text = self.updates.last_text().to_owned();
        let finished = match result.text("stopReason") {
            Some("end_turn") => {
                let structured = self.script.wants_answer.then(|| answer_in(&text)).flatten();
                Finished { structured, ..Finished::completed(text) }
            }
            Some(reason @ ("max_tokens" | "max_turn_requests")) => {
                Finished::of_class(ErrorClass::LimitsReached, format!("the agent stopped: {reason}"))
            }
            Some("refusal") => Finished::of_class(ErrorClass::Refused, "the agent refused"),
            Some("cancelled") => Finished::of_class(ErrorClass::Killed, "the agent was cancelled"),
            other => {
                let reason = other.unwrap_or("without a reason");
                Finished::of_class(ErrorClass::ProtocolError, format!("the agent stopped: {reason}"))
            }
        };
        out.extend(self.finish(finished));
        out
    }
}

/// The answer on the wire, with what it came to: an option that the agent did not offer cannot be chosen. Never for more
/// than this once, so that the next call is asked about again.
fn chosen(wanted: Permission, options: &[Value]) -> (Permission, Value) {
    let option = |kind: &str| options.iter().find(|option| option.text("kind") == Some(kind));
    let chosen = match wanted {
        Permission::Allowed => option("allow_once"),
        Permission::Denied => option("reject_once").or_else(|| option("reject_always")),
    };
    match chosen.and_then(|option| option.text("optionId")) {
        Some(id) => (wanted, json!({"outcome": {"outcome": "selected", "optionId": id}})),
        None => (Permission::Denied, json!({"outcome": {"outcome": "cancelled"}})),
    }
}

fn refused(stage: Stage, error: &Value) -> Finished {
    let details = error.get("data").map(text_of).unwrap_or_default();
    let message = error.text("message").unwrap_or("an error without words");
    let shown = host::text::one_line(format!("{message} {details}"), 500);
    let class = match error.get("code").and_then(Value::as_i64) {
        Some(-32000) => Some(ErrorClass::NotLoggedIn),
        _ => ErrorClass::of_message(&shown),
    };
    // Before the prompt nothing was asked of a model: what is refused then is what we asked for.
    let class = class.or((stage != Stage::Prompting).then_some(ErrorClass::BadRequest));
    Finished { class, ..Finished::failed(shown) }
}

/// What the prompt used. Some agents count what was thought as written, some beside it; the sum tells which.
fn usage_of(result: &Value) -> Option<Usage> {
    let sum = |parts: &[Option<u64>]| parts.iter().copied().flatten().reduce(u64::saturating_add);
    let usage = if let Some(told) = result.get("usage") {
        let (input, cached, written) =
            (told.count("inputTokens"), told.count("cachedReadTokens"), told.count("cachedWriteTokens"));
        let (output, thought) = (told.count("outputTokens"), told.count("thoughtTokens"));
        let beside = told.count("totalTokens").is_some()
            && told.count("totalTokens") == sum(&[input, cached, written, output, thought]);
        Usage {
            input_tokens: sum(&[input, cached, written]),
            cached_tokens: cached,
            cache_write_tokens: written,
            output_tokens: if beside { sum(&[output, thought]) } else { output },
            reasoning_tokens: thought,
            cost_micro_usd: None,
        }
    } else {
        let told = result.get("_meta")?.get("quota")?.get("token_count")?;
        Usage {
            input_tokens: told.count("input_tokens"),
            output_tokens: told.count("output_tokens"),
            ..Usage::default()
        }
    };
    usage.is_known().then_some(usage)
}
