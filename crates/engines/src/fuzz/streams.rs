//! The streams that engines print.

use super::{N_RUNS, codemachine, corpus};
use crate::engine::{Engine, ParseState};
use crate::fuzzed;
use testkit::fuzz::Fuzz;
use testkit::fuzz::json::Kind;
use testkit::random::Random;

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

        // Reading it twice is most of the work, so that not every input is cut.
        let cuts = if random.chance(25) { &cuts[..] } else { &[] };

        fuzzed::stream(engine, wants_answer, input, cuts);
    });
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
