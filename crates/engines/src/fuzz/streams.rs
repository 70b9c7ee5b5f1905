//! The streams that engines print.

use super::{N_RUNS, assert_harmless, codemachine, corpus};
use crate::engine::{Engine, EngineEvent, ErrorClass, Finished, Meter, ParseState, Transcript, Usage};
use crate::exit::{Exit, Outcome};
use host::contain::Containment;
use std::time::Duration;
use testkit::fuzz::Fuzz;
use testkit::fuzz::json::Kind;
use testkit::random::Random;

/// All that is learnt of a stream.
#[derive(Debug, PartialEq)]
pub(super) struct Read {
    pub(super) events: Vec<EngineEvent>,
    pub(super) session: Option<String>,
    pub(super) usage: Option<Usage>,
    pub(super) n_denied: u32,
    pub(super) trouble: Option<String>,
    pub(super) last_word: Finished,
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
pub(super) fn read(engine: Engine, wants_answer: bool, stream: &[u8], cuts: &[usize]) -> Read {
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

fn fuzz(name: &'static str, engine: Engine) {
    let corpus = corpus(engine);
    fuzz_drawn(name, engine, |random, input| corpus.draw(random, input));
}

fn fuzz_drawn(name: &'static str, engine: Engine, draw: impl Fn(&mut Random, &mut Vec<u8>)) {
    Fuzz::new(name, N_RUNS).run(|random, input| {
        draw(random, input);
        let wants_answer = random.chance(30);
        let mut cuts = [0; 2].map(|_| usize::try_from(random.below(input.len() as u64 + 1)).unwrap());
        cuts.sort_unstable();

        let whole = read(engine, wants_answer, input, &[]);

        // Reading it twice is most of the work, so that not every input is cut.
        if random.chance(25) {
            assert_eq!(read(engine, wants_answer, input, &cuts), whole, "cut at {cuts:?}");
        }
        assert_makes_sense(engine, &whole);
    });
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

#[test]
fn codex_is_read_whatever_it_prints() {
    fuzz("codex", Engine::Codex);
}

#[test]
fn claude_code_is_read_whatever_it_prints() {
    fuzz("claude", Engine::Claude);
}

#[test]
fn opencode_is_read_whatever_it_prints() {
    fuzz("opencode", Engine::Opencode);
}

#[test]
fn gemini_is_read_whatever_it_prints() {
    fuzz("gemini", Engine::Gemini);
}

#[test]
fn our_own_events_are_read_whoever_prints_them() {
    fuzz("scripted, and the driver of ACP agents", Engine::Scripted);
}

#[test]
fn a_command_is_read_whatever_it_prints() {
    fuzz("shell", Engine::Shell);
}

#[test]
fn codemachine_is_read_whatever_it_prints() {
    let samples = codemachine();
    fuzz_drawn("codemachine", Engine::CodeMachine, |random, input| samples.draw(random, input));
}

/// What is remembered between two lines stays within a bound, however long each value of them is and however often it
/// comes: each value in turn is made long, and different every time.
#[test]
fn what_is_remembered_does_not_grow_with_what_is_said() {
    const LONG: usize = 20_000;
    const OFTEN: usize = 300;
    const BOUND: usize = (4 << 20) + (1 << 18);
    for engine in [Engine::Codex, Engine::Claude, Engine::Opencode, Engine::Gemini, Engine::Scripted] {
        let corpus = corpus(engine);
        let mut done = Vec::new();
        for line in corpus.streams().iter().flatten() {
            for token in line.tokens.iter().filter(|token| token.kind == Kind::Text && token.name != "type") {
                let value = |name: &str| {
                    line.tokens.iter().find(|token| token.name == name).map(|found| &line.text[found.at.clone()])
                };
                let place = (value("type"), value("subtype"), &token.name);
                if done.contains(&place) {
                    continue;
                }
                done.push(place);
                // The beginning is left as it was said, since some of it decides what the line is.
                let own = line.text[token.at.clone()].trim_matches('"');
                let mut state = ParseState::default();
                for n in 0..OFTEN {
                    let value = format!("\"{own}{n:0LONG$}\"");
                    let _ = engine.parse(&mut state, &line.with(token, &value));
                }
                assert!(held_by(&state) < BOUND, "{engine}: {} of {}", token.name, line.text);
            }
        }
    }
}

/// How many bytes of other people's texts a state holds.
fn held_by(state: &ParseState) -> usize {
    let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let finished = state.finished.as_ref().map_or(0, |finished| finished.message.len());
    let trouble = state.trouble.as_ref().map_or(0, |(_, text)| text.len());
    let tools: usize = state.tools.iter().map(|(id, name)| id.len() + name.len()).sum();
    finished + trouble + tools + text(&state.session) + state.last_text.len()
}
