//! From the bytes that a tree writes to the events of its engine, and at the end to its last word.
//!
//! Memory is bounded whatever is written: a line that is too long is left out and said so, texts are cut. A transcript
//! may span several runs of one session (resumed, corrected); [`Transcript::next_run`] lies between them, so that
//! counters of the session are not counted twice.

use super::json::is_plain_name;
use super::{Asked, Engine, EngineEvent, EngineOutcome, ErrorClass, Finished, Meter, Permission, Reset, Usage, Wanted};
use crate::exit::{Exit, Outcome, TimeLimit};
use std::collections::VecDeque;
use std::path::Path;

/// The longest line that is looked at as a whole.
const MAX_LINE: usize = 4 << 20;
/// Of how many tool calls the names are remembered.
const MAX_TOOLS: usize = 256;
/// How much is remembered of a tool call's name for itself, and of the tool's name or the path that it changes.
const MAX_ID: usize = 200;
const MAX_TOOL: usize = 4200;
/// How many notices about lines that are no events are made.
const MAX_STRANGE: u32 = 100;

/// Reads one engine's output as it comes, in pieces cut anywhere.
#[derive(Debug)]
pub struct Transcript {
    engine: Engine,
    state: ParseState,
    line: Vec<u8>,
    /// Whether the rest of an endless line is being skipped.
    skipping: bool,
}

/// What has to be remembered from line to line.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ParseState {
    /// The engine's last word, if it has been said. Many engines speak on after it.
    pub(crate) finished: Option<Finished>,
    /// Whether that was told as an event already.
    pub(crate) told: bool,
    pub(crate) session: Option<String>,
    /// Whether a structured answer is wanted.
    pub(crate) wants_answer: bool,
    /// The last thing it said, which is its answer where it has no better place for it.
    pub(crate) last_text: String,
    /// Over all runs of the session.
    pub(crate) meter: Meter,
    /// Over all runs of all sessions.
    pub(crate) told_usage: Meter,
    /// What held it back lately, with its words; forgotten when it goes on.
    pub(crate) trouble: Option<(Option<ErrorClass>, String)>,
    /// When a limit ends, as it was told apart from the failure.
    pub(crate) reset: Option<Reset>,
    /// The names of tool calls whose end has not come.
    pub(crate) tools: VecDeque<(String, String)>,
    pub(crate) n_denied: u32,
    /// What it waits for people to answer.
    pub(crate) wanted: Option<Wanted>,
    /// Whether it said or did anything since it began: an end without that is no success.
    pub(crate) acted: bool,
    n_strange: u32,
}

impl ParseState {
    /// Whether a session's name is the one that was begun. Whoever writes into the stream without knowing it is not
    /// heard, and a name that could not be handed back as an argument is none.
    pub(crate) fn is_session(&mut self, id: &str) -> bool {
        match self.session.as_deref() {
            Some(known) => known == id,
            None => is_plain_name(id),
        }
    }

    /// The event that names the session, the first time.
    pub(crate) fn session_event(&mut self, id: &str) -> Option<EngineEvent> {
        if self.session.is_some() {
            return None;
        }
        self.session = Some(id.to_owned());
        Some(EngineEvent::Session { id: id.to_owned() })
    }

    pub(crate) fn remember_tool(&mut self, id: &str, name: &str) {
        if self.tools.len() >= MAX_TOOLS {
            self.tools.pop_front();
        }
        self.tools.push_back((start_of(id, MAX_ID).to_owned(), start_of(name, MAX_TOOL).to_owned()));
    }

    pub(crate) fn take_tool(&mut self, id: &str) -> Option<String> {
        let id = start_of(id, MAX_ID);
        let place = self.tools.iter().position(|(known, _)| known == id)?;
        self.tools.remove(place).map(|(_, name)| name)
    }

    /// Adds to the last text, which comes in pieces; past its bound an answer is too long to be one.
    pub(crate) fn say_more(&mut self, text: &str) {
        if self.last_text.len() + text.len() <= MAX_LINE {
            self.last_text.push_str(text);
        }
    }

    /// It goes on: what held it back is over.
    pub(crate) fn goes_on(&mut self) {
        self.trouble = None;
        self.acted = true;
    }

    /// The end of an engine that has no better word for it than what it said last.
    pub(crate) fn completed(&self) -> Finished {
        if !self.acted {
            // Some hosts refuse by answering nothing, and their engines call that a success.
            return Finished::of_class(ErrorClass::Refused, "the model answered nothing");
        }
        let structured = self.wants_answer.then(|| super::answer_in(&self.last_text)).flatten();
        Finished { structured, ..Finished::completed(self.last_text.clone()) }
    }

