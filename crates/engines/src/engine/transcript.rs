//! From the bytes that a tree writes to the events of its engine, and at the end to its last word.

use super::{Engine, EngineEvent, EngineOutcome, Finished, ParseState};
use crate::exit::{Exit, Outcome, TimeLimit};

/// The longest line that is looked at as a whole.
const MAX_LINE: usize = 1 << 20;

/// Reads one engine's output as it comes, in pieces cut anywhere.
#[derive(Debug)]
pub struct Transcript {
    engine: Engine,
    state: ParseState,
    line: Vec<u8>,
    /// Whether the rest of an endless line is being skipped.
    skipping: bool,
}

impl Transcript {
    pub fn new(engine: Engine) -> Self {
        Self { engine, state: ParseState::default(), line: Vec::new(), skipping: false }
    }

    /// Takes the next piece and gives back what happened in it.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<EngineEvent> {
        let mut events = Vec::new();
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            let ends = piece.ends_with(b"\n");
            if !self.skipping {
                self.line.extend_from_slice(&piece[..piece.len() - usize::from(ends)]);
            }
            if self.line.len() > MAX_LINE {
                self.line.clear();
                self.skipping = true;
                let text = format!("a line of more than {MAX_LINE} bytes was left out");
                events.push(EngineEvent::Notice { text });
            }
            if ends {
                let skipped = std::mem::take(&mut self.skipping);
                if !skipped {
                    events.extend(self.take_line());
                }
            }
        }
        events
    }

    /// Takes what follows the last newline, once nothing more will come.
    pub fn flush(&mut self) -> Vec<EngineEvent> {
        if self.line.is_empty() { Vec::new() } else { self.take_line() }
    }

    /// The engine's last word, given how its tree ended. What it claimed counts only when the tree ended well.
    pub fn conclude(&self, exit: &Exit) -> Finished {
        let code = match &exit.outcome {
            Outcome::Exited { code } => *code,
            other => return Finished::failed(describe(other)),
        };
        match (&self.state.finished, self.engine) {
            (Some(finished), _) if code == 0 || finished.outcome == EngineOutcome::Failed => finished.clone(),
            (None, Engine::Shell) if code == 0 => {
                Finished { outcome: EngineOutcome::Completed, message: describe(&exit.outcome), structured: None }
            }
            (None, Engine::Scripted) if code == 0 => Finished::failed("the engine ended without saying how it went"),
            (Some(_) | None, _) => Finished::failed(describe(&exit.outcome)),
        }
    }

    fn take_line(&mut self) -> Vec<EngineEvent> {
        let line = std::mem::take(&mut self.line);
        let text = String::from_utf8_lossy(&line);
        self.engine.parse_line(&mut self.state, text.trim_end_matches('\r'))
    }
}

/// Says in words how a tree ended.
fn describe(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Exited { code } => format!("ended with exit code {code}"),
        Outcome::Signaled { signal } => format!("ended by signal {signal}"),
        Outcome::TimedOut { limit: TimeLimit::Wall } => "ran longer than allowed".to_owned(),
        Outcome::TimedOut { limit: TimeLimit::Idle } => "was silent for longer than allowed".to_owned(),
        Outcome::OutputLimit => "wrote more than allowed".to_owned(),
        Outcome::Stopped { reason } => format!("was stopped: {reason}"),
        Outcome::DeadlinePassed => "was ended because its lease ran out".to_owned(),
        Outcome::ControllerLost => "was ended because its worker was gone".to_owned(),
        Outcome::LaunchFailed(failure) => format!("could not be started: {failure}"),
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&describe(self))
    }
}
