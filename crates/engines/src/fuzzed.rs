//! What holds of every reader of what an engine says, whatever it says.
//!
//! The tests ask it with inputs from a seed; the coverage-guided targets in `fuzz/` ask it through the feature `fuzz`,
//! and nothing else has it. Each function panics when something does not hold.

use crate::acp::fuzzed::{Held, Talk};
use crate::engine::{Engine, EngineEvent, ErrorClass, Finished, Meter, Permission, Transcript, Usage};
use crate::exit::{Exit, Outcome};
use host::contain::Containment;
use serde_json::Value;
use std::time::Duration;

/// Reads what an engine printed, as a whole and, unless `cuts` is empty, in pieces that end there.
pub fn stream(engine: Engine, wants_answer: bool, bytes: &[u8], cuts: &[usize]) {
    let whole = read(engine, wants_answer, bytes, &[]);
    if !cuts.is_empty() {
        assert_eq!(read(engine, wants_answer, bytes, cuts), whole, "cut at {cuts:?}");
    }
    assert_makes_sense(engine, &whole);
}

/// Talks with an agent that speaks ACP and says these lines; after each, `pauses` says whether nothing comes for a
/// moment.
pub fn conversation(said: &str, resumes: bool, reads_only: bool, mut pauses: impl FnMut() -> bool) {
    let mut talk = Talk::begin(resumes, reads_only);
    for line in said.lines() {
        talk.hear(line);
        if pauses() {
            talk.pause();
        }
    }
    talk.lose();
    assert_is_held(&talk.held);
}

/// All that is learnt of a stream.
#[derive(Debug, PartialEq)]
pub(crate) struct Read {
    pub(crate) events: Vec<EngineEvent>,
    pub(crate) session: Option<String>,
    pub(crate) usage: Option<Usage>,
    pub(crate) n_denied: u32,
    pub(crate) trouble: Option<String>,
    pub(crate) last_word: Finished,
}

fn exit(code: i32) -> Exit {
    Exit {
        outcome: Outcome::Exited { code },
        status: None,
        containment: Containment::PidNamespace,
        limited: None,
        out_of_memory: false,
        sandbox: None,
        started_at: 0,
        ended_at: 1,
        killed: false,
        all_gone: true,
        outputs: Vec::new(),
    }
}

/// Reads a stream in pieces, `cuts` being where they end.
pub(crate) fn read(engine: Engine, wants_answer: bool, stream: &[u8], cuts: &[usize]) -> Read {
    let mut transcript = Transcript::new(engine).wanting_answer(wants_answer);
    let mut events = Vec::new();
    let mut from = 0;
    for &to in cuts.iter().chain([&stream.len()]) {
        events.extend(transcript.feed(&stream[from..to]));
        from = to;
    }
    events.extend(transcript.flush());
    Read {
        session: transcript.session().map(str::to_owned),
        usage: transcript.usage(),
        n_denied: transcript.n_denied(),
        trouble: transcript.trouble().map(str::to_owned),
        last_word: transcript.conclude(&exit(0), ""),
        events,
    }
}

fn assert_makes_sense(engine: Engine, read: &Read) {
    let mut told = Meter::default();
    let mut sessions = Vec::new();
    for event in &read.events {
        assert_harmless(event);
        match event {
            EngineEvent::Usage(usage) => told.add(*usage),
            EngineEvent::Session { id } => sessions.push(id.as_str()),
            _ => {}
        }
    }
    // What was told piece by piece is what is counted in the end.
    assert_eq!(counts(read.usage.unwrap_or_default()), counts(told.total()));
    // One session, by the name that is told: it becomes an argument of the next start.
    assert!(sessions.iter().all(|id| Some(*id) == read.session.as_deref()), "{sessions:?} {:?}", read.session);
    // However long somebody else says that a limit lasts, the wait can be reckoned.
    if let Some(class) = read.last_word.class {
        let _ = class.next(1_795_239_477, Duration::from_secs(20));
    }
    let said_so = read.events.iter().any(|event| matches!(event, EngineEvent::Finished(last) if last.is_completed()));
    let is_text = matches!(engine, Engine::Shell | Engine::CodeMachine);
    if is_text {
        // Whatever it looks like, it is text, and nothing follows from it.
        assert!(read.events.iter().all(|event| matches!(event, EngineEvent::Text { .. })), "{:?}", read.events);
        assert_eq!((&read.session, read.usage, read.n_denied, &read.trouble), (&None, None, 0, &None));
        assert_eq!(read.last_word, Finished::completed("ended with exit code 0"));
    }
    assert!(!read.last_word.is_completed() || said_so || is_text, "nobody said that it succeeded");
    if !said_so && !is_text && read.events.iter().all(|event| !matches!(event, EngineEvent::Finished(_))) {
        assert_eq!(read.last_word.class, Some(ErrorClass::ProtocolError));
    }
}

