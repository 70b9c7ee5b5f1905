use super::scenario::{Action, ScenarioError, load};
use super::*;
use serde_json::json;

fn file(name: &str, text: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    std::fs::write(&path, text).unwrap();
    (dir, path)
}

fn subject(phase: Phase, step: &str, attempt: u32) -> Subject {
    Subject { phase, step: step.into(), attempt }
}

/// What a line is told as, clean.
fn told(line: &str) -> Vec<EngineEvent> {
    parse_line(&mut ParseState::default(), line).into_iter().map(EngineEvent::cleaned).collect()
}

#[test]
fn a_scenario_is_the_same_in_toml_and_in_json() {
    let toml = "version = 1\n[[scenes]]\nphase = \"work\"\nactions = [{ do = \"delay\", ms = 5 }, { do = \"hang\" }]";
    let json = r#"{"version":1,"scenes":[{"phase":"work","actions":[{"do":"delay","ms":5},{"do":"hang"}]}]}"#;
    let (_a, toml) = file("s.toml", toml);
    let (_b, json) = file("s.json", json);
    assert_eq!(load(&toml).unwrap(), load(&json).unwrap());
}

#[test]
fn the_first_scene_that_matches_is_played() {
    let text = json!({"version": 1, "scenes": [
        {"phase": "work", "step": "a", "attempt": 1, "actions": [{"do": "exit", "code": 1}]},
        {"phase": "work", "step": "a", "actions": [{"do": "exit", "code": 2}]},
        {"phase": "work", "actions": [{"do": "exit", "code": 3}]},
        {"attempt": 9, "actions": [{"do": "exit", "code": 4}]},
    ]});
    let (_dir, path) = file("s.json", &text.to_string());
    let scenario = load(&path).unwrap();
    let code = |subject: &Subject| match scenario.scene_for(subject)?.actions[..] {
        [Action::Exit { code }] => Some(code),
        _ => None,
    };
    assert_eq!(code(&subject(Phase::Work, "a", 1)), Some(1));
    assert_eq!(code(&subject(Phase::Work, "a", 2)), Some(2));
    assert_eq!(code(&subject(Phase::Work, "b", 1)), Some(3));
    assert_eq!(code(&subject(Phase::Qa, "a", 9)), Some(4));
    assert_eq!(code(&subject(Phase::Qa, "a", 1)), None);
}

#[test]
fn a_scenario_with_mistakes_is_refused() {
    let refused = |text: &str| {
        let (_dir, path) = file("s.toml", text);
        load(&path).unwrap_err()
    };
    assert!(matches!(refused("version = 2\nscenes = []"), ScenarioError::Version { version: 2, .. }));
    for text in [
        "version = 1",
        "version = 1\nscenes = []\ncolour = 1",
        "version = 1\nscenes = [{ actions = [{ do = \"dance\" }] }]",
        "version = 1\nscenes = [{ phase = \"lunch\", actions = [] }]",
        "version = 1\nscenes = [{ actions = [{ do = \"delay\", ms = 1, s = 2 }] }]",
        "version = 1\nscenes = [{ actions = [{ do = \"usage\", tokens = 2 }] }]",
    ] {
        assert!(matches!(refused(text), ScenarioError::Malformed { .. }), "{text}");
    }
    for path in ["../x", "/etc/x", ".git/hooks/pre-commit"] {
        let text = format!("version = 1\nscenes = [{{ actions = [{{ do = \"delete\", path = \"{path}\" }}] }}]");
        assert!(matches!(refused(&text), ScenarioError::Path { .. }), "{path}");
    }
}

#[test]
fn arguments_are_read_in_both_forms_and_mistakes_are_named() {
    let parse = |args: &[&str]| Arguments::parse(args.iter().map(OsString::from)).map(|a| (a.subject, a.worktree));
    let both = parse(&["--scenario", "s", "--phase=qa", "--step", "a=b", "--attempt=3", "--worktree=/w"]);
    assert_eq!(both, Ok((subject(Phase::Qa, "a=b", 3), "/w".into())));
    assert_eq!(parse(&["--scenario"]), Err("--scenario needs a value".into()));
    assert_eq!(parse(&["--loud=1"]), Err("--loud is not known".into()));
    assert_eq!(parse(&["--phase=plan", "--attempt=1"]), Err("--scenario is missing".into()));
    assert_eq!(
        parse(&["--scenario=s", "--phase=plan", "--step=s", "--attempt=x", "--worktree=w"]),
        Err("x is not an attempt's number".into())
    );
}

#[test]
fn a_line_that_is_no_event_is_a_notice_without_its_tricks() {
    assert_eq!(told("  "), []);
    assert_eq!(told("\u{1b}[2Jboo"), [EngineEvent::Notice { text: "boo".into() }]);
    assert_eq!(
        told(r#"{"type":"text","text":"\u001b]0;title\u0007x\u202e"}"#),
        [EngineEvent::Text { text: "x".into() }]
    );
}
