//! Whatever comes in, what goes out is a problem with a code and a hint, and nothing is written.

use serde_json::{Value, json};

use crate::app::TestApp;

#[tokio::test]
async fn bad_bodies_are_problems_and_write_nothing() {
    let app = TestApp::start().await;
    let before = app.count_events().await;
    let spaces = " ".repeat(3);

    for (path, body, status) in [
        ("/runs", "{", 400),
        ("/runs", "", 400),
        ("/runs", "\u{1}", 400),
        ("/runs", "[1,2", 400),
        ("/runs", "{\"job\":\"\\ud800\"}", 400),
        ("/runs", "[]", 422),
        ("/runs", "null", 422),
        ("/runs", "{}", 422),
        ("/runs", "{\"job\":1}", 422),
        ("/runs", "{\"job\":\"demo\",\"job\":\"demo\"}", 422),
        ("/runs", "{\"job\":\"demo\",\"admin\":true}", 422),
        ("/runs", "{\"job\":\"demo\",\"params\":{\"x\":{}}}", 422),
        ("/runs", "{\"job\":\"demo\",\"params\":{\"x\":\"1\"}}", 422),
        ("/runs", "{\"job\":\"--upload-pack=x\"}", 404),
        ("/runs", "{\"job\":\"../..\"}", 404),
        ("/runs", "{\"job\":\"de\\u0000mo\"}", 422),
        ("/runs", "{\"job\":\"demo\",\"reason\":\"\\u202Egnp\"}", 422),
        ("/runs", "{\"job\":\"deploy\",\"params\":{\"env\":\"--prod\"}}", 422),
        ("/runs", "{\"job\":\"deploy\"}", 422),
        ("/tokens", "{\"name\":\"x\",\"scopes\":[]}", 422),
        ("/tokens", "{\"name\":\"x\",\"scopes\":[\"root\"]}", 422),
        ("/tokens", "{\"name\":\"\",\"scopes\":[\"read\"]}", 422),
        ("/tokens", "{\"name\":\"x\",\"scopes\":[\"read\"],\"expires_in_days\":0}", 422),
        ("/tokens", "{\"name\":\"x\",\"scopes\":[\"read\"],\"expires_in_days\":366}", 422),
        ("/tokens", "{\"name\":\"x\",\"scopes\":[\"read\"],\"person\":\"nobody\"}", 404),
        ("/tokens", "{\"name\":\"x\",\"scopes\":[\"read\"],\"secret_hash\":\"x\"}", 422),
        ("/dev/inbound", "{", 400),
        ("/dev/inbound", &spaces, 400),
        ("/dev/inbound", "{\"from\":\"a\",\"conversation\":\"a\",\"body\":\"x\\u0000\"}", 422),
        ("/dev/inbound", "{\"from\":\"a\",\"conversation\":\"a\",\"body\":\"x\",\"channel\":\"sms\"}", 422),
        ("/dev/inbound", "{\"from\":1,\"conversation\":\"a\",\"body\":\"x\"}", 422),
        ("/projects", "{\"name\":\"x\"}", 422),
        ("/projects", "{\"name\":\"\",\"git_url\":\"/tmp/x\"}", 422),
        ("/projects", "{\"name\":\"x\",\"git_url\":\"--upload-pack=x\"}", 422),
        ("/projects", "{\"name\":\"x\",\"git_url\":\"ext::sh -c x\"}", 422),
        ("/projects", "{\"name\":\"x\\u202ey\",\"git_url\":\"/tmp/x\"}", 422),
        ("/projects", "{\"name\":\"x\",\"git_url\":\"/tmp/x\",\"base_branch\":\"--force\"}", 422),
        ("/projects", "{\"name\":\"x\",\"git_url\":\"/tmp/x\",\"base_branch\":\"../..\"}", 422),
        ("/projects", "{\"name\":\"x\",\"git_url\":\"/tmp/x\",\"id\":7}", 422),
        ("/projects", "{\"name\":\"x\",\"git_url\":\"/tmp/x\",\"secrets\":{\"aws\":\"x\"}}", 422),
        ("/projects/999/protocols", "{\"protocol_name\":\"0001-x\"}", 404),
        ("/protocols/999/steps", "{\"step_index\":0,\"step_name\":\"a\",\"step_type\":\"work\"}", 404),
    ] {
        let answer = app.post(path, &Value::Null).body(body).send().await;
        let what = format!("{path} {body}");
        answer.assert_problem(&what);
        assert_eq!(answer.status, status, "{what}: {}", answer.text());
    }

    assert_eq!(app.count_events().await, before);
}

