use super::*;
use crate::exit::{Exit, Outcome};
use host::contain::Containment;
use std::path::Path;

fn request(settings: Settings) -> EngineRequest {
    let subject = Subject { phase: Phase::Work, step: "01-fix".into(), attempt: 2 };
    let request = EngineRequest::new(subject, "fix it", Path::new("/work"), Path::new("/attempt"));
    EngineRequest { env: vec![("A".into(), "b".into())], settings, ..request }
}

fn exit(outcome: Outcome) -> Exit {
    Exit {
        outcome,
        status: None,
        containment: Containment::PidNamespace,
        started_at: 0,
        ended_at: 1,
        killed: false,
        all_gone: true,
        sandbox: None,
        limited: None,
        out_of_memory: false,
        outputs: Vec::new(),
    }
}

const COMPLETED: &str = r#"{"type":"finished","outcome":"completed","message":"done","structured":{"a":1}}"#;

#[test]
fn an_unknown_engine_is_unavailable_and_says_which_there_are() {
    let table = EngineTable::default();
    assert_eq!(find("copilot"), None);
    assert_eq!(
        table.require("copilot").unwrap_err().to_string(),
        "engine copilot is not available here (available: claude, codemachine, codex, gemini, opencode, scripted, shell)"
    );
    for engine in Engine::ALL {
        assert_eq!(find(engine.id()), Some(engine));
        assert_eq!(table.require(engine.id()).unwrap().engine, engine);
    }
}

#[test]
fn an_engine_without_what_it_needs_is_misconfigured() {
    let error = |engine: Engine| engine.prepare(&request(Settings::default())).unwrap_err().to_string();
    assert_eq!(error(Engine::Shell), "engine shell needs a command");
    assert_eq!(error(Engine::Scripted), "engine scripted needs a scenario file");
}

#[test]
fn a_request_becomes_an_argument_list() {
    let settings = Settings {
        argv: vec!["make".into(), "test".into()],
        scenario: Some("/s.toml".into()),
        exe: "/p".into(),
        ..Settings::default()
    };
    assert_eq!(Engine::Shell.prepare(&request(settings.clone())).unwrap().argv, ["make", "test"]);
    assert_eq!(
        Engine::Scripted.prepare(&request(settings.clone())).unwrap().argv,
        [
            "/p",
            "scripted-engine",
            "--scenario=/s.toml",
            "--phase=work",
            "--step=01-fix",
            "--attempt=2",
            "--worktree=/work"
        ]
    );
    let launch = Engine::Scripted.launch(&request(settings)).unwrap();
    assert_eq!((launch.merge_stderr, launch.cwd, launch.env), (false, "/work".into(), vec![("A".into(), "b".into())]));
}

#[test]
fn a_transcript_is_the_same_wherever_it_is_cut() {
    let text = format!("{{\"type\":\"text\",\"text\":\"grün\"}}\r\n\n{COMPLETED}\nnoise at the end");
    let whole = {
        let mut transcript = Transcript::new(Engine::Scripted);
        let mut events = transcript.feed(text.as_bytes());
        events.extend(transcript.flush());
        events
    };
    assert_eq!(whole.len(), 3);
    for cut in 0..text.len() {
        let mut transcript = Transcript::new(Engine::Scripted);
        let mut events = transcript.feed(&text.as_bytes()[..cut]);
        events.extend(transcript.feed(&text.as_bytes()[cut..]));
        events.extend(transcript.flush());
        assert_eq!(events, whole, "cut at {cut}");
    }
}

#[test]
fn an_endless_line_is_left_out_and_the_next_one_read() {
    let mut transcript = Transcript::new(Engine::Shell);
    let mut events = Vec::new();
    for _ in 0..100 {
        events.extend(transcript.feed(&vec![b'x'; 100_000]));
    }
    events.extend(transcript.feed(b"\nnext\n"));
    assert_eq!(
        events,
        [
            EngineEvent::Notice { text: "a line of more than 4194304 bytes was left out".into() },
            EngineEvent::Text { text: "next".into() }
        ]
    );
}

#[test]
fn a_claim_of_success_counts_only_when_the_tree_ended_well() {
    let mut transcript = Transcript::new(Engine::Scripted);
    transcript.feed(COMPLETED.as_bytes());
    transcript.feed(b"\n");
    let conclude = |outcome| transcript.conclude(&exit(outcome), "");

    assert_eq!(conclude(Outcome::Exited { code: 0 }).outcome, EngineOutcome::Completed);
    for outcome in [
        Outcome::Exited { code: 1 },
        Outcome::Signaled { signal: 9 },
        Outcome::OutputLimit,
        Outcome::DeadlinePassed,
        Outcome::ControllerLost,
        Outcome::Stopped { reason: "canceled".into() },
    ] {
        let finished = conclude(outcome.clone());
        assert_eq!((finished.outcome, finished.structured), (EngineOutcome::Failed, None), "{outcome:?}");
        assert!(finished.message.starts_with(&outcome.to_string()), "{}", finished.message);
    }
}

#[test]
fn an_exit_code_is_the_last_word_of_the_shell_only() {
    let zero = exit(Outcome::Exited { code: 0 });
    assert_eq!(Transcript::new(Engine::Shell).conclude(&zero, "").outcome, EngineOutcome::Completed);
    assert_eq!(Transcript::new(Engine::Scripted).conclude(&zero, "").outcome, EngineOutcome::Failed);
}
