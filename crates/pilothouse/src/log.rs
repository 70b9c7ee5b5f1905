//! The log: lines on stderr, for people or for programs.

use std::io::IsTerminal;

use tracing_subscriber::{EnvFilter, fmt};

use crate::failure::{Failure, Result};

/// Sends the log to stderr from now on.
pub(crate) fn start(filter: &str, json: bool) -> Result {
    let filter = EnvFilter::try_new(filter).map_err(|error| {
        Failure::usage(format!("log.filter: {error}")).remedy("Write `info` or `info,worker=debug`.")
    })?;
    let colour = std::io::stderr().is_terminal() && crate::output::wants_colours();
    let lines = fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colour);
    // A second start, as in a test, changes nothing.
    let _ = if json { lines.json().try_init() } else { lines.try_init() };
    Ok(())
}
