//! The timeline: as an array, as pages, as a stream that misses nothing.

use std::time::Duration;

use http_body_util::BodyExt;
use hyper::{StatusCode, body::Incoming};
use serde_json::{Value, json};

use crate::app::TestApp;

/// The reading end of a stream of events.
struct Reader {
    body: Incoming,
    text: String,
}

impl Reader {
    async fn open(call: crate::app::Call) -> Self {
        let response = call.open().await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { body: response.into_body(), text: String::new() }
    }

    /// The next event as (id, data); `None` at the end of the stream.
    async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            while let Some(end) = self.text.find("\n\n") {
                let block: String = self.text.drain(..end + 2).collect();
                let field = |name: &str| {
                    block.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned())
                };
                if let (Some(id), Some(data)) = (field("id:"), field("data:")) {
                    return Some((id, serde_json::from_str(&data).unwrap()));
                }
            }
            let frame = tokio::time::timeout(Duration::from_secs(10), self.body.frame()).await.expect("no event");
            let data = frame?.ok()?.into_data().ok()?;
            self.text.push_str(std::str::from_utf8(&data).unwrap());
        }
    }

    async fn kinds(&mut self, count: usize) -> Vec<String> {
        let mut kinds = Vec::new();
        for _ in 0..count {
            kinds.push(self.next().await.unwrap().1["type"].as_str().unwrap().to_owned());
        }
        kinds
    }
}

#[tokio::test]
async fn a_timeline_is_paged_oldest_first_and_begins_again_behind_a_cursor() {
    let app = TestApp::start().await;
    let run = app.post("/runs", &json!({"job": "demo"})).send().await.json();
    app.post("/runs", &json!({"job": "free"})).send().await;
    let subject = format!("run:{}", run["id"].as_str().unwrap().to_lowercase());

    let first = app.get(&format!("/events?subject={subject}&limit=1")).send().await.json();
    let cursor = first["next_cursor"].as_str().unwrap().to_owned();
    let second = app.get(&format!("/events?subject={subject}&after={cursor}")).send().await.json();
    let cursor = second["next_cursor"].as_str().unwrap().to_owned();
    let none = app.get(&format!("/events?subject={subject}&after={cursor}")).send().await.json();

    assert_eq!(first["items"][0]["type"], "RunCreated");
    assert_eq!(first["items"].as_array().unwrap().len(), 1);
    assert_eq!(second["items"][0]["type"], "ApprovalRequested");
    assert_eq!(second["items"].as_array().unwrap().len(), 1);
    assert_eq!(none["items"], json!([]));
    assert!(none["next_cursor"].is_string());
}

#[tokio::test]
async fn without_a_subject_it_is_the_inherited_array_newest_first() {
    let app = TestApp::start().await;
    app.post("/runs", &json!({"job": "demo"})).send().await;

    let events = app.get("/events").send().await.json();

    assert_eq!(events[0]["event_type"], "ApprovalRequested");
    assert_eq!(events[1]["event_type"], "RunCreated");
    assert_eq!(events[1]["created_at"], "2025-12-27 12:00:00");
    assert_eq!(events[1]["protocol_run_id"], Value::Null);
    assert_eq!(app.get("/events?limit=1").send().await.json().as_array().unwrap().len(), 1);
    // People, tokens and the catalog are on nobody's timeline.
    assert_eq!(events.as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn no_event_tells_a_secret() {
    let app = TestApp::start().await;
    let project =
        json!({"name": "p", "git_url": "https://u:hunter2@h/x", "secrets": {"api_token": "0123456789abcdef"}});
    let created = app.post("/projects", &project).send().await;
    assert_eq!(created.status, 200, "{}", created.text());

    for path in ["/events", "/events?after=", "/events?subject=project:1", "/projects", "/projects/1"] {
        let text = app.get(path).send().await.text();
        for secret in ["hunter2", "0123456789abcdef", "hash", "secret"] {
            assert!(!text.contains(secret), "{path} tells {secret}: {text}");
        }
    }
}

#[tokio::test]
async fn a_stream_shows_what_was_and_what_comes_and_resumes_behind_the_last_event() {
    let app = TestApp::start().await;
    app.post("/runs", &json!({"job": "free"})).send().await;
    let mut reader = Reader::open(app.get("/events/stream")).await;
    assert_eq!(reader.kinds(1).await, ["RunCreated"]);
    let (last, dispatched) = reader.next().await.unwrap();
    assert_eq!(dispatched["type"], "ExecutionDispatched");
    assert_eq!(dispatched["cursor"], last);

    app.post("/runs", &json!({"job": "demo"})).send().await;
    assert_eq!(reader.kinds(2).await, ["RunCreated", "ApprovalRequested"]);
    drop(reader);

    app.post("/runs", &json!({"job": "free"})).send().await;
    let mut resumed = Reader::open(app.get("/events/stream").header("last-event-id", &last)).await;
    let kinds = resumed.kinds(4).await;
    assert_eq!(kinds, ["RunCreated", "ApprovalRequested", "RunCreated", "ExecutionDispatched"]);

    let mut latest = Reader::open(app.get("/events/stream?after=latest")).await;
    app.post("/runs", &json!({"job": "demo"})).send().await;
    assert_eq!(latest.kinds(2).await, ["RunCreated", "ApprovalRequested"]);
    app.get("/events/stream")
        .header("last-event-id", "nonsense")
        .refused(StatusCode::UNPROCESSABLE_ENTITY, "invalid_cursor")
        .await;
}

#[tokio::test]
async fn streams_are_limited_beat_and_end_with_the_server() {
    let app = TestApp::start_with(|config| {
        config.limits.max_streams_per_person = 1;
        config.limits.stream_heartbeat = Duration::from_millis(50);
    })
    .await;
    let mut body = app.get("/events/stream").open().await.into_body();
    let mut beats = 0;
    while beats < 2 {
        let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
        beats += usize::from(frame.starts_with(b": still here"));
    }
    app.get("/events/stream").refused(StatusCode::TOO_MANY_REQUESTS, "too_many_streams").await;

    let stopped = host::task::spawn("stop", app.server.stop());
    let ended = tokio::time::timeout(Duration::from_secs(5), async { while body.frame().await.is_some() {} }).await;

    assert!(ended.is_ok());
    tokio::time::timeout(Duration::from_secs(5), stopped).await.expect("the server did not stop").unwrap();
}

#[tokio::test]
async fn a_stream_ends_when_its_token_does() {
    let app = TestApp::start_with(|config| config.limits.stream_heartbeat = Duration::from_millis(20)).await;
    let token = app.token(&[domain::token::Scope::Read]).await;
    let mut body = app.get("/events/stream").token(&token).open().await.into_body();
    assert!(body.frame().await.is_some());

    let id = token.split('_').nth(2).unwrap();
    assert_eq!(app.act(&format!("/tokens/{id}/actions/revoke")).send().await.status, 200);

    let ended = tokio::time::timeout(Duration::from_secs(5), async { while body.frame().await.is_some() {} }).await;
    assert!(ended.is_ok());
}
