//! The scripted engine as a real process under supervision.

use crate::machine::{Place, binary, start, until};
use engines::engine::{
    Engine, EngineEvent, EngineOutcome, EngineRequest, FileChange, Finished, Phase, Settings, Subject, Transcript,
    Usage,
};
use engines::exit::{Exit, Outcome};
use engines::spec::Stream;
use serde_json::json;
use std::time::Duration;

const SCENARIO: &str = r#"
version = 1
title = "make the test pass"

[[scenes]]
phase = "plan"
actions = [
    { do = "reasoning", text = "one step will do" },
    { do = "usage", input_tokens = 100, output_tokens = 20, cost_micro_usd = 1500 },
    { do = "plan", value = { steps = [{ name = "fix" }] } },
]

[[scenes]]
phase = "work"
step = "01-fix"
attempt = 1
actions = [{ do = "message", text = "first try" }, { do = "fail", message = "could not find it" }]

[[scenes]]
phase = "work"
step = "01-fix"
actions = [
    { do = "session", id = "session-1" },
    { do = "replace", path = "add.sh", find = "$1 - $2", with = "$1 + $2" },
    { do = "write", path = "docs/notes.md", text = "done\n" },
    { do = "append", path = "docs/notes.md", text = "really\n" },
    { do = "delete", path = "old.txt" },
    { do = "tool", name = "sh", input = "./test.sh", output = "ok" },
    { do = "message", text = "fixed \u001b[31mit" },
]

[[scenes]]
step = "stubborn"
actions = [
    { do = "ignore_term" },
    { do = "spawn_child", ms = 1000000 },
    { do = "message", text = "ready" },
    { do = "hang" },
]

[[scenes]]
step = "vanish"
actions = [{ do = "noise", text = "not an event" }, { do = "exit", code = 0 }]

[[scenes]]
step = "outside"
actions = [{ do = "write", path = "link/evil", text = "x" }]
"#;

fn request(place: &Place, phase: Phase, step: &str, attempt: u32) -> EngineRequest {
    let scenario = place.work().with_file_name("scenario.toml");
    std::fs::write(&scenario, SCENARIO).unwrap();
    std::fs::write(place.work().join("add.sh"), "echo $(($1 - $2))\n").unwrap();
    std::fs::write(place.work().join("old.txt"), "old").unwrap();
    let subject = Subject { phase, step: step.into(), attempt };
    EngineRequest {
        env: place.sh("").env,
        settings: Settings { scenario: Some(scenario), exe: binary(), ..Settings::default() },
        ..EngineRequest::new(subject, "make the test pass", &place.work(), &place.attempt())
    }
}

async fn play(request: &EngineRequest) -> (Vec<EngineEvent>, Finished, Exit) {
    let engine = Engine::Scripted;
    let supervised = start(engine.launch(request).unwrap()).await;
    let mut transcript = Transcript::new(engine);
    let mut follower = engines::spool::follow(&request.attempt_dir, engine.stream(), 0);
    let mut events = Vec::new();
    while let Some(chunk) = follower.next().await.unwrap() {
        events.extend(transcript.feed(&chunk.bytes));
    }
    events.extend(transcript.flush());
    let exit = supervised.wait().await.unwrap();
    let finished = transcript.conclude(&exit, "");
    (events, finished, exit)
}

#[tokio::test]
async fn a_plan_is_answered_with_its_usage_and_says_that_it_is_scripted() {
    let place = Place::new();
    let request = request(&place, Phase::Plan, "plan", 1);
    let (events, finished, exit) = play(&request).await;
    let scenario = request.settings.scenario.unwrap();
    let usage =
        Usage { input_tokens: Some(100), output_tokens: Some(20), cost_micro_usd: Some(1500), ..Usage::default() };
    let expected = Finished {
        outcome: EngineOutcome::Completed,
        message: "the scene was played to its end".into(),
        structured: Some(json!({"steps": [{"name": "fix"}]})),
        class: None,
    };
    assert_eq!(
        events,
        [
            EngineEvent::Notice { text: format!("scripted engine: plays {}", scenario.display()) },
            EngineEvent::Reasoning { text: "one step will do".into() },
            EngineEvent::Usage(usage),
            EngineEvent::Finished(expected.clone()),
        ]
    );
    assert_eq!((finished, exit.outcome), (expected, Outcome::Exited { code: 0 }));
}