    /// What a total of the session adds to what was told; the first is told even when it is nothing.
    pub(crate) fn metered(&mut self, total: Usage) -> Option<EngineEvent> {
        let first = !self.meter.total().is_known();
        let new = self.meter.advance(total);
        self.told_usage.add(new);
        (new.is_known() && (first || !new.is_nothing())).then_some(EngineEvent::Usage(new))
    }

    /// What was used and told as a difference.
    pub(crate) fn counted(&mut self, usage: Usage) -> Option<EngineEvent> {
        self.meter.add(usage);
        self.told_usage.add(usage);
        usage.is_known().then_some(EngineEvent::Usage(usage))
    }

    /// A question was put to people. One that is put again while another waits is nobody's.
    pub(crate) fn asks(&mut self, wanted: &Wanted) -> bool {
        let free = self.wanted.is_none();
        // What is put to people is what they see on the transcript.
        if free && let EngineEvent::PermissionWanted(wanted) = EngineEvent::PermissionWanted(wanted.clone()).cleaned() {
            self.wanted = Some(wanted);
        }
        free
    }

    /// A question was answered, by whomever.
    pub(crate) fn was_answered(&mut self, asked: &Asked) {
        if self.wanted.as_ref().is_some_and(|wanted| Some(&wanted.question) == asked.question.as_ref()) {
            self.wanted = None;
        }
        if asked.answer == Permission::Denied {
            self.n_denied = self.n_denied.saturating_add(1);
        }
    }

    /// Something that is no event of the engine's; past a bound nothing is said any more.
    pub(crate) fn strange(&mut self, line: &str) -> Vec<EngineEvent> {
        self.n_strange = self.n_strange.saturating_add(1);
        if line.trim().is_empty() || self.n_strange > MAX_STRANGE {
            return Vec::new();
        }
        vec![EngineEvent::notice(host::text::cut(line, 2000))]
    }
}

impl Transcript {
    pub fn new(engine: Engine) -> Self {
        Self { engine, state: ParseState::default(), line: Vec::new(), skipping: false }
    }

