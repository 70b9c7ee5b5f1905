//! Servers of tools (Model Context Protocol) that an engine may call: as they are configured, and as they are handed over.
//!
//! That one is configured for an engine is the permission to use it: nobody is asked for each call. So it is given to the
//! work that it was meant for and to nothing else, and kept to the tools that were named.

use super::json::is_plain_name;
use super::{EngineError, Key, Phase};
use crate::broker::Address;
use serde_json::{Map, Value};
use std::net::SocketAddr;
use std::path::PathBuf;

/// One that an engine is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct McpServer {
    pub name: String,
    pub transport: Transport,
    /// Those of its tools that may be used; empty: all.
    pub tools: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transport {
    /// A program that the engine starts, in the same sandbox as itself.
    Stdio { command: String, args: Vec<String>, env: Vec<Key> },
    /// The protocol's streamable HTTP.
    Http {
        url: String,
        /// Sent as a bearer token.
        token: Option<Key>,
    },
}

/// One as it is configured for an engine: not yet looked for, and meant for some of its work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct McpOffer {
    /// Its program as people wrote it; with what was found of its variables.
    pub server: McpServer,
    /// The variables of the worker's environment that its program is given.
    pub env: Vec<String>,
    /// The variable of the worker's environment that holds its token.
    pub token_env: Option<String>,
    pub phases: Vec<Phase>,
    /// The names of the projects whose work it is for; empty: all.
    pub projects: Vec<String>,
}

impl McpServer {
    pub fn new(name: impl Into<String>, transport: Transport) -> Self {
        Self { name: name.into(), transport, tools: Vec::new() }
    }

    /// What must not be shown of it.
    pub fn secrets(&self) -> impl Iterator<Item = &str> {
        let (env, token) = match &self.transport {
            Transport::Stdio { env, .. } => (env.as_slice(), None),
            Transport::Http { token, .. } => (&[][..], token.as_ref()),
        };
        env.iter().chain(token).map(Key::reveal)
    }

    /// Its address on this machine's loopback, if that is where it is.
    pub fn here(&self) -> Option<SocketAddr> {
        match &self.transport {
            Transport::Stdio { .. } => None,
            Transport::Http { url, .. } => Address::parse(url)?.loopback(),
        }
    }

    /// Whether it is somewhere else than on this machine.
    pub fn is_elsewhere(&self) -> bool {
        matches!(self.transport, Transport::Http { .. }) && self.here().is_none()
    }

    /// Names become keys and arguments of an engine's configuration.
    pub(super) fn check(&self) -> Result<(), EngineError> {
        let plain = |name: &str| is_plain_name(name) && !name.contains(['.', ',', '/', ':']);
        let mut names = std::iter::once(&self.name).chain(&self.tools);
        match names.find(|name| !plain(name)) {
            Some(name) => {
                Err(EngineError::Name { what: "the MCP server or its tool", name: host::text::one_line(name, 100) })
            }
            None => Ok(()),
        }
    }
}

impl McpOffer {
    /// Whether this work is to have it.
    pub fn is_for(&self, phase: Phase, project: &str) -> bool {
        self.phases.contains(&phase) && (self.projects.is_empty() || self.projects.iter().any(|name| name == project))
    }

    /// Looks for what its variables hold.
    pub fn find_values(&mut self, read: impl Fn(&str) -> Option<String>) {
        let value = |name: &String| Some(Key::new(name, read(name).filter(|value| !value.is_empty())?));
        match &mut self.server.transport {
            Transport::Stdio { env, .. } => *env = self.env.iter().filter_map(value).collect(),
            Transport::Http { token, .. } => *token = self.token_env.as_ref().and_then(value),
        }
    }

