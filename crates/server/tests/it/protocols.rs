//! Projects, protocols and steps on their inherited routes.

use domain::token::Scope;
use hyper::StatusCode;
use serde_json::{Value, json};

use crate::app::TestApp;

async fn project(app: &TestApp) -> Value {
    let answer = app.post("/projects", &json!({"name": "demo", "git_url": "/srv/demo"})).send().await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

async fn protocol(app: &TestApp, name: &str) -> Value {
    let answer = app.post("/projects/1/protocols", &json!({"protocol_name": name})).send().await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

#[tokio::test]
async fn a_project_is_created_listed_and_shown() {
    let app = TestApp::start().await;

    let created = project(&app).await;

    assert_eq!(
        created,
        json!({
            "id": 1, "name": "demo", "git_url": "/srv/demo", "base_branch": "main", "ci_provider": null,
            "default_models": {}, "has_api_token": false,
            "engines": {"planning": null, "execution": null, "qa": null}, "checks": [],
            "status": "pending", "reason": null, "head": null,
            "created_at": "2025-12-27 12:00:00", "updated_at": "2025-12-27 12:00:00"
        })
    );
    assert_eq!(app.get("/projects/1").send().await.json(), created);
    let listed = app.get("/projects?limit=1").send().await;
    assert_eq!(listed.json(), json!([created]));
    assert!(listed.header("link").unwrap().contains("after="));
    let queued = app.get("/queues/jobs").send().await.json();
    assert_eq!(queued[0]["job_type"], "project_setup_job");
    let events = app.get("/events?project_id=1").send().await.json();
    assert_eq!(events[0]["event_type"], "setup_enqueued");
    assert_eq!((&events[0]["project_id"], &events[0]["project_name"]), (&json!(1), &json!("demo")));
}

#[tokio::test]
async fn a_repository_on_this_machine_needs_an_admin() {
    let app = TestApp::start().await;
    let steerer = app.token(&[Scope::ProtocolsWrite]).await;

    let local = app.post("/projects", &json!({"name": "demo", "git_url": "/srv/demo"})).token(&steerer);
    local.refused(StatusCode::FORBIDDEN, "missing_scope").await;

    let remote = app.post("/projects", &json!({"name": "demo", "git_url": "https://h/x.git"})).token(&steerer);
    assert_eq!(remote.send().await.status, 200);
}

#[tokio::test]
async fn a_protocol_is_created_once_by_its_name() {
    let app = TestApp::start().await;
    project(&app).await;

    let created = protocol(&app, "0001-first").await;

    assert_eq!((&created["status"], &created["advance"]), (&json!("pending"), &json!("manual")));
    assert_eq!((&created["project_id"], &created["protocol_name"]), (&json!(1), &json!("0001-first")));
    assert_eq!(created["worktree_path"], Value::Null);
    let post = |body: Value| app.post("/projects/1/protocols", &body);
    post(json!({"protocol_name": "0001-first"})).refused(StatusCode::CONFLICT, "name_taken").await;
    let before = app.count_events().await;
    for body in [
        json!({"protocol_name": "first"}),
        json!({"protocol_name": "0002-../../x"}),
        json!({"protocol_name": "0002-x\n"}),
        json!({"protocol_name": "--upload-pack=x"}),
        json!({"protocol_name": "0002-x", "status": "banana"}),
        json!({"protocol_name": "0002-x", "status": "running"}),
        json!({"protocol_name": "0002-x", "base_branch": "--force"}),
        json!({"protocol_name": "0002-x", "protocol_root": "/etc"}),
        json!({"protocol_name": "0002-x", "spec": {"steps": []}}),
        json!({"protocol_name": "0002-x", "spec": {"steps": [{"id": "../x"}]}}),
        json!({"protocol_name": "0002-x", "spec": {"steps": [{"id": "a", "command": "rm"}]}}),
        json!({"protocol_name": "0002-x", "project_id": 2}),
    ] {
        let answer = post(body.clone()).send().await;
        answer.assert_problem(&body.to_string());
        assert_eq!(answer.status, 422, "{body}: {}", answer.text());
    }
    assert_eq!(app.count_events().await, before);
    assert_eq!(app.get("/projects/1/protocols").send().await.json().as_array().unwrap().len(), 1);
    assert_eq!(app.get("/protocols?status=pending").send().await.json().as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn actions_answer_with_their_job_and_refusals_name_the_state() {
    let app = TestApp::start().await;
    project(&app).await;
    protocol(&app, "0001-first").await;
    let act = |name: &str| app.act(&format!("/protocols/1/actions/{name}"));

    let refused = act("resume").refused(StatusCode::CONFLICT, "wrong_state").await;
    assert!(refused["detail"].as_str().unwrap().contains("pending"), "{refused}");
    act("run_next_step").send().await.assert_problem("run_next_step without steps");
    let started = act("start").header("idempotency-key", "s").send().await;
    assert_eq!(started.status, 200, "{}", started.text());
    assert_eq!(started.json()["message"], "Planning enqueued");
    assert_eq!(started.json()["job"]["job_type"], "plan_protocol_job");
    let again = act("start").header("idempotency-key", "s").send().await;
    assert_eq!((again.status, again.text()), (200, started.text()));
    let refused = act("start").refused(StatusCode::CONFLICT, "wrong_state").await;
    assert!(refused["detail"].as_str().unwrap().contains("planning"), "{refused}");
    assert_eq!(act("pause").send().await.json()["status"], "paused");
    assert_eq!(act("cancel").send().await.json()["status"], "cancelled");
    assert_eq!(act("cancel").send().await.status, 200);

    let shown = app.get("/protocols/1").send().await.json();
    assert_eq!(shown["status"], "cancelled");
    let events = app.get("/protocols/1/events").send().await.json();
    let kinds: Vec<&str> =
        events.as_array().unwrap().iter().map(|event| event["event_type"].as_str().unwrap()).collect();
    assert!(kinds.contains(&"planning_enqueued") && kinds.contains(&"cancelled"), "{kinds:?}");
    assert!(events.as_array().unwrap().iter().all(|event| event["protocol_name"] == "0001-first"));
}

#[tokio::test]
async fn steps_are_added_listed_and_shown() {
    let app = TestApp::start().await;
    project(&app).await;
    protocol(&app, "0001-first").await;
    let body = json!({"step_index": 0, "step_name": "00-setup", "step_type": "setup", "engine_id": "scripted"});

    let created = app.post("/protocols/1/steps", &body).send().await;

    assert_eq!(created.status, 200, "{}", created.text());
    let step = created.json();
    assert_eq!(
        (&step["step_type"], &step["status"], &step["retries"]),
        (&json!("setup"), &json!("pending"), &json!(0))
    );
    let path = format!("/steps/{}", step["id"]);
    assert_eq!(app.get(&path).send().await.json(), step);
    assert_eq!(app.get("/protocols/1/steps").send().await.json(), json!([step]));
    app.post("/protocols/1/steps", &body).refused(StatusCode::CONFLICT, "name_taken").await;
    let odd = json!({"step_index": 1, "step_name": "01-x", "step_type": "banana"});
    let refused = app.post("/protocols/1/steps", &odd).send().await;
    refused.assert_problem("step type");
    assert_eq!(refused.status, 422);
    app.act(&format!("{path}/actions/approve")).refused(StatusCode::CONFLICT, "wrong_state").await;
    let missing = app.get(&format!("{path}/diff")).send().await;
    missing.assert_problem("no result");
}

#[tokio::test]
async fn a_projects_own_token_is_asked_of_everybody_but_admins() {
    let app = TestApp::start().await;
    let body = json!({"name": "p", "git_url": "https://h/x.git", "secrets": {"api_token": "0123456789abcdef"}});
    assert_eq!(app.post("/projects", &body).send().await.status, 200);
    protocol(&app, "0001-first").await;
    let token = app.token(&[Scope::Read, Scope::ProtocolsWrite]).await;

    for path in [
        "/projects/1",
        "/projects/1/protocols",
        "/protocols/1",
        "/protocols/1/spec",
        "/protocols/1/steps",
        "/protocols/1/events",
        "/events?project_id=1",
        "/events?subject=protocol:1",
    ] {
        let call = || app.get(path).token(&token);
        call().refused(StatusCode::UNAUTHORIZED, "project_access_denied").await;
        call().header("x-project-token", "wrong").refused(StatusCode::UNAUTHORIZED, "project_access_denied").await;
        assert_eq!(call().header("x-project-token", "0123456789abcdef").send().await.status, 200, "{path}");
        assert_eq!(app.get(path).send().await.status, 200, "{path}");
    }
    let start = app.act("/protocols/1/actions/start").token(&token);
    start.refused(StatusCode::UNAUTHORIZED, "project_access_denied").await;
    // Lists leave out what is not seen, and a project's token alone is none.
    assert_eq!(app.get("/projects").token(&token).send().await.json(), json!([]));
    assert_eq!(app.get("/events").token(&token).send().await.json(), json!([]));
    let alone = app.get("/projects/1").without("authorization").header("x-project-token", "0123456789abcdef");
    alone.refused(StatusCode::UNAUTHORIZED, "unauthenticated").await;
}