    /// The same, for work whose answer has to meet a schema.
    pub fn wanting_answer(mut self, wants_answer: bool) -> Self {
        self.state.wants_answer = wants_answer;
        self
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
                // Given back as well, so that one endless line does not hold its memory for ever.
                self.line = Vec::new();
                self.skipping = true;
                let text = format!("a line of more than {MAX_LINE} bytes was left out");
                events.push(EngineEvent::Notice { text });
            }
            if ends {
                let skipped = std::mem::take(&mut self.skipping);
                if !skipped {
                    self.take_line(&mut events);
                }
            }
        }
        events
    }

    /// Takes what follows the last newline, once nothing more will come, and tells the last word if there is one.
    pub fn flush(&mut self) -> Vec<EngineEvent> {
        let mut events = Vec::new();
        if !self.line.is_empty() {
            self.take_line(&mut events);
        }
        self.skipping = false;
        if let (false, Some(finished)) = (self.state.told, &self.state.finished) {
            self.state.told = true;
            events.push(EngineEvent::Finished(finished.clone()).cleaned());
        }
        events
    }

    /// Begins the next run: of the same session when it was `resumed`, else of a new one.
    pub fn next_run(&mut self, resumed: bool) {
        self.line.clear();
        self.skipping = false;
        let state = std::mem::take(&mut self.state);
        self.state = ParseState {
            session: state.session.filter(|_| resumed),
            wants_answer: state.wants_answer,
            meter: if resumed { state.meter } else { Meter::default() },
            told_usage: state.told_usage,
            n_strange: state.n_strange,
            ..ParseState::default()
        };
    }

    /// The session by which the engine can be resumed.
    pub fn session(&self) -> Option<&str> {
        self.state.session.as_deref()
    }

    /// Takes a session's name that was chosen before the start.
    pub fn expect_session(&mut self, id: &str) {
        self.state.session.get_or_insert_with(|| id.to_owned());
    }

    /// What held the engine back when it last spoke: it waits rather than works.
    pub fn trouble(&self) -> Option<&str> {
        self.state.trouble.as_ref().map(|(_, text)| text.as_str())
    }

    /// What it waits for people to answer, if it does.
    pub fn question(&self) -> Option<&Wanted> {
        self.state.wanted.as_ref()
    }

    /// How much is held of a line whose end has not come.
    pub fn held_bytes(&self) -> usize {
        self.line.capacity()
    }

    /// What was told so far, over all runs.
    pub fn usage(&self) -> Option<Usage> {
        let total = self.state.told_usage.total();
        total.is_known().then_some(total)
    }

    /// What the session that is under way has used by what was told.
    pub fn session_usage(&self) -> Usage {
        self.state.meter.total()
    }

    /// How many tools it was refused.
    pub fn n_denied(&self) -> u32 {
        self.state.n_denied
    }

    /// What was used and never told, read from the engine's own session file. Only once its tree is gone.
    pub fn untold_usage(&mut self, home: &Path) -> Option<Usage> {
        let session = self.state.session.clone()?;
        let total = self.engine.session_total(&session, home)?;
        match self.state.metered(total) {
            Some(EngineEvent::Usage(usage)) => Some(usage),
            _ => None,
        }
    }

    /// The engine's last word, given how its tree ended and the end of what it wrote to stderr. What it claimed counts
    /// only when the tree ended well.
    pub fn conclude(&self, exit: &Exit, stderr: &str) -> Finished {
        let code = match &exit.outcome {
            Outcome::Exited { code } => *code,
            other => return self.ended_by_force(other),
        };
        match (&self.state.finished, self.engine) {
            (Some(finished), _) if code == 0 || finished.outcome == EngineOutcome::Failed => {
                self.classed(finished.clone())
            }
            (None, Engine::Shell | Engine::CodeMachine) if code == 0 => Finished::completed(describe(&exit.outcome)),
            (None, Engine::Shell) => Finished::failed(describe(&exit.outcome)),
            (Some(_), _) => {
                let class = if is_signal(code) { ErrorClass::Killed } else { ErrorClass::ProtocolError };
                Finished::of_class(class, format!("{}, although it had finished", describe(&exit.outcome)))
            }
            (None, _) => self.classed(unsaid(code, stderr, &exit.outcome)),
        }
    }

    fn ended_by_force(&self, outcome: &Outcome) -> Finished {
        let class = match outcome {
            Outcome::TimedOut { .. } | Outcome::OutputLimit => ErrorClass::LimitsReached,
            Outcome::LaunchFailed(_) => ErrorClass::Unavailable,
            Outcome::Exited { .. }
            | Outcome::Signaled { .. }
            | Outcome::Stopped { .. }
            | Outcome::DeadlinePassed
            | Outcome::ControllerLost => ErrorClass::Killed,
        };
        match (&self.state.trouble, outcome) {
            // It was ended because it waited for something that did not come: that is what has to be told.
            (Some((trouble, text)), Outcome::TimedOut { .. } | Outcome::Stopped { .. }) => {
                let text = format!("{}; it last said: {}", describe(outcome), host::text::one_line(text, 300));
                Finished::of_class(trouble.unwrap_or(class), text)
            }
            _ => Finished::of_class(class, describe(outcome)),
        }
    }

    fn classed(&self, finished: Finished) -> Finished {
        Finished { class: finished.class.map(|class| class.with_reset(self.state.reset)), ..finished }
    }

    fn take_line(&mut self, events: &mut Vec<EngineEvent>) {
        let line = std::mem::take(&mut self.line);
        let text = String::from_utf8_lossy(&line);
        for event in self.engine.parse(&mut self.state, text.trim_end_matches('\r')) {
            events.push(event.cleaned());
        }
    }
}

/// The beginning of a text, up to the character that ends within `max` bytes.
fn start_of(text: &str, max: usize) -> &str {
    text.get(..text.floor_char_boundary(max)).unwrap_or(text)
}

/// The end of an engine that did not say how it went: what it wrote to stderr is all there is.
fn unsaid(code: i32, stderr: &str, outcome: &Outcome) -> Finished {
    let said = host::text::one_line(last_lines(stderr), 500);
    let message = if said.is_empty() {
        format!("{} without saying how it went", describe(outcome))
    } else {
        format!("{}: {said}", describe(outcome))
    };
    let class = match code {
        0 => ErrorClass::ProtocolError,
        126 | 127 => ErrorClass::Unavailable,
        code if is_signal(code) => ErrorClass::Killed,
        _ => ErrorClass::of_message(&said).unwrap_or(ErrorClass::ProtocolError),
    };
    Finished::of_class(class, message)
}

/// What is worth telling of a stderr: its lines without a backtrace.
fn last_lines(stderr: &str) -> String {
    let lines: Vec<&str> = stderr
        .lines()
        .map(str::trim)
        .take_while(|line| !line.starts_with("Stack backtrace") && !line.starts_with("stack backtrace"))
        .filter(|line| !line.is_empty())
        .collect();
    let from = lines.len().saturating_sub(4);
    lines.get(from..).unwrap_or_default().join(" ")
}

/// Whether a shell's exit code stands for a signal that ends.
fn is_signal(code: i32) -> bool {
    matches!(code, 129 | 130 | 131 | 134 | 137 | 139 | 141 | 143)
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
