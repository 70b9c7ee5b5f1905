//! The servers of tools (MCP) of this machine, from the keys below `mcp`, and the engines that are given them.

use std::collections::BTreeSet;

use engines::{
    broker::Address,
    engine::{Configured, Engine, EngineTable, McpOffer, McpServer, Phase, Transport},
};

use super::{Settings, value::Value};

const TABLE: &str = "mcp.";
/// The words of `phases`, and the work that each means.
const PHASES: [(&str, &[Phase]); 3] =
    [("planning", &[Phase::Plan]), ("execution", &[Phase::Setup, Phase::Work]), ("qa", &[Phase::Qa])];
/// Where nothing is said: tools may act on the world, so that what only reads has none unless it was meant to.
const DEFAULT_PHASES: [&str; 1] = ["execution"];

impl Settings {
    /// Gives the engines of a table the servers that are configured for them.
    pub(super) fn give_servers(&self, table: &mut EngineTable) {
        for name in self.server_names() {
            let Some(offer) = self.server(&name) else { continue };
            let engines = self.server_list(&name, "engines");
            for configured in table.iter_mut().filter(|configured| is_given(configured, &engines)) {
                configured.servers.push(offer.clone());
            }
        }
    }

    /// What is said of servers that cannot be meant.
    pub(super) fn server_problems(&self, table: &EngineTable) -> Vec<String> {
        let mut problems = Vec::new();
        for name in self.server_names() {
            let mut wrong = |key: &str, what: String| {
                let full = format!("{TABLE}{name}.{key}");
                let origin = self.iter().find(|(known, _)| *known == full).map(|(_, setting)| setting.origin.clone());
                problems.push(format!("{}: {full}: {what}", origin.unwrap_or_else(|| "configuration".to_owned())));
            };
            let list = |key: &str| self.server_list(&name, key);
            let (command, url) = (list("command"), self.server_text(&name, "url"));
            match (command.is_empty(), &url) {
                (true, None) => wrong("command", "name the server's `command`, or its `url`".to_owned()),
                (false, Some(_)) => wrong("url", "a server has a command or an address, not both".to_owned()),
                (true, Some(url)) if Address::parse(url).is_none() => {
                    wrong("url", "not a plain http or https address".to_owned());
                }
                (true, Some(_)) if !list("env").is_empty() => {
                    wrong("env", "only a program has an environment; `token_env` names a token's variable".to_owned());
                }
                (false, None) if self.server_text(&name, "token_env").is_some() => {
                    wrong("token_env", "only an address takes a token; `env` names variables of a program".to_owned());
                }
                (true, Some(_)) | (false, None) => {}
            }
            let plain = |name: &str| {
                let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
                !name.is_empty() && name.len() <= 64 && !name.starts_with('-') && name.chars().all(plain)
            };
            if !plain(&name) || name.contains("__") {
                wrong("command", "a server's name has letters, digits, `-` and single `_`".to_owned());
            }
            if let Some(tool) = list("tools").iter().find(|tool| !plain(tool)) {
                wrong("tools", format!("{tool:?}: the name of a tool has letters, digits, `-` and `_`"));
            }
            if let Some(phase) = list("phases").iter().find(|phase| !PHASES.iter().any(|(word, _)| word == phase)) {
                wrong("phases", format!("{phase:?}: there are planning, execution and qa"));
            }
            let engines = list("engines");
            for engine in &engines {
                match table.find(engine) {
                    None => wrong("engines", format!("there is no engine {engine}")),
                    Some(found) if !takes_servers(found) => {
                        wrong("engines", format!("engine {engine} takes no servers of tools"));
                    }
                    Some(_) => {}
                }
            }
            let given = table.iter().filter(|configured| is_given(configured, &engines));
            for configured in given {
                let id = &configured.id;
                if configured.engine == Engine::Acp && !list("tools").is_empty() {
                    wrong("tools", format!("engine {id} takes all tools of a server; name other `engines`"));
                }
                let elsewhere = self.server(&name).is_some_and(|offer| offer.server.is_elsewhere());
                if elsewhere && configured.is_kept_to_its_model() && !engines.is_empty() {
                    let remedy = format!("say `engines.{id}.network = \"open\"`");
                    wrong("url", format!("the sandbox of engine {id} reaches its model alone; {remedy}"));
                }
            }
        }
        problems
    }

    fn server_names(&self) -> BTreeSet<String> {
        let names = self.iter().filter_map(|(name, _)| name.strip_prefix(TABLE)?.split('.').next());
        names.map(str::to_owned).collect()
    }

    fn server_list(&self, name: &str, key: &str) -> Vec<String> {
        self.texts(&format!("{TABLE}{name}.{key}"))
    }

    fn server_text(&self, name: &str, key: &str) -> Option<String> {
        match self.get(&format!("{TABLE}{name}.{key}")) {
            Some(Value::Text(text)) => Some(text.clone()),
            _ => None,
        }
    }

    fn server(&self, name: &str) -> Option<McpOffer> {
        let list = |key: &str| self.server_list(name, key);
        let transport = match (list("command").split_first(), self.server_text(name, "url")) {
            (Some((command, args)), None) => {
                Transport::Stdio { command: command.clone(), args: args.to_vec(), env: Vec::new() }
            }
            (None, Some(url)) => Transport::Http { url, token: None },
            (Some(_), Some(_)) | (None, None) => return None,
        };
        let words = list("phases");
        let is_meant = |word: &str| match words.is_empty() {
            true => DEFAULT_PHASES.contains(&word),
            false => words.iter().any(|known| known == word),
        };
        Some(McpOffer {
            server: McpServer { tools: list("tools"), ..McpServer::new(name, transport) },
            env: list("env"),
            token_env: self.server_text(name, "token_env"),
            phases: PHASES
                .iter()
                .filter(|(word, _)| is_meant(word))
                .flat_map(|(_, phases)| phases.iter().copied())
                .collect(),
            projects: list("projects"),
        })
    }
}

fn takes_servers(configured: &Configured) -> bool {
    configured.engine.capabilities().mcp
}

/// Whether an engine is given a server that is for these engines, or for all that take one.
fn is_given(configured: &Configured, engines: &[String]) -> bool {
    takes_servers(configured) && (engines.is_empty() || engines.contains(&configured.id))
}
