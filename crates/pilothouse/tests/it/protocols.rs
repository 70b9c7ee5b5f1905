//! A protocol on somebody's repository, from the command line.
#![expect(clippy::disallowed_methods, reason = "these tests drive the product from outside, as its users do")]

use std::process::Command;

use crate::house::House;

const SCENARIO: &str = r#"{"version": 1, "title": "test", "scenes": [
    {"step": "00-setup.md", "actions": [{"do": "message", "text": "ready"}]},
    {"step": "01-fix.md", "actions": [{"do": "write", "path": "answer.txt", "text": "42\n"}]}]}"#;

const SPEC: &str = r#"{"steps": [
    {"id": "setup", "name": "00-setup.md"},
    {"id": "fix", "name": "01-fix.md", "checks": [["grep", "42", "answer.txt"]],
     "gate": {"when": "before", "self_approval": true}}]}"#;

pub(crate) fn git(house: &House, args: &[&str]) -> String {
    let ran = Command::new("git")
        .args(["-c", "user.name=Ada", "-c", "user.email=ada@example.org"])
        .args(args)
        .current_dir(house.path().join("repository"))
        .env("HOME", house.path())
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .output()
        .unwrap();
    assert!(ran.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8(ran.stdout).unwrap()
}

/// A repository with an answer that is wrong, beside the scenario and the spec that put it right.
pub(crate) fn lay_repository(house: &House, scenario: &str, spec: &str) {
    let repository = house.path().join("repository");
    std::fs::create_dir(&repository).unwrap();
    std::fs::write(repository.join("answer.txt"), "41\n").unwrap();
    std::fs::write(house.path().join("scenario.json"), scenario).unwrap();
    std::fs::write(house.path().join("spec.json"), spec).unwrap();
    git(house, &["init", "--quiet", "--initial-branch=main"]);
    git(house, &["add", "--all"]);
    git(house, &["commit", "--quiet", "-m", "Begin"]);
}

/// A server and a repository with an answer that is wrong.
fn with_repository() -> House {
    let house = House::open();
    lay_repository(&house, SCENARIO, SPEC);
    house
}

#[test]
fn a_protocol_is_made_started_approved_and_watched_from_the_command_line() {
    let house = with_repository();

    let add = ["project", "add", "repository", "--engine", "scripted", "--scenario", "scenario.json"];
    let project = house.json(&add);
    assert_eq!((&project["name"], &project["id"]), (&"repository".into(), &1.into()));
    let made = house.json(&["protocol", "new", "1", "0001-fix", "--spec", "spec.json", "--start"]);
    assert_eq!(made["schema"], "pilothouse.protocol/v1");
    house.wait_for("the gate", |house| house.json(&["protocol", "get", "1"])["gate_id"].is_string());
    let gate = house.json(&["protocol", "get", "1"])["gate_id"].as_str().unwrap().to_owned();
    assert_eq!(house.json(&["gate", "list"])["items"][0]["protocol_id"], 1);
    assert_eq!(house.json(&["yes", &gate, "go", "on"])["status"], "approved");

    let watched = house.run(&["protocol", "watch", "1"]);

    assert_eq!(watched.code, 0, "{watched:?}");
    for told in ["Protocol created", "Gate opened", "Qa passed", "Protocol completed"] {
        assert!(watched.stdout.contains(told), "{told}: {watched:?}");
    }
    assert_eq!(git(&house, &["show", "0001-fix:answer.txt"]), "42\n");
    assert_eq!(git(&house, &["show", "main:answer.txt"]), "41\n");
    let steps = house.json(&["step", "list", "1"]);
    let fix = steps["items"][1]["id"].as_i64().unwrap().to_string();
    assert_eq!(steps["items"][1]["status"], "completed");
    assert_eq!(house.json(&["step", "get", &fix])["step_name"], "01-fix.md");
    assert_eq!(house.json(&["step", "diff", &fix])["files"], 1);
    let shown = house.run(&["step", "diff", &fix]);
    assert!(shown.stdout.ends_with("@@ -1 +1 @@\n-41\n+42\n"), "{shown:?}");
    assert!(shown.stdout.starts_with("diff --git a/answer.txt b/answer.txt\n"), "{shown:?}");
    let stat = house.run(&["step", "diff", &fix, "--stat"]);
    assert_eq!((stat.code, stat.stdout.as_str()), (0, "M answer.txt +1 -1\n1 files, +1 -1\n"));
    assert!(house.run(&["step", "logs", &fix]).stdout.contains("42"), "what its checks printed");
    assert_eq!(house.json(&["protocol", "list", "1"])["items"][0]["status"], "completed");
    assert_eq!(house.json(&["project", "list"])["items"][0]["status"], "ready");
    assert_eq!(house.run(&["protocol", "cancel", "1"]).code, 5);
}

#[test]
fn a_patch_names_binary_files_ends_where_it_is_cut_off_and_may_be_gone() {
    let house = with_repository();
    let script = "printf 'a\\0b' > a-blob; yes 0123456789abcdef | head -n 70000 > long.txt; \
                  printf '\\033]0;title\\007\\342\\200\\256x\\n' > \"$(printf 'steer\\033[31m.txt')\"";
    let big = serde_json::json!({"id": "big", "name": "00-big.md", "step_type": "work",
        "inputs": {"argv": ["/bin/sh", "-c", script]}});
    std::fs::write(house.path().join("spec.json"), serde_json::json!({ "steps": [big] }).to_string()).unwrap();
    house.json(&["project", "add", "repository", "--engine", "shell"]);
    house.json(&["protocol", "new", "1", "0001-fix", "--spec", "spec.json", "--start"]);
    house.wait_for("a result", |house| house.run(&["step", "diff", "1"]).code == 0);

    let shown = house.run(&["step", "diff", "1"]).stdout;

    assert!(shown.contains("Binary files /dev/null and b/a-blob differ\n"), "{}", &shown[..500]);
    assert_eq!(shown.lines().last(), Some("[truncated: the patch is longer than the 1048576 bytes that are kept]"));
    assert!(shown.len() < 1_050_000 && !shown.contains(['\u{1b}', '\u{7}', '\u{202e}']));
    let told = house.json(&["step", "diff", "1"]);
    assert_eq!((&told["truncated"], &told["files"]), (&true.into(), &3.into()));
    assert_eq!(told["patch"].as_str(), Some(shown.as_str()));
    assert_eq!(house.json(&["step", "diff", "1", "--stat"])["patch"], serde_json::Value::Null);
    let attempt = house.data().join("attempts").join(told["attempt_id"].as_str().unwrap());
    std::fs::remove_file(attempt.join("changes.patch")).unwrap();
    let gone = house.run(&["step", "diff", "1"]);
    assert_eq!(gone.code, 3, "{gone:?}");
    assert!(gone.stderr.contains("--stat"), "{gone:?}");
    assert_eq!(house.run(&["step", "diff", "1", "--stat"]).code, 0);
}

#[test]
fn what_is_wrong_with_a_protocol_is_said_with_its_exit_code() {
    let house = with_repository();
    house.json(&["project", "add", "repository", "--name", "mine"]);
    let code = |args: &[&str]| house.run(args).code;

    assert_eq!(code(&["protocol", "new", "1", "fix"]), 2);
    assert_eq!(code(&["protocol", "new", "2", "0001-fix"]), 3);
    assert_eq!(code(&["protocol", "new", "1", "0001-fix", "--spec", "none.json"]), 3);
    assert_eq!(code(&["protocol", "new", "1", "0001-fix", "--spec", "jobs.toml"]), 2);
    let made = house.json(&["protocol", "new", "1", "0001-fix"])["id"].to_string();
    assert_eq!(code(&["protocol", "new", "1", "0001-fix"]), 5);
    assert_eq!(code(&["protocol", "get", "77"]), 3);
    assert_eq!(code(&["protocol", "resume", &made]), 5);
    assert_eq!(code(&["step", "get", "77"]), 3);
}

#[test]
fn a_protocol_survives_kill_9_between_its_steps() {
    let mut house = with_repository();
    let add = ["project", "add", "repository", "--engine", "scripted", "--scenario", "scenario.json"];
    house.json(&add);
    house.json(&["protocol", "new", "1", "0001-fix", "--spec", "spec.json", "--start"]);
    house.kill();
    house.start();
    house.wait_for("the gate", |house| house.json(&["protocol", "get", "1"])["gate_id"].is_string());
    let gate = house.json(&["protocol", "get", "1"])["gate_id"].as_str().unwrap().to_owned();
    house.json(&["yes", &gate]);
    house.kill();
    house.start();

    let watched = house.run(&["protocol", "watch", "1"]);

    assert_eq!(watched.code, 0, "{watched:?}\n{}", house.log());
    assert_eq!(git(&house, &["show", "0001-fix:answer.txt"]), "42\n");
    house.stop();
    assert_eq!(house.json(&["db", "check", "--fold"])["sound"], true);
}
