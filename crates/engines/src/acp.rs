//! Any agent that speaks the Agent Client Protocol, version 1.
//!
//! A driver of ours (`pilothouse engine-acp`) talks with the agent ([`talk`]). [`client`] is the conversation.

mod client;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzzed;
mod script;
#[cfg(test)]
mod tests;
mod updates;

use crate::engine::{EngineError, EngineRequest, Prepared};
use crate::talk;
use client::Client;
use script::Script;
use std::ffi::OsString;

/// The hidden subcommand of the binary that runs [`main`].
pub const SUBCOMMAND: &str = "engine-acp";

pub(crate) fn prepare(request: &EngineRequest) -> Result<Prepared, EngineError> {
    if request.settings.command.is_empty() {
        return Err(EngineError::Misconfigured { engine: "acp", missing: "the command line of an agent" });
    }
    let mut command = request.settings.command.clone();
    command.extend(request.settings.extra_args.iter().cloned());
    let mut prepared = talk::prepare(request, SUBCOMMAND, command, Script::of(request)?)?;
    if let Some(key) = &request.endpoint.key {
        prepared = prepared.env(key.variable(), key.reveal());
    }
    Ok(prepared)
}

/// Runs the driver; `args` are those after `engine-acp`, the answer is the process's exit code.
pub fn main(args: impl IntoIterator<Item = OsString>) -> i32 {
    talk::run(SUBCOMMAND, args, |script: Script| Client::new(script))
}
