//! A job from its request to its dispatch, by text and over the API, in the inherited words.

use hyper::StatusCode;
use serde_json::{Value, json};

use crate::app::TestApp;

#[tokio::test]
async fn a_run_is_asked_for_approved_and_shown_in_the_inherited_words() {
    let app = TestApp::start().await;

    let asked = app.say("user1", "run demo").await;

    let run = asked["runId"].as_str().unwrap().to_owned();
    let first = asked["outbound"][0]["body"].as_str().unwrap().lines().next().unwrap().to_owned();
    assert_eq!(first, format!("Job \"demo\" is ready. Reply YES {run} to approve or NO {run} to deny."));
    assert_eq!(
        without_body(&asked),
        json!({
            "intentType": "RunJob", "jobKey": "demo", "runId": run, "dispatchedExecution": false,
            "outbound": [{"correlationId": run, "idempotencyKey": format!("approval-request:{run}"),
                "channelId": "dev", "conversation": "dev:user1"}]
        })
    );

    let approved = app.say("user1", &format!("YES {run}")).await;

    assert_eq!(
        approved,
        json!({
            "intentType": "ApproveRun", "runId": run, "dispatchedExecution": true,
            "outbound": [{"body": format!("Approved. Starting run {run} for job \"demo\"\u{2026}"),
                "correlationId": run, "idempotencyKey": format!("approved-starting:{run}"),
                "channelId": "dev", "conversation": "dev:user1"}]
        })
    );

    let shown = app.get(&format!("/runs/{}", run.to_lowercase())).send().await.json();

    let at = "2025-12-27T12:00:00.0000000+00:00";
    let event = |kind: &str, actor: &str, payload: Value| json!({"runId": run, "type": kind, "at": at, "actor": actor, "payload": payload});
    assert_eq!(
        shown,
        json!({
            "run": {"runId": run, "jobKey": "demo", "status": "Dispatching", "createdAt": at,
                "requestedByAddress": "dev:user1", "channelId": "dev", "conversationId": "dev:user1"},
            "events": [
                event("RunCreated", "user:dev:user1", json!({"JobKey": "demo"})),
                event("ApprovalRequested", "system", json!({"Policy": "DefaultRequireApproval"})),
                event("RunApproved", "user:dev:user1", json!({})),
                event("ExecutionDispatched", "system", json!({})),
            ]
        })
    );
    assert_eq!(app.get(&format!("/runs/J-{run}")).send().await.json(), shown);
}

/// The bodies of messages have further lines that are tested where they are written.
fn without_body(answer: &Value) -> Value {
    let mut answer = answer.clone();
    for message in answer["outbound"].as_array_mut().unwrap() {
        message.as_object_mut().unwrap().remove("body");
    }
    answer
}

#[tokio::test]
async fn blank_fields_are_named_in_the_inherited_words() {
    let app = TestApp::start().await;

    for (body, detail) in [
        (json!({"from": " ", "conversation": "c", "body": "b"}), "Field 'from' is required and cannot be empty."),
        (
            json!({"from": "a", "body": null}),
            "Field 'conversation' is required and cannot be empty. Field 'body' is required and cannot be empty.",
        ),
    ] {
        let answer = app.post("/dev/inbound", &body).send().await;
        answer.assert_problem("blank");
        let said = answer.json();
        assert_eq!(
            (&said["title"], &said["status"], &said["detail"]),
            (&json!("Validation Error"), &json!(400), &json!(detail))
        );
    }
}

#[tokio::test]
async fn an_unknown_run_is_not_found_in_the_inherited_words() {
    let app = TestApp::start().await;

    let said = app.get("/runs/ABCDEF").refused(StatusCode::NOT_FOUND, "unknown_run").await;

    assert_eq!(said["title"], "Run Not Found");
    assert_eq!(said["detail"], "Run with ID 'ABCDEF' was not found.");
}

#[tokio::test]
async fn a_duplicate_message_has_no_effect() {
    let app = TestApp::start().await;
    let message = json!({"from": "ada", "conversation": "ada", "body": "run demo", "providerMessageId": "m1"});
    app.post("/dev/inbound", &message).send().await;
    let events = app.count_events().await;

    let again = app.post("/dev/inbound", &message).send().await.json();

    assert_eq!(again, json!({"intentType": "RunJob", "jobKey": "demo", "dispatchedExecution": false, "outbound": []}));
    assert_eq!(app.count_events().await, events);
}

#[tokio::test]
async fn an_unknown_job_is_answered_with_its_key_and_no_run() {
    let app = TestApp::start().await;

    let answer = app.say("ada", "run nothing").await;

    assert_eq!(answer["outbound"][0]["body"], "Unknown job: nothing");
    assert_eq!((&answer["intentType"], &answer["jobKey"]), (&json!("RunJob"), &json!("nothing")));
    assert_eq!(answer.get("runId"), None);
    assert_eq!(answer["outbound"][0]["correlationId"], "none");
}

