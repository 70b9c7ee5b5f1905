//! The servers of tools (MCP) that an engine is given for a piece of work.

use engines::engine::McpServer;

use crate::engine_run::Task;

/// Those that are meant for this work, with their programs found in `path`; or why one of them cannot be had. Work that
/// was to have its tools is not begun without them.
pub(crate) fn servers_of(task: &Task, path: &str) -> Result<Vec<McpServer>, String> {
    let engine = &task.engine;
    let meant = engine.servers.iter().filter(|server| server.is_for(task.phase, &task.project));
    let servers = meant.map(|server| server.find(path)).collect::<Result<Vec<_>, _>>()?;
    match servers.iter().find(|server| engine.is_kept_to_its_model() && server.is_elsewhere()) {
        Some(server) => Err(format!(
            "MCP server {} is not on this machine, and the sandbox of engine {} reaches its model alone; \
             say `engines.{}.network = \"open\"`, or leave the server out",
            server.name, engine.id, engine.id
        )),
        None => Ok(servers),
    }
}
