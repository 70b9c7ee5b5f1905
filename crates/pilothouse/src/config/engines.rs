//! The engines of this machine, from the keys below `engines`.

use std::collections::BTreeSet;

use domain::catalog::Principal;
use engines::{
    broker::Address,
    engine::{Ask, Configured, Engine, EngineTable, Permissions, find},
};

use super::{Settings, value::Value};

const TABLE: &str = "engines.";

/// Where the programs of engines are looked up: as whoever started this process would find them.
pub(crate) fn search_path() -> String {
    host::env::var("PATH").filter(|path| !path.is_empty()).unwrap_or_else(|| host::process::DEFAULT_PATH.to_owned())
}

impl Settings {
    /// The engines with the keys of their models, as this process's environment has them.
    pub(crate) fn engines_with_keys(&self) -> EngineTable {
        let mut table = self.engines();
        table.find_keys(host::env::var);
        table
    }

    /// What is configured of engines.
    pub(super) fn engines(&self) -> EngineTable {
        let mut table = EngineTable::default();
        for name in self.engine_names() {
            if let Some(configured) = self.engine(&name) {
                table.insert(configured);
            }
        }
        self.give_servers(&mut table);
        table
    }

    /// What is said of engines that cannot be meant.
    pub(super) fn engine_problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for name in self.engine_names() {
            let origin = |key: &str| {
                let full = format!("{TABLE}{name}.{key}");
                self.iter().find(|(known, _)| *known == full).map(|(_, setting)| setting.origin.clone())
            };
            if let Some(problem) = self.engine(&name).and_then(|engine| broker_problem(&name, &engine)) {
                let origin = origin("broker")
                    .or_else(|| origin("token_budget"))
                    .map_or_else(String::new, |at| format!("{at}: "));
                problems.push(format!("{origin}{problem}"));
            }
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
            match (find(&name), origin("acp")) {
                (Some(_), Some(origin)) => {
                    problems.push(format!("{origin}: engines.{name}: an adapter has this name; choose another for the agent"));
                }
                (None, None) => problems.push(format!(
                    "engines.{name}: there is no such engine; `acp = [\"command\", …]` makes one of an agent that speaks ACP"
                )),
                (None, Some(origin)) if name.len() > 64 || !name.chars().all(plain) => {
                    problems.push(format!("{origin}: engines.{name}: a name has letters, digits, `-` and `_`"));
                }
                (None, Some(origin)) if self.texts(&format!("{TABLE}{name}.acp")).is_empty() => {
                    problems.push(format!("{origin}: engines.{name}.acp: there is no command"));
                }
                (Some(_), None) | (None, Some(_)) => {}
            }
        }
        for configured in self.engines().iter() {
            let origin = |key: &str| {
                let full = format!("{TABLE}{}.{key}", configured.id);
                self.iter().find(|(known, _)| *known == full).map(|(_, setting)| setting.origin.clone())
            };
            let id = &configured.id;
            if configured.permissions != Permissions::Deny && !configured.engine.capabilities().asks {
                let origin = origin("permissions").unwrap_or_default();
                problems
                    .push(format!("{origin}: engines.{id}.permissions: this engine asks nobody; it knows only `deny`"));
            }
            let has_tools = !matches!(configured.engine, Engine::Shell | Engine::Scripted | Engine::CodeMachine);
            if let Some(origin) = origin("allowed_tools").filter(|_| !has_tools) {
                problems.push(format!(
                    "{origin}: engines.{id}.allowed_tools: this engine cannot be held to a list of tools"
                ));
            }
            if let Some(origin) = origin("mode").filter(|_| configured.engine != Engine::Codex) {
                problems.push(format!("{origin}: engines.{id}.mode: only codex can be run in more than one way"));
            }
            for name in configured.ask.approvers.iter().flatten() {
                if let Err(error) = name.parse::<Principal>() {
                    let origin = origin("ask_approvers").unwrap_or_default();
                    problems.push(format!("{origin}: engines.{id}.ask_approvers: {name:?}: {error}"));
                }
            }
        }
        problems
    }

    fn engine_names(&self) -> BTreeSet<String> {
        let names = self.iter().filter_map(|(name, _)| name.strip_prefix(TABLE)?.split('.').next());
        names.map(str::to_owned).collect()
    }

    fn engine(&self, name: &str) -> Option<Configured> {
        let key = |key: &str| format!("{TABLE}{name}.{key}");
        let found = |part: &str| self.iter().find(|(known, _)| *known == key(part)).map(|(_, setting)| &setting.value);
        let text = |part: &str| match found(part) {
            Some(Value::Text(text)) => Some(text.clone()),
            _ => None,
        };
        let list = |part: &str| match found(part) {
            Some(Value::List(texts)) => texts.clone(),
            _ => Vec::new(),
        };
        let (engine, command) = match find(name) {
            Some(engine) => (engine, list("command")),
            None if list("acp").is_empty() => return None,
            None => (Engine::Acp, list("acp")),
        };
        let max_turns = match found("max_turns") {
            Some(Value::Count(turns)) => Some(u32::try_from(*turns).unwrap_or(u32::MAX)),
            _ => None,
        };
        let plain = Ask::default();
        let ask = Ask {
            approvers: found("ask_approvers").map(|_| list("ask_approvers")),
            quorum: match found("ask_quorum") {
                Some(Value::Count(people)) => u32::try_from(*people).unwrap_or(u32::MAX),
                _ => plain.quorum,
            },
            timeout: match found("ask_timeout") {
                Some(Value::Duration(timeout)) => *timeout,
                _ => plain.timeout,
            },
        };
        Some(Configured {
            command,
            extra_args: list("extra_args"),
            base_url: text("base_url"),
            key_env: text("key_env"),
            model: text("model"),
            effort: text("effort"),
            max_turns,
            allowed_tools: list("allowed_tools"),
            broker: matches!(found("broker"), Some(Value::Bool(true))),
            token_budget: match found("token_budget") {
                Some(Value::Count(tokens)) => Some(*tokens),
                _ => None,
            },
            open_network: text("network").as_deref() == Some("open"),
            readable: list("readable").into_iter().map(Into::into).collect(),
            writable: list("writable").into_iter().map(Into::into).collect(),
            permissions: text("permissions").and_then(|word| Permissions::parse(&word)).unwrap_or_default(),
            ask,
            app_server: text("mode").as_deref() == Some("app-server"),
            ..Configured::new(name, engine)
        })
    }
}

/// What is said of a broker that cannot be meant.
fn broker_problem(name: &str, engine: &Configured) -> Option<String> {
    if !engine.broker {
        let budget = engine.token_budget.is_some();
        return budget.then(|| format!("engines.{name}.token_budget: only a broker counts; say broker = true"));
    }
    match engine.upstream() {
        None => Some(format!(
            "engines.{name}.broker: the broker stands before codex, claude, gemini, and opencode with a base_url"
        )),
        Some(url) if Address::parse(&url).is_none() => {
            Some(format!("engines.{name}.base_url: the broker needs a plain http or https address"))
        }
        Some(_) => None,
    }
}
