//! What an attempt wrote, by offset, at its end and as it grows.

use std::path::PathBuf;

use control::Cause;
use domain::{
    actor::Actor,
    attempt::{Attempt, Ending},
    ids::{Fence, RunId, TaskId},
    run::{Begin, Finished},
};
use engines::spec::Stream;
use http_body_util::BodyExt;
use hyper::StatusCode;
use serde_json::{Value, json};

use crate::app::TestApp;

/// A run whose first attempt is under way, and the directory of that attempt.
async fn running(app: &TestApp) -> (RunId, Attempt, PathBuf) {
    let run = app.post("/runs", &json!({"job": "free"})).send().await.json();
    let id = RunId(run["id"].as_str().unwrap().to_owned());
    let (task, worker_name) = (TaskId::from("t"), "w1".to_owned());
    let begin = Begin { task, fence: Fence(7), worker: worker_name, nonce: "hidden-nonce".to_owned() };
    let started = app.control.start_run(&id, begin, worker()).await.unwrap();
    let attempt = started.attempt.unwrap();
    let dir = app.dir.path().join("attempts").join(attempt.id.as_str());
    host::fs::create_private_dir(&app.dir.path().join("attempts")).unwrap();
    host::fs::create_private_dir(&dir).unwrap();
    (id, attempt, dir)
}

fn worker() -> Cause {
    Cause::of(Actor::Worker { id: "w1".to_owned() })
}

async fn finish(app: &TestApp, id: &RunId, attempt: &Attempt) {
    let result = Finished { ending: Ending::Succeeded, summary: "done".to_owned(), exit_code: Some(0), usage: None };
    app.control.finish_run(id, attempt, result, &worker()).await.unwrap();
}

