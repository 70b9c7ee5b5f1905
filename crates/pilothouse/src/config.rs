//! The configuration: layers of named values, each with where it came from.
//!
//! A flag wins over the environment, that over `./pilothouse.toml`, over the user's file, over the machine's file, over
//! the default. A key that is not in [`keys`] refuses to load, and the nearest one is named. Start at [`Settings`].

mod engines;
pub(crate) mod keys;
pub(crate) mod layers;
mod mcp;
pub(crate) mod value;
mod setting;
#[cfg(test)]
mod fuzzed;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

use ::engines::Profile;
use forge::git::LocalPolicy;
use server::Limits;
use store::StoreConfig;
use worker::{SandboxConfig, SandboxPolicy, WorkerConfig, config::EngineLimits};

pub(crate) use self::{
    engines::search_path,
    setting::{ConfigError, Setting},
};
use self::{
    keys::{KEYS, Key},
    layers::Layer,
    value::Value,
};

/// The merged layers.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Settings {
    values: BTreeMap<String, Setting>,
}

impl Settings {
    /// Reads every layer of this machine and puts `flags` on top.
    pub(crate) fn load(flags: Layer) -> Result<Self, ConfigError> {
        let mut all = layers::files()?;
        all.push(layers::environment()?);
        all.push(flags);
        let settings = Self::merge(all);
        let problems = [settings.engine_problems(), settings.server_problems(&settings.engines())].concat();
        if problems.is_empty() { Ok(settings) } else { Err(ConfigError { problems }) }
    }

    /// The lowest layer comes first.
    pub(crate) fn merge(layers: impl IntoIterator<Item = Layer>) -> Self {
        let mut values = BTreeMap::new();
        for key in KEYS {
            if let Some(value) = key.default_value() {
                values.insert(key.name.to_owned(), Setting { value, origin: "default".to_owned() });
            }
        }
        for layer in layers {
            values.extend(layer.settings);
        }
        Self { values }
    }

