//! Engines: what does the work, as this node finds it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// An engine of this node.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct EngineView {
    /// Its name in specs and projects.
    pub id: String,
    /// The adapter that speaks with it; `acp` for every agent that the configuration names.
    pub adapter: String,
    /// `ready`, or `unusable` when something is known that keeps it from working
    pub status: String,
    /// Where its program is; null for what is part of Pilothouse and for what was not found.
    pub found_at: Option<String>,
    pub version: Option<String>,
    /// The oldest version that is understood.
    pub minimum_version: Option<String>,
    /// The version that Pilothouse is tested with.
    pub tested_version: Option<String>,
    /// `not_needed`, `key`, `missing` or `own` (it logs in by itself); nobody was asked whether a key is good
    pub login: String,
    /// The variable that the key is, or should be, in.
    pub key_variable: Option<String>,
    pub capabilities: EngineCapabilities,
    /// The MCP servers that it is given, each for some of its work.
    #[serde(default)]
    pub mcp_servers: Vec<String>,
    /// What keeps it from working, and what to do about it.
    pub problems: Vec<String>,
}

/// What can be asked of an engine.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct EngineCapabilities {
    /// It takes a JSON schema itself.
    pub schema: bool,
    /// A session can be gone on with.
    pub resume: bool,
    /// The name of a session can be chosen before the start.
    pub preset_session: bool,
    /// It says what it cost.
    pub cost: bool,
    /// It says how many tokens it used.
    pub usage: bool,
    /// It says when it asks for permission or is refused.
    pub permissions: bool,
    /// It can wait for people to say whether it may use a tool.
    pub asks: bool,
    /// It takes MCP servers.
    pub mcp: bool,
    /// It confines its own tools.
    pub own_sandbox: bool,
}

/// All engines of this node.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct EngineListView {
    pub items: Vec<EngineView>,
    pub next_cursor: Option<String>,
}