#[tokio::test]
async fn output_is_read_by_offset_and_cleaned() {
    let app = TestApp::start().await;
    let (id, attempt, dir) = running(&app).await;
    let log = format!("/attempts/{}/log", attempt.id);
    let empty = app.get(&log).send().await.json();
    host::fs::write_atomic(&dir.join("output"), "one\n\u{1b}[31mtwo\u{1b}]0;x\u{7}é\n".as_bytes()).unwrap();

    let all = app.get(&log).send().await.json();
    let part = app.get(&format!("{log}?offset=4&limit=8")).send().await.json();
    let tail = app.get(&format!("{log}?tail=3")).send().await.json();
    finish(&app, &id, &attempt).await;
    let ended = app.get(&format!("{}?offset=0", log.replace("run-", "RUN-").to_lowercase())).send().await.json();

    assert_eq!((&empty["text"], &empty["ended"]), (&json!(""), &json!(false)));
    assert_eq!((&all["text"], &all["ended"]), (&json!("one\ntwoé\n"), &json!(false)));
    assert_eq!(all["next_offset"], all["total"]);
    assert_eq!((&part["text"], &part["next_offset"]), (&json!("two"), &json!(12)));
    assert_eq!(tail["text"], "é\n");
    assert_eq!(ended["ended"], true);
    app.get(&format!("{log}?stream=result.json")).refused(StatusCode::UNPROCESSABLE_ENTITY, "invalid_query").await;
    let attempts = app.get(&format!("/runs/{id}/attempts")).send().await;
    assert_eq!(attempts.json()["items"][0]["status"], "succeeded");
    assert!(!attempts.text().contains("nonce"));
    assert!(!app.get(&format!("/events?subject=run:{id}")).send().await.text().contains("nonce"));
    let kinds: Vec<Value> = app.get(&format!("/runs/{id}")).send().await.json()["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| json!([event["type"], event["actor"], event["payload"]]))
        .collect();
    assert_eq!(
        kinds[2..],
        [
            json!(["ExecutionStarted", "worker:w1", {"WorkerId": "w1"}]),
            json!(["ExecutionSucceeded", "worker:w1", {"WorkerId": "w1", "Summary": "done"}]),
        ]
    );
}

#[tokio::test]
async fn links_out_of_the_spool_are_not_followed_and_a_lost_log_says_so() {
    let app = TestApp::start().await;
    let (id, attempt, dir) = running(&app).await;
    std::os::unix::fs::symlink("/etc/passwd", dir.join("stdout")).unwrap();
    let log = format!("/attempts/{}/log", attempt.id);

    let refused = app.get(&format!("{log}?stream=stdout")).send().await;
    finish(&app, &id, &attempt).await;

    assert_eq!(refused.status, 500);
    assert!(!refused.text().contains("root"), "{}", refused.text());
    app.get(&format!("{log}?stream=stderr")).refused(StatusCode::NOT_FOUND, "log_unavailable").await;
}

#[tokio::test]
async fn a_followed_log_grows_and_ends() {
    let app = TestApp::start().await;
    let (id, attempt, dir) = running(&app).await;
    let mut body = app.get(&format!("/attempts/{}/log/stream", attempt.id)).open().await.into_body();
    host::fs::write_atomic(&dir.join("output"), b"one\n").unwrap();
    let mut text = String::new();
    while !text.contains("one\\n") {
        let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
        text.push_str(std::str::from_utf8(&frame).unwrap());
    }
    host::fs::write_atomic(&dir.join("output"), b"one\ntwo\n").unwrap();
    finish(&app, &id, &attempt).await;

    while let Some(frame) = body.frame().await {
        text.push_str(std::str::from_utf8(&frame.unwrap().into_data().unwrap()).unwrap());
    }

    assert!(text.contains("two\\n") && text.contains("event: end"), "{text}");
    let resumed = app.get(&format!("/attempts/{}/log/stream", attempt.id)).header("last-event-id", "4").send().await;
    assert!(resumed.text().contains("two\\n") && !resumed.text().contains("one"), "{}", resumed.text());
}

fn append(dir: &std::path::Path, text: &str) {
    use std::io::Write as _;
    host::fs::open_append(&dir.join("output")).unwrap().write_all(text.as_bytes()).unwrap();
}

/// The texts of all events in a stream, and whether it ended properly.
fn told(stream: &str) -> (Vec<String>, bool) {
    let events = stream.split("\n\n").filter(|event| !event.contains("event: end"));
    let data = events.filter_map(|event| event.lines().find_map(|line| line.strip_prefix("data: ")));
    let texts =
        data.map(|data| serde_json::from_str::<Value>(data).unwrap()["data"]["text"].as_str().unwrap().to_owned());
    (texts.collect(), stream.contains("event: end"))
}

#[tokio::test]
async fn an_attempt_is_followed_from_its_beginning_without_a_gap() {
    let app = TestApp::start().await;
    let (id, attempt, dir) = running(&app).await;
    let path = format!("/attempts/{}/events", attempt.id);
    append(&dir, "line 0\nline 1\nli");
    let mut body = app.get(&path).open().await.into_body();
    let mut text = String::new();
    while !text.contains("line 1") {
        let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
        text.push_str(std::str::from_utf8(&frame).unwrap());
    }
    assert!(!text.contains("\"li\""), "half a line is no event");
    append(&dir, "ne 2\n");
    for n in 3..300 {
        append(&dir, &format!("line {n}\n"));
        if n % 50 == 0 {
            tokio::time::sleep(std::time::Duration::from_millis(25)).await;
        }
    }
    append(&dir, "line 300");
    finish(&app, &id, &attempt).await;

    while let Some(frame) = body.frame().await {
        text.push_str(std::str::from_utf8(&frame.unwrap().into_data().unwrap()).unwrap());
    }

    let expected: Vec<String> = (0..=300).map(|n| format!("line {n}")).collect();
    assert_eq!(told(&text), (expected.clone(), true));
    let resumed = app.get(&path).header("last-event-id", "1.250.0").send().await;
    assert_eq!(told(&resumed.text()), (expected[250..].to_vec(), true));
    app.get(&path).header("last-event-id", "else").refused(StatusCode::UNPROCESSABLE_ENTITY, "invalid_cursor").await;
}

#[tokio::test]
async fn an_attempt_is_followed_over_all_runs_of_its_engine() {
    let app = TestApp::start().await;
    let (id, attempt, dir) = running(&app).await;
    let path = format!("/attempts/{}/events", attempt.id);
    append(&dir, "one\n");
    let mut body = app.get(&path).open().await.into_body();
    let mut text = String::new();
    let mut until = async |wanted: &str, text: &mut String| {
        while !text.contains(wanted) {
            let frame = body.frame().await.expect("the stream goes on").unwrap().into_data().unwrap();
            text.push_str(std::str::from_utf8(&frame).unwrap());
        }
    };
    until("\"one\"", &mut text).await;

    // As a worker does it: written down, moved, and only then the next one begins in the same place.
    append(&dir, "half");
    std::fs::write(dir.join("engine.json"), r#"{"resumed": [true]}"#).unwrap();
    engines::runs::set_aside(&dir, &dir.join("before-1"), Stream::Output).unwrap();
    append(&dir, "two\n");
    until("\"two\"", &mut text).await;
    std::fs::write(dir.join("engine.json"), r#"{"resumed": [true, false]}"#).unwrap();
    engines::runs::set_aside(&dir, &dir.join("before-2"), Stream::Output).unwrap();
    append(&dir, "three\n");
    finish(&app, &id, &attempt).await;
    until("event: end", &mut text).await;

    let all = ["one", "half", "two", "three"].map(str::to_owned).to_vec();
    assert_eq!(told(&text), (all.clone(), true));
    let whole = app.get(&path).send().await;
    assert_eq!(told(&whole.text()), (all.clone(), true));
    for (last, n) in [("1.1.0", 1), ("1.2.0", 2), ("2.1.0", 3)] {
        let resumed = app.get(&path).header("last-event-id", last).send().await;
        assert_eq!(told(&resumed.text()), (all[n..].to_vec(), true), "{last}");
    }
}

#[tokio::test]
async fn an_attempt_of_a_run_is_killed_in_the_ledger_wherever_it_runs() {
    let app = TestApp::start().await;
    let (id, attempt, _) = running(&app).await;

    let killed = app.post(&format!("/attempts/{}/actions/kill", attempt.id), &json!({})).send().await.json();

    assert_eq!((&killed["stop"], &killed["ended"]), (&json!("killed"), &json!(false)));
    assert!(killed["worktree"].as_str().unwrap().contains("no worktree"));
    let run = app.control.get::<domain::run::Run>(id.as_str()).await.unwrap().subject;
    assert!(run.cancel_requested_by.is_some());
    finish(&app, &id, &attempt).await;
    let again = app.post(&format!("/attempts/{}/actions/cancel", attempt.id), &json!({}));
    again.refused(StatusCode::CONFLICT, "already_done").await;
}
