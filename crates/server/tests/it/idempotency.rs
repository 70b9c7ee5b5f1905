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

#[tokio::test]
async fn a_message_with_a_key_is_answered_again_as_the_first_time() {
    let app = TestApp::start().await;
    let message = |body: &str| json!({"from": "ada", "conversation": "ada", "body": body});
    let keyed = |key: &str, body: &str| app.post("/dev/inbound", &message(body)).header("idempotency-key", key);
    let asked = keyed("ask", "run demo").send().await;
    let run = asked.json()["runId"].as_str().unwrap().to_owned();

    for (key, body) in [
        ("ask", "run demo".to_owned()),
        ("yes", format!("yes {run}")),
        ("late", format!("no {run}")),
        ("status", format!("status {run}")),
        ("jobs", "jobs".to_owned()),
        ("unknown", "run nothing".to_owned()),
    ] {
        let first = keyed(key, &body).send().await;
        let events = app.count_events().await;
        let again = keyed(key, &body).send().await;
        assert_eq!((first.status, again.status), (200, 200), "{body}: {}", again.text());
        assert_eq!(again.header("idempotent-replayed"), Some("true"), "{body}");
        assert_eq!(first.text(), again.text(), "{body}");
        assert_eq!(app.count_events().await, events, "{body}");
        let outbound = first.json()["outbound"].as_array().unwrap().len();
        assert!(outbound > 0, "{body}: {}", first.text());
        let refused = keyed(key, "help").refused(StatusCode::UNPROCESSABLE_ENTITY, "idempotency_mismatch").await;
        assert!(refused["detail"].is_string());
    }
    assert_eq!(keyed("yes", &format!("yes {run}")).send().await.json()["dispatchedExecution"], true);
    assert_eq!(app.get("/runs").send().await.json()["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_message_with_a_key_says_what_one_without_says() {
    let app = TestApp::start().await;
    let message = |body: &str| json!({"from": "ada", "conversation": "ada", "body": body});
    let plain = |answer: serde_json::Value, run: &str| answer.to_string().replace(run, "RUN");
    let run = |answer: &serde_json::Value| answer["runId"].as_str().unwrap().to_owned();
    let mut told = Vec::new();

    for keyed in [false, true] {
        let say = |place: usize, body: String| {
            let call = app.post("/dev/inbound", &message(&body));
            if keyed { call.header("idempotency-key", &format!("k{place}")) } else { call }
        };
        let asked = say(0, "run demo".to_owned()).send().await.json();
        let run = run(&asked);
        let mut answers = vec![plain(asked, &run)];
        let bodies = ["status RUN", "yes RUN", "yes RUN", "cancel RUN", "retry RUN", "log RUN", "help", "run x", "hm"];
        for (place, body) in (1..).zip(bodies) {
            answers.push(plain(say(place, body.replace("RUN", &run)).send().await.json(), &run));
        }
        told.push(answers.iter().map(|answer| without_keys(answer)).collect::<Vec<_>>());
    }

    assert_eq!(told[0], told[1]);
}

/// An answer without the keys of its replies, which are drawn at random.
fn without_keys(answer: &str) -> serde_json::Value {
    let mut answer: serde_json::Value = serde_json::from_str(answer).unwrap();
    for reply in answer["outbound"].as_array_mut().unwrap() {
        reply["idempotencyKey"] = serde_json::Value::Null;
    }
    answer
}

#[tokio::test]
async fn a_message_has_one_key() {
    let app = TestApp::start().await;
    let message = json!({"from": "ada", "conversation": "ada", "body": "run demo", "providerMessageId": "m1"});
    let before = app.count_events().await;

    let both = app.post("/dev/inbound", &message).header("idempotency-key", "k");
    let refused = both.refused(StatusCode::UNPROCESSABLE_ENTITY, "invalid_idempotency_key").await;

    assert!(refused["detail"].as_str().unwrap().contains("providerMessageId"), "{refused}");
    assert_eq!(app.count_events().await, before);
}

#[tokio::test]
async fn a_backup_with_a_key_is_made_once() {
    let app = TestApp::start().await;
    let call = || app.act("/db/actions/backup").header("idempotency-key", "b");

    let first = call().send().await;
    app.clock.advance(std::time::Duration::from_secs(5));
    let again = call().send().await;
    let other = app.act("/db/actions/backup").send().await;

    assert_eq!((first.status, again.status, other.status), (200, 200, 200), "{}", again.text());
    assert_eq!(first.text(), again.text());
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_ne!(first.json()["path"], other.json()["path"]);
    assert_eq!(host::fs::list_names(&app.dir.path().join("backups")).unwrap().len(), 2);
    let mismatch = app.post("/db/actions/backup", &json!({})).header("idempotency-key", "b");
    mismatch.refused(StatusCode::UNPROCESSABLE_ENTITY, "idempotency_mismatch").await;
}