    /// The server with its program found in `path`, or why it cannot be had.
    pub fn find(&self, path: &str) -> Result<McpServer, String> {
        let name = &self.server.name;
        let unset =
            |variable: &str| Err(format!("MCP server {name}: {variable} is not set in the worker's environment"));
        let mut server = self.server.clone();
        match &mut server.transport {
            Transport::Stdio { command, env, .. } => {
                if let Some(missing) =
                    self.env.iter().find(|wanted| !env.iter().any(|known| known.variable() == **wanted))
                {
                    return unset(missing);
                }
                let found: Option<PathBuf> = host::process::find_program(command.as_ref(), Some(path.as_ref()), None);
                let found =
                    found.ok_or_else(|| format!("MCP server {name}: there is no program {command} in {path}"))?;
                *command = found.to_string_lossy().into_owned();
            }
            Transport::Http { token, .. } => {
                if let Some(missing) = self.token_env.as_ref().filter(|_| token.is_none()) {
                    return unset(missing);
                }
            }
        }
        Ok(server)
    }
}

/// What a server's program is given, as most engines want it said.
pub(crate) fn variables(env: &[Key]) -> Map<String, Value> {
    env.iter().map(|key| (key.variable().to_owned(), key.reveal().into())).collect()
}

/// What every request to a server carries, as most engines want it said.
pub(crate) fn headers(token: Option<&Key>) -> Map<String, Value> {
    token.map(|token| ("Authorization".to_owned(), token.as_bearer().into())).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(transport: Transport) -> McpOffer {
        McpOffer {
            server: McpServer::new("docs", transport),
            env: vec!["DOCS".into()],
            token_env: Some("TOKEN".into()),
            phases: vec![Phase::Work],
            projects: Vec::new(),
        }
    }

    fn read(name: &str) -> Option<String> {
        (name != "UNSET").then(|| format!("value of {name}"))
    }

    #[test]
    fn it_is_for_the_work_that_it_was_meant_for() {
        let mut offer = offer(Transport::Http { url: "http://127.0.0.1:1".into(), token: None });
        assert!(offer.is_for(Phase::Work, "any") && !offer.is_for(Phase::Plan, "any"));
        offer.projects.push("web".into());
        assert!(offer.is_for(Phase::Work, "web") && !offer.is_for(Phase::Work, "other"));
    }

    #[test]
    fn what_it_needs_is_found_or_named() {
        let command = "sh".to_owned();
        let mut stdio = offer(Transport::Stdio { command, args: Vec::new(), env: Vec::new() });
        assert_eq!(stdio.find("/bin").unwrap_err(), "MCP server docs: DOCS is not set in the worker's environment");
        stdio.find_values(read);
        let found = stdio.find("/usr/bin:/bin").unwrap();
        assert!(matches!(&found.transport, Transport::Stdio { command, .. } if command.ends_with("/sh")), "{found:?}");
        assert_eq!(found.secrets().collect::<Vec<_>>(), ["value of DOCS"]);
        assert!(!format!("{found:?}").contains("value of"), "{found:?}");
        assert_eq!(stdio.find("/nowhere").unwrap_err(), "MCP server docs: there is no program sh in /nowhere");

        let mut http = offer(Transport::Http { url: "https://docs.example/mcp".into(), token: None });
        http.find_values(read);
        let found = http.find("").unwrap();
        assert_eq!((found.secrets().collect::<Vec<_>>(), found.is_elsewhere()), (vec!["value of TOKEN"], true));
        http.token_env = Some("UNSET".into());
        http.find_values(read);
        assert_eq!(http.find("").unwrap_err(), "MCP server docs: UNSET is not set in the worker's environment");
    }

    #[test]
    fn an_address_of_this_machine_is_known() {
        let at = |url: &str| McpServer::new("docs", Transport::Http { url: url.into(), token: None });
        assert_eq!(at("http://localhost:7/mcp").here(), Some("127.0.0.1:7".parse().unwrap()));
        assert!(at("http://docs.example/mcp").is_elsewhere() && !at("http://[::1]:7").is_elsewhere());
        for name in ["a.b", "a,b", "-a", "", "a b"] {
            assert!(McpServer::new(name, at("http://x").transport).check().is_err(), "{name:?}");
        }
    }
}
