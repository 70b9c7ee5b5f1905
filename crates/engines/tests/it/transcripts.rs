//! Every recorded stream of a real agent, and what it is read as: event for event in the file beside it, and what
//! matters most in the table here.

use crate::told::{all, exit, folder, recorded, told};
use engines::engine::{Engine, ErrorClass, Transcript, Usage};
use engines::exit::{Outcome, TimeLimit};

const EXITED_0: Outcome = Outcome::Exited { code: 0 };
const EXITED_1: Outcome = Outcome::Exited { code: 1 };
const RATE: ErrorClass = ErrorClass::RateLimit { reset: None };

/// A stream with how its process really ended, and what it has to come to: `None` is success.
struct Case {
    name: &'static str,
    engine: Engine,
    wants_answer: bool,
    outcome: Outcome,
    class: Option<Option<ErrorClass>>,
}

fn case(name: &'static str, engine: Engine, outcome: Outcome, class: Option<ErrorClass>) -> Case {
    Case { name, engine, wants_answer: false, outcome, class: class.map(Some) }
}

fn answering(name: &'static str, engine: Engine) -> Case {
    Case { wants_answer: true, ..case(name, engine, EXITED_0, None) }
}

fn cases() -> Vec<Case> {
    use Engine::{Claude, CodeMachine, Codex, Gemini, Opencode};
    let idle = Outcome::TimedOut { limit: TimeLimit::Idle };
    vec![
        case("codex-text", Codex, EXITED_0, None),
        case("codex-shell", Codex, EXITED_0, None),
        case("codex-apply-patch", Codex, EXITED_0, None),
        case("codex-readonly-denied", Codex, EXITED_0, None),
        case("codex-mcp-approved", Codex, EXITED_0, None),
        case("codex-mcp-denied", Codex, EXITED_0, None),
        case("codex-resume", Codex, EXITED_0, None),
        case("codex-429-recovers", Codex, EXITED_0, None),
        answering("codex-output-schema", Codex),
        case("codex-429", Codex, EXITED_1, Some(RATE)),
        case("codex-usage-limit", Codex, EXITED_1, Some(ErrorClass::UsageLimit { reset: None })),
        case("codex-401", Codex, EXITED_1, Some(ErrorClass::NotLoggedIn)),
        case("codex-400", Codex, EXITED_1, Some(ErrorClass::BadRequest)),
        case("codex-fail-midway", Codex, EXITED_1, Some(ErrorClass::BadRequest)),
        case("codex-500", Codex, EXITED_1, Some(ErrorClass::Server)),
        case("codex-stream-cut", Codex, EXITED_1, Some(ErrorClass::Network)),
        // It never ends by itself: what ends it is a limit, what it failed of is the network.
        case("codex-connection-refused", Codex, idle, Some(ErrorClass::Network)),
        case("claude-text", Claude, EXITED_0, None),
        case("claude-shell-commit", Claude, EXITED_0, None),
        case("claude-mcp", Claude, EXITED_0, None),
        case("claude-resume", Claude, EXITED_0, None),
        case("claude-429-recovers", Claude, EXITED_0, None),
        case("claude-subagent-two-results", Claude, EXITED_0, None),
        case("claude-denied", Claude, EXITED_0, None),
        answering("claude-json-schema", Claude),
        answering("claude-json-schema-not-honoured", Claude),
        case("claude-429", Claude, EXITED_1, Some(RATE)),
        case("claude-401", Claude, EXITED_1, Some(ErrorClass::NotLoggedIn)),
        case("claude-billing", Claude, EXITED_1, Some(ErrorClass::Billing)),
        case("claude-connection-refused", Claude, EXITED_1, Some(ErrorClass::Network)),
        case("claude-max-turns", Claude, EXITED_1, Some(ErrorClass::LimitsReached)),
        case("claude-max-budget", Claude, EXITED_1, Some(ErrorClass::LimitsReached)),
        case("claude-resume-unknown", Claude, EXITED_1, Some(ErrorClass::BadRequest)),
        // Interrupted in a tool it says "0", and that it is an error.
        case("claude-sigint", Claude, EXITED_0, Some(ErrorClass::Killed)),
        case("claude-sigterm", Claude, Outcome::Exited { code: 143 }, Some(ErrorClass::Killed)),
        case("claude-stdio-control", Claude, EXITED_0, Some(ErrorClass::Killed)),
        case("opencode-text", Opencode, EXITED_0, None),
        case("opencode-shell", Opencode, EXITED_0, None),
        case("opencode-resume", Opencode, EXITED_0, None),
        case("opencode-401", Opencode, EXITED_1, Some(ErrorClass::NotLoggedIn)),
        case(
            "opencode-429",
            Opencode,
            EXITED_1,
            Some(ErrorClass::RateLimit { reset: Some(engines::engine::Reset::After(1000)) }),
        ),
        case("gemini-text", Gemini, EXITED_0, None),
        case("gemini-shell", Gemini, EXITED_0, None),
        case("recorded/claude-cut", Claude, EXITED_1, Some(ErrorClass::Network)),
        // A turn that completed without a word is how Codex shows that the model would not.
        case("recorded/codex-refusal", Codex, EXITED_0, Some(ErrorClass::Refused)),
        case("recorded/opencode-refusal", Opencode, EXITED_1, Some(ErrorClass::Refused)),
        case("recorded/opencode-429-recovers", Opencode, EXITED_0, None),
        // Gemini's refusal is a success with words: that nothing changed is what tells.
        case("recorded/gemini-refusal", Gemini, EXITED_0, None),
        case("recorded/gemini-429-recovers", Gemini, EXITED_0, None),
        case("gemini-401", Gemini, Outcome::Exited { code: 145 }, Some(ErrorClass::NotLoggedIn)),
        // What it drove was Codex. All of it is text; that an agent failed is told by its exit code alone. The lines of
        // its program that it prints when it falls are left out of the recordings.
        case("codemachine-text", CodeMachine, EXITED_0, None),
        case("codemachine-shell", CodeMachine, EXITED_0, None),
        case("codemachine-401", CodeMachine, EXITED_1, Some(ErrorClass::ProtocolError)),
        case("codemachine-unknown-agent", CodeMachine, EXITED_1, Some(ErrorClass::ProtocolError)),
    ]
}

