//! What an engine may do without a person being asked. Nothing is allowed that is not named by the configuration or by
//! what the work itself needs, and whatever is answered is an event.

use crate::engine::{EngineRequest, McpServer, Permission, Permissions};
use crate::sandbox::Profile;
use serde::{Deserialize, Serialize};

/// What a driver answers by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Policy {
    pub(crate) access: Profile,
    /// Kinds and names of tools that may be used unasked; empty: what the work needs.
    pub(crate) allowed_tools: Vec<String>,
    /// What becomes of everything else.
    pub(crate) otherwise: Permissions,
    /// The servers of tools that were configured, and may be used for that.
    #[serde(default)]
    pub(crate) servers: Vec<ServerTools>,
}

/// One of them with those of its tools that may be used; empty: all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ServerTools {
    pub(crate) server: String,
    pub(crate) tools: Vec<String>,
}

/// The tools that an engine needs, by what it is to do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Needs {
    pub(crate) reading: &'static [&'static str],
    pub(crate) working: &'static [&'static str],
}

impl Policy {
    pub(crate) fn of(request: &EngineRequest) -> Self {
        // Who cannot be reached is not asked.
        let otherwise = match request.settings.permissions {
            Permissions::Ask if request.settings.asking.is_none() => Permissions::Deny,
            other => other,
        };
        let tools_of = |server: &McpServer| ServerTools { server: server.name.clone(), tools: server.tools.clone() };
        Self {
            access: request.access,
            allowed_tools: request.settings.allowed_tools.clone(),
            otherwise,
            servers: request.mcp_servers.iter().map(tools_of).collect(),
        }
    }

    /// The answer for a tool of a server, by any of the names that agents make of the two; `None`: it is none of those
    /// that were configured.
    pub(crate) fn decide_server(&self, name: &str) -> Option<Permission> {
        let tool = self.servers.iter().find_map(|ServerTools { server, tools }| {
            let prefixes = [format!("mcp__{server}__"), format!("mcp_{server}_"), format!("{server}_")];
            let behind = prefixes.iter().find_map(|prefix| name.strip_prefix(prefix.as_str()));
            let tool = behind.or_else(|| name.strip_suffix(&format!(" ({server} MCP Server)")))?;
            Some(tools.is_empty() || tools.iter().any(|known| known == tool))
        })?;
        Some(if tool { Permission::Allowed } else { Permission::Denied })
    }

    /// The answer for a tool that goes by these names; `None`: people are asked.
    pub(crate) fn decide(&self, names: &[&str], needs: Needs) -> Option<Permission> {
        let is = |tool: &str| names.iter().any(|name| !name.is_empty() && *name == tool);
        let any = |tools: &[&str]| tools.iter().any(|tool| is(tool));
        let allowed = match (self.allowed_tools.is_empty(), self.access) {
            (false, _) => self.allowed_tools.iter().any(|tool| is(tool)),
            // Whoever wants to be asked wants to be asked about what changes something.
            (true, _) if self.otherwise == Permissions::Ask => any(needs.reading),
            (true, Profile::ReadOnly) => any(needs.reading),
            (true, Profile::Workspace) => any(needs.working),
            (true, Profile::Full) => true,
        };
        match (allowed, self.otherwise) {
            (true, _) => Some(Permission::Allowed),
            (false, Permissions::Ask) => None,
            // What only reads is never given more by a word in the configuration.
            (false, Permissions::Allow) if self.access != Profile::ReadOnly => Some(Permission::Allowed),
            (false, Permissions::Allow | Permissions::Deny) => Some(Permission::Denied),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEEDS: Needs = Needs { reading: &["read"], working: &["read", "edit"] };

    fn decide(access: Profile, otherwise: Permissions, allowed: &[&str], tool: &str) -> Option<Permission> {
        let allowed_tools = allowed.iter().map(|&tool| tool.to_owned()).collect();
        Policy { access, allowed_tools, otherwise, servers: Vec::new() }.decide(&[tool, ""], NEEDS)
    }

    #[test]
    fn what_is_not_named_is_denied_asked_or_allowed_as_the_policy_says() {
        let (yes, no) = (Some(Permission::Allowed), Some(Permission::Denied));
        let work = |otherwise, tool| decide(Profile::Workspace, otherwise, &[], tool);
        assert_eq!((work(Permissions::Deny, "edit"), work(Permissions::Deny, "fetch")), (yes, no));
        assert_eq!((work(Permissions::Ask, "read"), work(Permissions::Ask, "edit")), (yes, None));
        assert_eq!(work(Permissions::Allow, "fetch"), yes);
        let named = |otherwise, tool| decide(Profile::Workspace, otherwise, &["fetch"], tool);
        assert_eq!((named(Permissions::Deny, "fetch"), named(Permissions::Deny, "edit")), (yes, no));
        assert_eq!((named(Permissions::Ask, "fetch"), named(Permissions::Ask, "read")), (yes, None));
        let read = |otherwise, tool| decide(Profile::ReadOnly, otherwise, &[], tool);
        assert_eq!((read(Permissions::Allow, "read"), read(Permissions::Allow, "edit")), (yes, no));
        assert_eq!(read(Permissions::Ask, "edit"), None);
    }

    #[test]
    fn tools_of_configured_servers_are_known_by_the_names_that_agents_give_them() {
        let servers = vec![
            ServerTools { server: "docs".into(), tools: vec!["find".into()] },
            ServerTools { server: "all".into(), tools: Vec::new() },
        ];
        let (access, otherwise) = (Profile::Workspace, Permissions::Allow);
        let policy = Policy { access, allowed_tools: Vec::new(), otherwise, servers };
        let (yes, no) = (Some(Permission::Allowed), Some(Permission::Denied));
        for name in ["mcp__docs__find", "mcp_docs_find", "docs_find", "find (docs MCP Server)", "mcp__all__any"] {
            assert_eq!(policy.decide_server(name), yes, "{name}");
        }
        assert_eq!(policy.decide_server("mcp__docs__remove"), no);
        for other in ["find", "docs", "mcp__other__find", "Bash", ""] {
            assert_eq!(policy.decide_server(other), None, "{other}");
        }
    }
}