    /// All keys that have a value, by name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Setting)> {
        self.values.iter().map(|(name, setting)| (name.as_str(), setting))
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        debug_assert!(keys::find(name).is_some(), "{name} is not a key");
        self.values.get(name).map(|setting| &setting.value)
    }

    fn duration(&self, name: &str) -> Duration {
        match self.get(name) {
            Some(Value::Duration(span)) => *span,
            _ => unreachable_default(name),
        }
    }

    fn count(&self, name: &str) -> usize {
        match self.get(name) {
            Some(Value::Count(count)) => usize::try_from(*count).unwrap_or(usize::MAX),
            _ => unreachable_default(name),
        }
    }

    fn find_count(&self, name: &str) -> Option<u32> {
        match self.get(name) {
            Some(Value::Count(count)) => Some(u32::try_from(*count).unwrap_or(u32::MAX)),
            _ => None,
        }
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        match self.get(name) {
            Some(Value::Path(path)) => Some(path.clone()),
            _ => None,
        }
    }

    fn texts(&self, name: &str) -> Vec<String> {
        match self.get(name) {
            Some(Value::List(texts)) => texts.clone(),
            _ => Vec::new(),
        }
    }

    fn text(&self, name: &str) -> Option<&str> {
        match self.get(name) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn listen(&self) -> SocketAddr {
        match self.get("server.listen") {
            Some(Value::Address(address)) => *address,
            _ => unreachable_default("server.listen"),
        }
    }

    pub(crate) fn allowed_hosts(&self) -> Vec<String> {
        self.texts("server.allowed_hosts")
    }

    pub(crate) fn dev_channel(&self) -> bool {
        matches!(self.get("dev_channel"), Some(Value::Bool(true)))
    }

    /// Where this machine keeps its ledger, tokens and attempts; `None` without a home directory.
    pub(crate) fn data_dir(&self) -> Option<PathBuf> {
        self.path("data_dir").or_else(layers::default_data_dir)
    }

    pub(crate) fn jobs(&self) -> Option<PathBuf> {
        self.path("jobs")
    }

    pub(crate) fn database_url(&self) -> Option<&str> {
        self.text("database_url")
    }

    pub(crate) fn log_filter(&self) -> &str {
        self.text("log.filter").unwrap_or("info")
    }

    pub(crate) fn log_json(&self) -> bool {
        self.text("log.format") == Some("json")
    }

    /// Where numbers are answered without a token.
    pub(crate) fn metrics_listen(&self) -> Option<SocketAddr> {
        match self.get("server.metrics_listen") {
            Some(Value::Address(address)) => Some(*address),
            _ => None,
        }
    }

    pub(crate) fn otlp_endpoint(&self) -> Option<&str> {
        self.text("telemetry.otlp_endpoint")
    }

    pub(crate) fn trace_percent(&self) -> usize {
        self.count("telemetry.sample_percent")
    }

    /// Directories beneath which local repositories may be used.
    fn allow_local(&self) -> Option<Vec<PathBuf>> {
        self.get("repos.allow_local")?;
        Some(self.texts("repos.allow_local").into_iter().map(PathBuf::from).collect())
    }

    pub(crate) fn store(&self, data_dir: &std::path::Path) -> StoreConfig {
        match self.database_url() {
            Some(url) => StoreConfig::Postgres { url: url.to_owned() },
            None => StoreConfig::Sqlite { path: data_dir.join(SQLITE_FILE) },
        }
    }

    pub(crate) fn limits(&self) -> Limits {
        Limits {
            header_read: self.duration("server.limits.header_read"),
            max_headers: self.count("server.limits.max_headers"),
            max_header_bytes: self.count("server.limits.max_header_bytes"),
            max_url_bytes: self.count("server.limits.max_url_bytes"),
            max_body_bytes: self.count("server.limits.max_body_bytes"),
            max_json_depth: self.count("server.limits.max_json_depth"),
            body_read: self.duration("server.limits.body_read"),
            handler: self.duration("server.limits.handler"),
            max_connections: self.count("server.limits.max_connections"),
            max_connections_per_peer: self.count("server.limits.max_connections_per_peer"),
            max_streams_per_person: self.count("server.limits.max_streams_per_person"),
            stream_heartbeat: self.duration("server.limits.stream_heartbeat"),
            stream_idle: self.duration("server.limits.stream_idle"),
            requests_per_minute_per_token: self.find_count("server.limits.requests_per_minute_per_token"),
            shutdown: self.duration("server.limits.shutdown"),
        }
    }

    /// How far engines and checks are kept from this machine.
    pub(crate) fn sandbox(&self) -> SandboxConfig {
        let policy = |name: &str| match self.text(name) {
            Some("off") => SandboxPolicy::Off,
            Some(text) => Profile::parse(text).map_or(SandboxPolicy::Auto, SandboxPolicy::Always),
            None => unreachable_default(name),
        };
        let is = |name: &str| matches!(self.get(name), Some(Value::Bool(true)));
        SandboxConfig {
            engines: policy("sandbox.engines"),
            checks: policy("sandbox.checks"),
            network: is("sandbox.network"),
            bubblewrap: is("sandbox.bubblewrap"),
            readable: self.texts("sandbox.readable").into_iter().map(PathBuf::from).collect(),
            memory: match self.get("sandbox.memory") {
                Some(Value::Count(bytes)) => Some(*bytes),
                _ => None,
            },
            processes: self.find_count("sandbox.processes"),
        }
    }

    /// What the configuration says of a worker; where nothing is said of local repositories, none may be used.
    pub(crate) fn worker(&self, data_dir: PathBuf, exe: PathBuf) -> WorkerConfig {
        let mut config = WorkerConfig::new(data_dir, exe);
        config.fast_slots = self.count("worker.fast_slots");
        config.engine_slots = self.count("worker.engine_slots");
        config.caps.total = self.find_count("worker.caps.total");
        config.caps.per_project = self.find_count("worker.caps.per_project");
        config.caps.per_engine = self
            .iter()
            .filter_map(|(name, setting)| match (name.strip_prefix(keys::PER_ENGINE), &setting.value) {
                (Some(engine), Value::Count(cap)) => Some((engine.to_owned(), u32::try_from(*cap).unwrap_or(u32::MAX))),
                _ => None,
            })
            .collect();
        if let Some(dirs) = self.allow_local() {
            config.local_repositories = LocalPolicy::Beneath(dirs);
        }
        config.engines = self.engines();
        config.engine_limits = EngineLimits {
            wall: self.duration("worker.engine_wall"),
            idle: self.duration("worker.engine_idle"),
            stall: self.duration("worker.engine_stall"),
            ..EngineLimits::default()
        };
        config.lease = self.duration("worker.lease");
        config.outlive = self.duration("worker.outlive");
        config.drain = self.duration("worker.drain");
        config.sandbox = self.sandbox();
        config.retention.dedup = self.duration("retention.dedup");
        config.retention.idempotency = self.duration("retention.idempotency");
        config.retention.artifacts = self.duration("retention.artifacts");
        config.retention.tasks = self.duration("retention.tasks");
        config
    }
}

/// The ledger's file in the data directory.
pub(crate) const SQLITE_FILE: &str = "pilothouse.db";

fn unreachable_default(name: &str) -> ! {
    unreachable!("{name} has a default of its kind")
}

impl Key {
    fn default_value(&self) -> Option<Value> {
        self.default.map(|text| match self.kind.parse(text) {
            Ok(value) => value,
            Err(reason) => unreachable!("the default of {} is {reason}", self.name),
        })
    }
}