#[tokio::test]
async fn other_types_of_body_are_refused() {
    let app = TestApp::start().await;
    let body = json!({"job": "demo"});

    for kind in
        ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/jsonx"]
    {
        let call = app.post("/runs", &body).without("content-type").header("content-type", kind);
        let answer = call.send().await;
        answer.assert_problem(kind);
        assert_eq!(answer.status, 415, "{kind}");
    }
    assert_eq!(app.post("/runs", &body).without("content-type").send().await.status, 415);
    let charset = app.post("/runs", &body).without("content-type");
    assert_eq!(charset.header("content-type", "Application/JSON; charset=utf-8").send().await.status, 200);
}

#[tokio::test]
async fn unknown_ids_are_not_found_whatever_they_look_like() {
    let app = TestApp::start().await;
    let before = app.count_events().await;
    let ids = [
        "999999",
        "0",
        "-1",
        "9223372036854775808",
        "7Q4K2MA",
        "nothing",
        "--upload-pack=x",
        "..%2F..",
        "%2e%2e",
        "%00",
        "%E2%80%AEx",
        "%FF",
        "a%20b",
        "%27%20or%201=1",
        "run:1",
        "J-7Q4K2MA",
    ];

    for id in ids {
        for path in [
            "/runs/{}",
            "/runs/{}/details",
            "/runs/{}/attempts",
            "/gates/{}",
            "/jobs/{}",
            "/attempts/{}",
            "/attempts/{}/log",
            "/attempts/{}/log/stream",
            "/projects/{}",
            "/projects/{}/protocols",
            "/protocols/{}",
            "/protocols/{}/spec",
            "/protocols/{}/events",
            "/protocols/{}/steps",
            "/steps/{}",
            "/steps/{}/diff",
            "/events?subject=run:{}",
            "/events?subject=protocol:{}",
            "/events?subject=step:{}",
            "/events?subject={}",
            "/events/stream?subject=project:{}",
        ] {
            let path = path.replace("{}", id);
            let answer = app.get(&path).send().await;
            answer.assert_problem(&path);
            assert!([404, 422].contains(&answer.status), "{path}: {}", answer.text());
        }
        for path in [
            "/runs/{}/actions/cancel",
            "/runs/{}/actions/retry",
            "/gates/{}/actions/approve",
            "/gates/{}/actions/deny",
            "/tokens/{}/actions/revoke",
            "/projects/{}/actions/setup",
            "/protocols/{}/actions/start",
            "/protocols/{}/actions/run_next_step",
            "/steps/{}/actions/run",
            "/steps/{}/actions/approve",
        ] {
            let path = path.replace("{}", id);
            let answer = app.act(&path).send().await;
            answer.assert_problem(&path);
            assert_eq!(answer.status, 404, "{path}: {}", answer.text());
        }
    }

    assert_eq!(app.count_events().await, before);
}

#[tokio::test]
async fn bad_queries_are_problems() {
    let app = TestApp::start().await;

    for path in [
        "/runs?limit=x",
        "/runs?status=banana",
        "/runs?after=x",
        "/runs?what=1",
        "/runs?after=1.a%27",
        "/gates?status=banana",
        "/queues/jobs?status=banana",
        "/queues/jobs?after=%27",
        "/events?limit=x",
        "/events?after=nonsense",
        "/events?after=%00",
        "/events?project_id=-1",
        "/events?project_id=x",
        "/events?unknown=1",
        "/events/stream?after=nonsense",
        "/tokens?limit=1e9",
        "/projects?after=x",
        "/protocols?status=banana",
        "/dev/messages?conversation=%E2%80%AE",
    ] {
        let answer = app.get(path).send().await;
        answer.assert_problem(path);
        assert_eq!(answer.status, 422, "{path}: {}", answer.text());
    }
    for path in ["/runs?limit=0", "/runs?limit=-5", "/runs?limit=100000", "/events?limit=0", "/events?limit=9999"] {
        assert_eq!(app.get(path).send().await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn actions_take_no_body_or_an_empty_one_of_whatever_type() {
    let app = TestApp::start().await;
    let mut path = String::new();
    for (place, kind) in [None, Some("text/plain"), Some("application/json")].into_iter().enumerate() {
        let run = app.post("/runs", &json!({"job": "demo"})).send().await.json();
        path = format!("/runs/{}/actions/cancel", run["id"].as_str().unwrap());
        let call = kind.into_iter().fold(app.act(&path), |call, kind| call.header("content-type", kind));
        assert_eq!(call.send().await.status, 200, "{place}");
    }
    let unknown = app.post(&path, &json!({"force": true})).send().await;
    unknown.assert_problem("unknown member");
    assert_eq!(unknown.status, 422);
    let form = app.act(&path).header("content-type", "text/plain").body("x").send().await;
    form.assert_problem("text");
    assert_eq!(form.status, 415);
}
