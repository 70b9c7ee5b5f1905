//! `Idempotency-Key`: at most once, and the same answer again.

use hyper::StatusCode;
use serde_json::json;

use crate::app::TestApp;

#[tokio::test]
async fn a_repeat_is_answered_as_the_first_time_and_changes_nothing() {
    let app = TestApp::start().await;
    let call = || app.post("/runs", &json!({"job": "demo"})).header("idempotency-key", "k1");

    let first = call().send().await;
    let events = app.count_events().await;
    app.clock.advance(std::time::Duration::from_secs(5));
    let second = call().send().await;

    assert_eq!((first.status, second.status), (200, 200), "{}", second.text());
    assert_eq!(first.header("idempotent-replayed"), None);
    assert_eq!(second.header("idempotent-replayed"), Some("true"));
    assert_eq!(first.text(), second.text());
    assert_eq!(app.count_events().await, events);
}

#[tokio::test]
async fn a_key_belongs_to_its_request_and_its_token() {
    let app = TestApp::start().await;
    let other = app.token(&[domain::token::Scope::RunsWrite]).await;
    let call = |job: &str| app.post("/runs", &json!({"job": job})).header("idempotency-key", "k1");
    let first = call("demo").send().await.json();

    call("free").refused(StatusCode::UNPROCESSABLE_ENTITY, "idempotency_mismatch").await;
    let others = call("demo").token(&other).send().await.json();

    assert_ne!(first["id"], others["id"]);
    for key in ["", "a\tb", &"k".repeat(256)] {
        let call = app.post("/runs", &json!({"job": "demo"})).header("idempotency-key", key);
        call.refused(StatusCode::UNPROCESSABLE_ENTITY, "invalid_idempotency_key").await;
    }
    let twice = call("demo").header("idempotency-key", "k2");
    twice.refused(StatusCode::UNPROCESSABLE_ENTITY, "invalid_idempotency_key").await;
}

#[tokio::test]
async fn an_action_that_would_now_be_refused_is_still_replayed() {
    let app = TestApp::start().await;
    let run = app.post("/runs", &json!({"job": "demo"})).send().await.json();
    let path = format!("/gates/{}/actions/approve", run["gate_id"].as_str().unwrap());

    let first = app.act(&path).header("idempotency-key", "yes").send().await;
    let again = app.act(&path).header("idempotency-key", "yes").send().await;

    assert_eq!(first.status, 200, "{}", first.text());
    assert_eq!(first.json()["status"], "approved");
    assert_eq!((again.status, again.text()), (200, first.text()));
    app.act(&path).refused(StatusCode::CONFLICT, "gate_closed").await;
}

#[tokio::test]
async fn of_many_at_once_one_creates_and_the_others_learn_of_it() {
    let app = TestApp::start().await;
    let before = app.count_events().await;
    let calls = (0..20).map(|_| app.post("/runs", &json!({"job": "free"})).header("idempotency-key", "k").send());

    let answers = futures_util::future::join_all(calls).await;

    let created: Vec<_> = answers.iter().filter(|answer| answer.status == 200).map(|answer| answer.json()).collect();
    assert!(!created.is_empty());
    assert!(created.iter().all(|run| run["id"] == created[0]["id"]));
    let others = answers.iter().filter(|answer| answer.status != 200);
    assert!(others.into_iter().all(|answer| answer.json()["code"] == "idempotency_in_flight"));
    // RunCreated and ExecutionDispatched, once.
    assert_eq!(app.count_events().await, before + 2);
}

#[tokio::test]
async fn an_answer_with_a_secret_is_not_kept() {
    let app = TestApp::start().await;
    let call = || app.post("/tokens", &json!({"name": "ci", "scopes": ["read"]})).header("idempotency-key", "t");

    let first = call().send().await.json();
    assert!(first["secret"].as_str().unwrap().starts_with("ph_pat_"));

    call().refused(StatusCode::CONFLICT, "already_done").await;
}

#[tokio::test]
async fn a_command_completes_although_its_caller_has_gone() {
    use tokio::io::AsyncWriteExt;

    let app = TestApp::start().await;
    let before = app.count_events().await;
    let body = json!({"job": "free"}).to_string();
    let head = format!(
        "POST /runs HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n",
        app.host(),
        app.admin,
        body.len()
    );
    // A caller that goes before its request was read asked for nothing; one that goes later gets all of it or nothing.
    for patience_ms in 0..40 {
        let mut stream = tokio::net::TcpStream::connect(app.server.address()).await.unwrap();
        stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(patience_ms)).await;
        drop(stream);
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        let new = app.count_events().await - before;
        assert_eq!(new % 2, 0, "a run comes with both of its events");
        if new > 0 {
            return;
        }
    }
    panic!("no request was carried out");
}
