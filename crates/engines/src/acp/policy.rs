//! What an agent may do without a person being asked. Nothing is allowed that is not named here or in the configuration,
//! and whatever is answered is an event.

use super::script::Script;
use crate::engine::{Fields, Permission};
use crate::sandbox::Profile;
use serde_json::{Value, json};

const READING: [&str; 3] = ["read", "search", "think"];
const WORKING: [&str; 7] = ["read", "search", "think", "edit", "delete", "move", "execute"];

/// Whether a tool call may go on.
pub(super) fn decide(script: &Script, tool_call: &Value) -> Permission {
    let kind = tool_call.text("kind").unwrap_or("other");
    let name = tool_call.text("name").unwrap_or_default();
    let named = |tools: &[String]| tools.iter().any(|tool| tool == kind || (!name.is_empty() && tool == name));
    let allowed = match (script.allowed_tools.is_empty(), script.access) {
        (false, _) => named(&script.allowed_tools),
        (true, Profile::ReadOnly) => READING.contains(&kind),
        (true, Profile::Workspace) => WORKING.contains(&kind),
        (true, Profile::Full) => true,
    };
    if allowed { Permission::Allowed } else { Permission::Denied }
}

/// The answer on the wire, with what it came to: an option that the agent did not offer cannot be chosen. Never for more
/// than this once, so that the next call is asked about again.
pub(super) fn answer(wanted: Permission, options: &[Value]) -> (Permission, Value) {
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