#[tokio::test]
async fn messages_are_listed_with_how_far_they_got() {
    let app = TestApp::start().await;
    app.say("ada", "run demo").await;
    app.say("bob", "help").await;

    let of_ada = app.get("/dev/messages?conversation=ada").send().await.json();

    assert_eq!(of_ada["items"].as_array().unwrap().len(), 1);
    assert_eq!(of_ada["items"][0]["status"], "queued");
    assert_eq!(app.get("/dev/messages").send().await.json()["items"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn the_catalog_is_shown() {
    let app = TestApp::start().await;

    let jobs = app.get("/jobs").send().await.json();
    let deploy = app.get("/jobs/DEPLOY").send().await.json();

    let keys: Vec<_> = jobs["items"].as_array().unwrap().iter().map(|job| job["key"].as_str().unwrap()).collect();
    assert_eq!(keys, ["demo", "deploy", "free"]);
    assert_eq!(deploy["params"][0]["values"], json!(["staging", "prod"]));
    assert_eq!(deploy["approval"]["of"], json!(["person:owner"]));
    let meant = app.get("/jobs/deplox").refused(StatusCode::NOT_FOUND, "unknown_job").await;
    assert!(meant["detail"].as_str().unwrap().contains("deploy"), "{meant}");
}

#[tokio::test]
async fn a_gate_is_answered_once_and_by_the_right_person() {
    let app = TestApp::start().await;
    let run = app.post("/runs", &json!({"job": "demo", "reason": "because"})).send().await.json();
    let gate = format!("/gates/{}", run["gate_id"].as_str().unwrap());
    let shown = app.get(&gate).send().await.json();
    assert_eq!((&shown["status"], &shown["reason"], &shown["run_id"]), (&json!("open"), &json!("because"), &run["id"]));
    assert_eq!(shown["digest"], run["digest"]);
    // A gate is also found by its run's reference.
    assert_eq!(app.get(&format!("/gates/{}", run["id"].as_str().unwrap())).send().await.json(), shown);

    let stale = app.post(&format!("{gate}/actions/approve"), &json!({"digest": "0".repeat(64)}));
    stale.refused(StatusCode::CONFLICT, "digest_mismatch").await;
    let approve = app.post(&format!("{gate}/actions/approve"), &json!({"digest": shown["digest"], "note": "fine"}));
    let approved = approve.send().await.json();
    assert_eq!((&approved["status"], &approved["approvals"][0]["note"]), (&json!("approved"), &json!("fine")));
    let late = app.act(&format!("{gate}/actions/deny")).refused(StatusCode::CONFLICT, "gate_closed").await;
    assert!(late["detail"].as_str().unwrap().contains("owner"), "{late}");

    // Whoever asks does not count unless the policy says so, and the refusal names the key.
    let own = app.post("/runs", &json!({"job": "deploy", "params": {"env": "prod"}})).send().await.json();
    let path = format!("/gates/{}/actions/approve", own["gate_id"].as_str().unwrap());
    let refused = app.act(&path).refused(StatusCode::FORBIDDEN, "self_approval").await;
    assert!(refused["detail"].as_str().unwrap().contains("distinct_from_requester"), "{refused}");
}

#[tokio::test]
async fn runs_are_listed_by_page_and_by_status() {
    let app = TestApp::start().await;
    for _ in 0..3 {
        app.clock.advance(std::time::Duration::from_secs(1));
        app.post("/runs", &json!({"job": "demo"})).send().await;
    }
    let last = app.post("/runs", &json!({"job": "free"})).send().await.json();

    let first = app.get("/runs?limit=3").send().await.json();
    let rest = format!("/runs?limit=3&after={}", first["next_cursor"].as_str().unwrap());
    let rest = app.get(&rest).send().await.json();
    let waiting = app.get("/runs?status=awaitingapproval").send().await.json();

    assert_eq!((first["items"].as_array().unwrap().len(), rest["items"].as_array().unwrap().len()), (3, 1));
    assert_eq!(rest["next_cursor"], Value::Null);
    assert_eq!(waiting["items"].as_array().unwrap().len(), 3);
    assert_eq!(last["status"], "Dispatching");
    assert_eq!(app.get(&format!("/runs/{}/details", last["id"].as_str().unwrap())).send().await.json(), last);
}

#[tokio::test]
async fn the_queue_is_shown_under_its_inherited_names() {
    let app = TestApp::start().await;
    let run = app.post("/runs", &json!({"job": "free"})).send().await.json();

    let queues = app.get("/queues").send().await.json();
    let jobs = app.get("/queues/jobs?status=queued").send().await;

    assert_eq!(queues["default"], json!({"queued": 1, "started": 0, "finished": 0, "failed": 0}));
    let listed = jobs.json();
    assert_eq!((&listed[0]["job_type"], &listed[0]["status"]), (&json!("run_job"), &json!("queued")));
    assert_eq!(listed[0]["payload"]["subject"], format!("run:{}", run["id"].as_str().unwrap()));
    assert!(jobs.header("link").unwrap().contains("rel=\"first\""));
}