/// The counts of a usage. A counter that is known to be zero may be known without having been told.
fn counts(usage: Usage) -> [u64; 6] {
    [
        usage.input_tokens,
        usage.cached_tokens,
        usage.cache_write_tokens,
        usage.output_tokens,
        usage.reasoning_tokens,
        usage.cost_micro_usd,
    ]
    .map(Option::unwrap_or_default)
}

fn assert_is_held(held: &Held) {
    held.told.iter().for_each(assert_harmless);
    // It ends once, with a word, and nothing is told or sent afterwards.
    assert_eq!(held.n_done, 1);
    assert_eq!(held.told.iter().filter(|event| matches!(event, EngineEvent::Finished(_))).count(), 1);
    assert!(matches!(held.told.last(), Some(EngineEvent::Finished(_))));
    // Every question about a permission is answered once, and an answer that allows is told as one.
    let is_answer = |sent: &&Value| sent.get("result").is_some_and(|result| result.get("outcome").is_some());
    let answers: Vec<&Value> = held.sent.iter().filter(is_answer).collect();
    let told: Vec<Permission> = held
        .told
        .iter()
        .filter_map(|event| match event {
            EngineEvent::PermissionAsked(asked) => Some(asked.answer),
            _ => None,
        })
        .collect();
    assert_eq!(answers.len(), told.len());
    for (answer, told) in answers.iter().zip(told) {
        let selected = answer["result"]["outcome"]["outcome"] == "selected";
        assert!(selected || told == Permission::Denied, "{answer}");
    }
}

/// Fails when an event carries what would steer a terminal, or more than its bound.
fn assert_harmless(event: &EngineEvent) {
    let (texts, limit): (Vec<&String>, usize) = match event {
        EngineEvent::Session { id } => (vec![id], 200),
        EngineEvent::Text { text } | EngineEvent::Reasoning { text } | EngineEvent::Question { text } => {
            (vec![text], usize::MAX)
        }
        EngineEvent::ToolStarted { id, name, input } => (vec![id, name, input], 32 * 1024),
        EngineEvent::ToolFinished { id, output, .. } => (vec![id, output], 32 * 1024),
        EngineEvent::FileChanged { path, .. } => (vec![path], 4096),
        EngineEvent::PermissionWanted(wanted) => {
            let paths = wanted.paths.iter().chain([&wanted.question, &wanted.id, &wanted.tool]);
            (paths.chain([&wanted.input, &wanted.asked]).collect(), 32 * 1024)
        }
        EngineEvent::PermissionAsked(asked) => (vec![&asked.id, &asked.tool, &asked.input], 32 * 1024),
        EngineEvent::RateLimit(limit) => (vec![&limit.text], 500),
        EngineEvent::Notice { text } => (vec![text], 32 * 1024),
        EngineEvent::Finished(finished) => (vec![&finished.message], usize::MAX),
        EngineEvent::Usage(_) => return,
    };
    for text in texts {
        let steers = |c: char| (c.is_control() && !matches!(c, '\n' | '\t')) || host::text::is_invisible(c);
        // Most texts are plain ASCII, and a million of them are looked at.
        let plain = text.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\n' | b'\t'));
        assert!(plain || !text.chars().any(steers), "{text:?} of {event:?}");
        assert!(text.len() <= limit || text.chars().count() <= limit, "{} bytes of {event:?}", text.len());
    }
}
