//! The `scripted` engine: plays a scenario file, for demonstrations and tests, and says so wherever it is seen.
//!
//! It is a process like any other engine (`pilothouse scripted-engine`), so what supervises real engines is rehearsed
//! for real. A scenario is TOML or JSON (by its ending): a `version` (1), a `title`, and `scenes`. A scene is played
//! when its `phase` (`plan`, `setup`, `work`, `qa`), `step` (a step's name) and `attempt` (a number) all match, each of
//! them matching anything when absent; the first such scene is played, and without one the engine fails.
//! A scene has `actions`, each with `do`; they are listed in [`scenario::Action`].

mod play;
pub mod scenario;

pub(crate) use play::{emit, print_line as emit_line};

use crate::engine::{EngineError, EngineEvent, EngineRequest, Finished, ParseState, Phase, Prepared, Subject, utf8};
use std::ffi::OsString;
use std::path::PathBuf;

/// The hidden subcommand of the binary that runs [`main`].
pub const SUBCOMMAND: &str = "scripted-engine";

const USAGE: &str = "usage: pilothouse scripted-engine --scenario FILE --phase plan|setup|work|qa --step NAME \
                     --attempt N --worktree DIR";

pub(crate) fn prepare(request: &EngineRequest) -> Result<Prepared, EngineError> {
    let Some(scenario) = &request.settings.scenario else {
        return Err(EngineError::Misconfigured { engine: "scripted", missing: "a scenario file" });
    };
    let subject = &request.subject;
    Ok(Prepared::command(vec![
        utf8(&request.settings.exe)?,
        SUBCOMMAND.to_owned(),
        format!("--scenario={}", utf8(scenario)?),
        format!("--phase={}", subject.phase.as_str()),
        format!("--step={}", subject.step),
        format!("--attempt={}", subject.attempt),
        format!("--worktree={}", utf8(&request.worktree)?),
    ]))
}

/// Lines that are our own events already: of this engine, and of the driver of ACP agents.
pub(crate) fn parse_line(state: &mut ParseState, line: &str) -> Vec<EngineEvent> {
    let Ok(event) = serde_json::from_str::<EngineEvent>(line) else { return state.strange(line) };
    match &event {
        EngineEvent::Session { id } => {
            if !state.is_session(id) {
                return state.strange(line);
            }
            state.session = Some(id.clone());
        }
        EngineEvent::Finished(finished) => {
            state.finished = Some(finished.clone());
            state.told = true;
        }
        EngineEvent::Usage(usage) => drop(state.counted(*usage)),
        EngineEvent::PermissionWanted(wanted) => {
            if !state.asks(wanted) {
                return state.strange(line);
            }
        }
        EngineEvent::PermissionAsked(asked) => state.was_answered(asked),
        EngineEvent::Text { text } => state.last_text.clone_from(text),
        EngineEvent::Reasoning { .. }
        | EngineEvent::ToolStarted { .. }
        | EngineEvent::ToolFinished { .. }
        | EngineEvent::FileChanged { .. }
        | EngineEvent::RateLimit(_)
        | EngineEvent::Notice { .. }
        | EngineEvent::Question { .. } => {}
    }
    vec![event]
}

/// Runs the engine; `args` are those after `scripted-engine`, the answer is the process's exit code.
pub fn main(args: impl IntoIterator<Item = OsString>) -> i32 {
    let arguments = match Arguments::parse(args) {
        Ok(arguments) => arguments,
        Err(problem) => {
            eprintln!("scripted engine: {problem}\n{USAGE}");
            return 2;
        }
    };
    emit(&EngineEvent::Notice { text: format!("scripted engine: plays {}", arguments.scenario.display()) });
    let scenario = match scenario::load(&arguments.scenario) {
        Ok(scenario) => scenario,
        Err(error) => {
            emit(&EngineEvent::Finished(Finished::failed(format!("scripted engine: {error}"))));
            return 1;
        }
    };
    play::play(&scenario, &arguments.subject, &arguments.worktree)
}

struct Arguments {
    scenario: PathBuf,
    subject: Subject,
    worktree: PathBuf,
}

impl Arguments {
    /// Reads `--name value` and `--name=value`, in any order.
    fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Self, String> {
        let (mut scenario, mut phase, mut step, mut attempt, mut worktree) = (None, None, None, None, None);
        let mut args = args.into_iter().map(|arg| arg.into_string().map_err(|_| "an argument is not UTF-8".to_owned()));
        while let Some(arg) = args.next() {
            let arg = arg?;
            let (name, value) = match arg.split_once('=') {
                Some((name, value)) => (name.to_owned(), value.to_owned()),
                None => {
                    let value = args.next().ok_or_else(|| format!("{arg} needs a value"))??;
                    (arg, value)
                }
            };
            let slot = match name.as_str() {
                "--scenario" => &mut scenario,
                "--phase" => &mut phase,
                "--step" => &mut step,
                "--attempt" => &mut attempt,
                "--worktree" => &mut worktree,
                _ => return Err(format!("{name} is not known")),
            };
            *slot = Some(value);
        }
        let need = |value: Option<String>, name: &str| value.ok_or_else(|| format!("{name} is missing"));
        let phase = need(phase, "--phase")?;
        let attempt = need(attempt, "--attempt")?;
        Ok(Self {
            scenario: need(scenario, "--scenario")?.into(),
            subject: Subject {
                phase: Phase::parse(&phase).ok_or_else(|| format!("{phase} is not a phase"))?,
                step: need(step, "--step")?,
                attempt: attempt.parse().map_err(|_| format!("{attempt} is not an attempt's number"))?,
            },
            worktree: need(worktree, "--worktree")?.into(),
        })
    }
}

#[cfg(test)]
mod tests;
