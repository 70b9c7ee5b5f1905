//! Any agent that speaks the Agent Client Protocol, version 1.
//!
//! An agent is talked with over its input and output, and engines are trees whose output is a file. So the engine is a
//! driver of ours (`pilothouse engine-acp`) inside the tree, with the agent as its child: it holds the conversation,
//! answers what the agent asks by policy, and prints our events. [`client`] is the conversation without any input or
//! output, so that recorded ones can be replayed; [`driver`] carries it out.

mod client;
mod driver;
#[cfg(test)]
pub(crate) mod fuzzed;
mod policy;
mod script;
#[cfg(test)]
mod tests;
mod updates;

pub use driver::main;

use crate::engine::{EngineError, EngineRequest, Prepared, utf8};
use script::Script;

/// The hidden subcommand of the binary that runs [`main`].
pub const SUBCOMMAND: &str = "engine-acp";

pub(crate) fn prepare(request: &EngineRequest) -> Result<Prepared, EngineError> {
    if request.settings.command.is_empty() {
        return Err(EngineError::Misconfigured { engine: "acp", missing: "the command line of an agent" });
    }
    let path = request.home().join("acp.json");
    let script =
        serde_json::to_vec(&Script::of(request)?).map_err(|error| EngineError::Files { message: error.to_string() })?;
    let exe = utf8(&request.settings.exe)?;
    let mut prepared =
        Prepared::command(vec![exe, SUBCOMMAND.to_owned(), format!("--script={}", utf8(&path)?)]).file(path, script);
    if let Some(key) = &request.endpoint.key {
        prepared = prepared.env(key.variable(), key.reveal());
    }
    Ok(prepared)
}
