//! The `shell` engine: an argument list run as it is. What it prints is text; its exit code is its answer.

use crate::engine::{EngineError, EngineEvent, EngineRequest, Prepared};

pub(crate) fn prepare(request: &EngineRequest) -> Result<Prepared, EngineError> {
    if request.settings.argv.is_empty() {
        return Err(EngineError::Misconfigured { engine: "shell", missing: "a command" });
    }
    Ok(Prepared::command(request.settings.argv.clone()))
}

pub(crate) fn parse_line(line: &str) -> Vec<EngineEvent> {
    vec![EngineEvent::Text { text: line.to_owned() }]
}
