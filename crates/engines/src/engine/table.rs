//! The engines of one machine: the adapters with what the configuration says of them, and the ACP agents that it names.

use super::{Endpoint, Engine, EngineError, Key, McpOffer, Permissions};
use crate::broker::Address;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// One engine as it is configured here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Configured {
    pub id: String,
    pub engine: Engine,
    /// The program with what stands before our own arguments; empty: the engine's own name. For ACP the agent.
    pub command: Vec<String>,
    pub extra_args: Vec<String>,
    pub base_url: Option<String>,
    /// The variable of the worker's environment that holds the key of the model; see [`Configured::key_variable`].
    pub key_env: Option<String>,
    /// The key, where that variable had one.
    pub key: Option<Key>,
    /// The model, where neither step nor project names one.
    pub model: Option<String>,
    pub effort: Option<String>,
    pub max_turns: Option<u32>,
    /// Tools that an engine that asks may use without anybody being asked.
    pub allowed_tools: Vec<String>,
    /// Whether a broker of ours stands between it and its model, so that it never has the key.
    pub broker: bool,
    /// How many tokens an attempt may use, where a broker counts them.
    pub token_budget: Option<u64>,
    /// Whether its sandbox reaches what the machine reaches, also where its model alone would do.
    pub open_network: bool,
    /// What it needs of this machine besides the directories of its program.
    pub readable: Vec<PathBuf>,
    /// What it writes besides its home, shared by all of its attempts.
    pub writable: Vec<PathBuf>,
    /// What becomes of everything else that it asks for.
    pub permissions: Permissions,
    pub ask: Ask,
    /// Codex is run as a server, also when it asks nobody.
    pub app_server: bool,
    /// The servers of tools that it is given.
    pub servers: Vec<McpOffer>,
}

/// Who is asked when an engine asks for more than it may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// Who may answer; `None`: whoever holds the right to decide gates.
    pub approvers: Option<Vec<String>>,
    /// How many of them have to say yes.
    pub quorum: u32,
    /// After which the answer is no.
    pub timeout: Duration,
}

impl Default for Ask {
    fn default() -> Self {
        Self { approvers: None, quorum: 1, timeout: Duration::from_secs(30 * 60) }
    }
}

/// All engines of one machine, by id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineTable {
    entries: BTreeMap<String, Configured>,
}

impl Configured {
    /// An engine of which nothing is said.
    pub fn new(id: impl Into<String>, engine: Engine) -> Self {
        Self {
            id: id.into(),
            engine,
            command: Vec::new(),
            extra_args: Vec::new(),
            base_url: None,
            key_env: None,
            key: None,
            model: None,
            effort: None,
            max_turns: None,
            allowed_tools: Vec::new(),
            broker: false,
            token_budget: None,
            open_network: false,
            readable: Vec::new(),
            writable: Vec::new(),
            permissions: Permissions::default(),
            ask: Ask::default(),
            app_server: false,
            servers: Vec::new(),
        }
    }

    /// The variable that its key is looked for in.
    pub fn key_variable(&self) -> Option<&str> {
        self.key_env.as_deref().or(match self.engine {
            Engine::Codex => Some("OPENAI_API_KEY"),
            Engine::Claude => Some("ANTHROPIC_API_KEY"),
            Engine::Gemini => Some("GEMINI_API_KEY"),
            Engine::Shell | Engine::Scripted | Engine::Opencode | Engine::Acp | Engine::CodeMachine => None,
        })
    }

    /// Looks for the key of its model, and for those of its servers of tools.
    pub fn find_key(&mut self, read: impl Fn(&str) -> Option<String>) {
        let found = self.key_variable().and_then(|name| Some((name.to_owned(), read(name)?)));
        self.key = found.filter(|(_, key)| !key.trim().is_empty()).map(|(name, key)| Key::new(name, key));
        self.servers.iter_mut().for_each(|server| server.find_values(&read));
    }

    /// Where the model is and what opens it.
    pub fn endpoint(&self) -> Endpoint {
        Endpoint { base_url: self.base_url.clone(), key: self.key.clone() }
    }

    /// Its model's address where that is on this machine, so that nothing else has to be reached.
    pub fn model_here(&self) -> Option<SocketAddr> {
        self.base_url.as_deref().and_then(Address::parse)?.loopback()
    }

    /// Whether its sandbox reaches its model and nothing besides.
    pub fn is_kept_to_its_model(&self) -> bool {
        !self.open_network && (self.broker || self.model_here().is_some())
    }

    /// Where the model is that a broker would speak to; `None` where the engine cannot be told of another.
    pub fn upstream(&self) -> Option<String> {
        let own = match self.engine {
            Engine::Codex => Some("https://api.openai.com/v1"),
            Engine::Claude => Some("https://api.anthropic.com"),
            Engine::Gemini => Some("https://generativelanguage.googleapis.com"),
            Engine::Opencode => None,
            Engine::Shell | Engine::Scripted | Engine::Acp | Engine::CodeMachine => return None,
        };
        self.base_url.clone().or(own.map(str::to_owned))
    }

    /// The program that it is started by; `None` where it is part of this binary, or the step's own command.
    pub fn program(&self) -> Option<&str> {
        self.command.first().map(String::as_str).or_else(|| self.engine.program())
    }
}

impl Default for EngineTable {
    fn default() -> Self {
        let entries =
            Engine::ALL.into_iter().map(|engine| (engine.id().to_owned(), Configured::new(engine.id(), engine)));
        Self { entries: entries.collect() }
    }
}

impl EngineTable {
    /// Puts an engine in, over one of the same id.
    pub fn insert(&mut self, configured: Configured) {
        self.entries.insert(configured.id.clone(), configured);
    }

    pub fn find(&self, id: &str) -> Option<&Configured> {
        self.entries.get(id)
    }

    /// The engine with this id, or the error that says which ones there are.
    pub fn require(&self, id: &str) -> Result<&Configured, EngineError> {
        self.find(id).ok_or_else(|| EngineError::Unavailable {
            engine: host::text::one_line(id, 100),
            known: self.entries.keys().cloned().collect(),
        })
    }

    /// Looks for the keys of all engines, and for those of their servers of tools.
    pub fn find_keys(&mut self, read: impl Fn(&str) -> Option<String>) {
        self.entries.values_mut().for_each(|configured| configured.find_key(&read));
    }

    pub fn iter(&self) -> impl Iterator<Item = &Configured> {
        self.entries.values()
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Configured> {
        self.entries.values_mut()
    }
}