/// What speaks in both directions is replayed by the tests of the client that speaks it, or not spoken by us at all.
const TWO_WAY: [&str; 6] =
    ["acp-claude-0.100", "acp-claude-0.49", "acp-codex-2.6", "acp-gemini", "acp-opencode", "codex-app-server"];

#[test]
fn every_recorded_stream_is_in_the_table() {
    let mut known: Vec<String> = cases().iter().map(|case| case.name.to_owned()).collect();
    known.extend(TWO_WAY.map(str::to_owned));
    known.sort();
    assert_eq!(known, all());
}

#[test]
fn every_recorded_stream_comes_to_what_it_was() {
    for case in cases() {
        let mut transcript = Transcript::new(case.engine).wanting_answer(case.wants_answer);
        transcript.feed(recorded(case.name).as_bytes());
        transcript.flush();
        let finished = transcript.conclude(&exit(case.outcome), "");
        match case.class {
            None => assert!(finished.is_completed(), "{}: {finished:?}", case.name),
            Some(class) => {
                assert!(!finished.is_completed(), "{}: {finished:?}", case.name);
                assert_eq!(finished.class, class, "{}: {finished:?}", case.name);
            }
        }
    }
}

/// The files beside the streams say what each is read as; `UPDATE_TRANSCRIPTS=1` writes them, people read the diff.
#[test]
fn every_recorded_stream_is_told_event_for_event() {
    let update = host::env::var("UPDATE_TRANSCRIPTS").is_some();
    for case in cases() {
        let told = told(case.engine, case.wants_answer, &recorded(case.name), case.outcome, "");
        let file = folder().join(format!("{}.told", case.name));
        if update {
            std::fs::write(&file, &told).unwrap();
        }
        let expected = std::fs::read_to_string(&file).unwrap_or_default();
        assert_eq!(told, expected, "{}", case.name);
    }
}

#[test]
fn a_stream_is_read_the_same_wherever_it_is_cut() {
    for case in cases() {
        let stream = recorded(case.name);
        let whole = {
            let mut transcript = Transcript::new(case.engine);
            let mut events = transcript.feed(stream.as_bytes());
            events.extend(transcript.flush());
            events
        };
        for size in [1, 7, 64, 1000] {
            let mut transcript = Transcript::new(case.engine);
            let mut events = Vec::new();
            stream.as_bytes().chunks(size).for_each(|piece| events.extend(transcript.feed(piece)));
            events.extend(transcript.flush());
            assert_eq!(events, whole, "{} in pieces of {size}", case.name);
        }
    }
}

/// Two runs of one session that was resumed: its counters go on, what is counted does not repeat.
#[test]
fn a_resumed_session_is_not_counted_twice() {
    let total = |engine: Engine, first: &str, second: &str| -> Usage {
        let mut transcript = Transcript::new(engine);
        transcript.feed(recorded(first).as_bytes());
        transcript.flush();
        transcript.next_run(true);
        // The recorded runs are of different sessions; here they are one.
        transcript.feed(recorded(second).replace(&session(second), &session(first)).as_bytes());
        transcript.usage().unwrap()
    };

    let codex = total(Engine::Codex, "codex-shell", "codex-resume");
    assert_eq!((codex.input_tokens, codex.output_tokens), (Some(3600), Some(102)));
    let claude = total(Engine::Claude, "claude-text", "claude-resume");
    assert_eq!((claude.input_tokens, claude.output_tokens, claude.cost_micro_usd), (Some(2400), Some(68), Some(3360)));
    let opencode = total(Engine::Opencode, "opencode-text", "opencode-resume");
    assert_eq!(
        (opencode.input_tokens, opencode.output_tokens, opencode.cost_micro_usd),
        (Some(2400), Some(68), Some(736))
    );
}

/// The name of the session that a recorded stream belongs to.
fn session(name: &str) -> String {
    let text = recorded(name);
    let first: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    ["thread_id", "session_id", "sessionID"].iter().find_map(|key| first[key].as_str()).unwrap().to_owned()
}
