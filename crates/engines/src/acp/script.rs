//! What the driver of an ACP agent is told about its conversation.

use crate::engine::{
    EngineError, EngineRequest, McpServer, Session, Transport, asked_to_answer, headers, utf8, variables,
};
use crate::talk::Policy;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Script {
    pub(super) cwd: String,
    pub(super) prompt: String,
    pub(super) resume: Option<String>,
    pub(super) model: Option<String>,
    pub(super) wants_answer: bool,
    pub(super) policy: Policy,
    /// As the wire wants them.
    pub(super) mcp_servers: Vec<Value>,
    /// What the session had cost before, in micro-USD.
    pub(super) spent_micro_usd: u64,
}

impl Script {
    pub(super) fn of(request: &EngineRequest) -> Result<Self, EngineError> {
        let prompt = match &request.output_schema {
            Some(schema) => asked_to_answer(&request.prompt, schema),
            None => request.prompt.clone(),
        };
        let resume = match &request.session {
            Session::Resume(id) => Some(id.clone()),
            Session::New | Session::Preset(_) => None,
        };
        Ok(Self {
            cwd: utf8(&request.worktree)?,
            prompt,
            resume,
            model: request.model.clone(),
            wants_answer: request.output_schema.is_some(),
            policy: Policy::of(request),
            mcp_servers: request.mcp_servers.iter().map(mcp_server).collect(),
            spent_micro_usd: request.spent.cost_micro_usd.unwrap_or(0),
        })
    }
}

fn mcp_server(server: &McpServer) -> Value {
    match &server.transport {
        Transport::Stdio { command, args, env } => {
            json!({"name": server.name, "command": command, "args": args, "env": pairs(&variables(env))})
        }
        Transport::Http { url, token } => {
            json!({"type": "http", "name": server.name, "url": url, "headers": pairs(&headers(token.as_ref()))})
        }
    }
}

/// A map as the wire wants it.
fn pairs(map: &Map<String, Value>) -> Value {
    map.iter().map(|(name, value)| json!({"name": name, "value": value})).collect()
}