#[tokio::test]
async fn each_attempt_may_have_its_own_scene() {
    let place = Place::new();
    let (events, finished, exit) = play(&request(&place, Phase::Work, "01-fix", 1)).await;
    assert!(events.contains(&EngineEvent::Text { text: "first try".into() }));
    assert_eq!((finished.outcome, finished.message.as_str()), (EngineOutcome::Failed, "could not find it"));
    assert_eq!(exit.outcome, Outcome::Exited { code: 1 });

    let place = Place::new();
    let (events, finished, _) = play(&request(&place, Phase::Work, "01-fix", 2)).await;
    assert_eq!(finished.outcome, EngineOutcome::Completed, "{finished:?}");
    let read = |name: &str| std::fs::read_to_string(place.work().join(name)).unwrap();
    assert_eq!((read("add.sh"), read("docs/notes.md")), ("echo $(($1 + $2))\n".into(), "done\nreally\n".into()));
    assert!(!place.work().join("old.txt").exists());
    let changed = |path: &str, change| EngineEvent::FileChanged { path: path.into(), change };
    assert_eq!(
        events[1..],
        [
            EngineEvent::Session { id: "session-1".into() },
            changed("add.sh", FileChange::Written),
            changed("docs/notes.md", FileChange::Written),
            changed("docs/notes.md", FileChange::Written),
            changed("old.txt", FileChange::Deleted),
            EngineEvent::ToolStarted { id: "tool-1".into(), name: "sh".into(), input: "./test.sh".into() },
            EngineEvent::ToolFinished { id: "tool-1".into(), ok: true, output: "ok".into() },
            EngineEvent::Text { text: "fixed it".into() },
            EngineEvent::Finished(finished),
        ]
    );
}

#[tokio::test]
async fn a_stubborn_engine_is_killed_with_what_it_started() {
    let place = Place::new();
    let request = request(&place, Phase::Work, "stubborn", 1);
    let supervised = start(Engine::Scripted.launch(&request).unwrap()).await;
    until("it hangs", || place.stream(Stream::Stdout).contains("ready")).await;

    supervised.stop("canceled", Some(Duration::from_millis(200))).await.unwrap();
    let exit = supervised.wait().await.unwrap();

    assert!(exit.killed && exit.all_gone);
    assert_eq!(place.alive(), Vec::<String>::new());
    let finished = Transcript::new(Engine::Scripted).conclude(&exit, "");
    assert_eq!(finished.message, "was stopped: canceled");
}

#[tokio::test]
async fn an_engine_that_ends_without_a_last_word_has_failed() {
    let place = Place::new();
    let (events, finished, _) = play(&request(&place, Phase::Work, "vanish", 1)).await;
    assert_eq!(events[1..], [EngineEvent::Notice { text: "not an event".into() }]);
    assert_eq!(finished.outcome, EngineOutcome::Failed);
}

#[tokio::test]
async fn what_the_scenario_does_not_know_fails() {
    let place = Place::new();
    let (_, finished, _) = play(&request(&place, Phase::Qa, "qa", 3)).await;
    assert_eq!(finished.outcome, EngineOutcome::Failed);
    assert_eq!(finished.message, "the scenario has no scene for phase qa, step qa, attempt 3");
}

#[tokio::test]
async fn an_edit_through_a_link_fails_and_writes_nothing() {
    let place = Place::new();
    std::os::unix::fs::symlink("..", place.work().join("link")).unwrap();
    let (_, finished, _) = play(&request(&place, Phase::Work, "outside", 1)).await;
    assert_eq!(finished.outcome, EngineOutcome::Failed);
    assert!(!place.work().with_file_name("evil").exists());
}

#[tokio::test]
async fn the_shell_engine_is_its_command() {
    let place = Place::new();
    let mut request = request(&place, Phase::Work, "any", 1);
    request.settings.argv = vec!["sh".into(), "-c".into(), "echo hi; exit 2".into()];
    let supervised = start(Engine::Shell.launch(&request).unwrap()).await;
    let exit = supervised.wait().await.unwrap();
    let mut transcript = Transcript::new(Engine::Shell);
    let events = transcript.feed(place.output().as_bytes());
    assert_eq!(events, [EngineEvent::Text { text: "hi".into() }]);
    let finished = transcript.conclude(&exit, "");
    assert_eq!((finished.outcome, finished.message.as_str()), (EngineOutcome::Failed, "ended with exit code 2"));
}
