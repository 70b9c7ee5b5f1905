//! Who may do what, for every route of the description: a route that is added is tested without being named here.

use domain::{person::PersonKind, token::Scope};
use hyper::StatusCode;
use serde_json::{Value, json};

use crate::app::TestApp;

pub(crate) struct Operation {
    pub(crate) method: String,
    pub(crate) path: String,
    /// `None` needs no token.
    pub(crate) scope: Option<Scope>,
}

pub(crate) fn operations() -> Vec<Operation> {
    let document = serde_json::to_value(server::routes::openapi()).unwrap();
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let scopes: Vec<&str> = operation["security"]
                .as_array()
                .into_iter()
                .flatten()
                .flat_map(|rule| rule["bearer"].as_array().unwrap())
                .map(|scope| scope.as_str().unwrap())
                .collect();
            assert!(scopes.len() <= 1, "{method} {path}");
            let scope = scopes.first().map(|scope| Scope::parse(scope).unwrap());
            operations.push(Operation { method: method.to_uppercase(), path: path.clone(), scope });
        }
    }
    operations
}

/// A path whose parameters name nothing that exists.
pub(crate) fn concrete(path: &str) -> String {
    path.replace("{id}", "999999").replace("{key}", "nothing")
}

#[test]
fn only_health_needs_no_token() {
    let open: Vec<String> = operations()
        .into_iter()
        .filter(|operation| operation.scope.is_none())
        .map(|operation| operation.path)
        .collect();

    assert_eq!(open, ["/health", "/health/live"]);
}

#[tokio::test]
async fn every_route_wants_a_valid_token_with_its_scope() {
    let app = TestApp::start().await;
    let mut tokens = Vec::new();
    for scope in Scope::ALL {
        tokens.push((scope, app.token(&[scope]).await));
    }
    let before = app.count_events().await;

    for operation in operations() {
        let what = format!("{} {}", operation.method, operation.path);
        let call = || app.act(&concrete(&operation.path)).method(&operation.method).body("{");
        let Some(needed) = operation.scope else { continue };
        for (name, call) in [
            ("none", call().without("authorization")),
            ("unknown", call().token("ph_pat_abcdefghijkl_0123456789012345678901234567890123456789012")),
            ("no token", call().token("x")),
            ("basic", call().without("authorization").header("authorization", "Basic abc")),
            ("two", call().header("authorization", "Bearer x")),
        ] {
            let answer = call.send().await;
            assert_eq!(answer.status, 401, "{what} with {name}: {}", answer.text());
            assert_eq!(answer.json()["code"], "unauthenticated", "{what} with {name}");
            assert!(answer.header("www-authenticate").unwrap().starts_with("Bearer"), "{what} with {name}");
        }
        for (scope, token) in &tokens {
            // A stream that is let in would not end.
            let allowed = *scope == needed || *scope == Scope::Admin;
            if allowed && operation.path.ends_with("/stream") {
                continue;
            }
            let answer = call().token(token).send().await;
            if allowed {
                assert!(![401, 403].contains(&answer.status), "{what} with {scope:?}: {}", answer.text());
            } else {
                assert_eq!(answer.status, 403, "{what} with {scope:?}: {}", answer.text());
                assert_eq!(answer.json()["code"], "missing_scope", "{what} with {scope:?}");
                assert!(answer.text().contains(needed.as_str()), "{what} with {scope:?}");
            }
        }
    }

    // Malformed bodies and unknown ids changed nothing; the backup that the admin may make is no event.
    assert_eq!(app.count_events().await, before);
}

#[tokio::test]
async fn unknown_expired_and_revoked_tokens_are_answered_alike() {
    let app = TestApp::start().await;
    let expired = app.token(&[Scope::Read]).await;
    let revoked = app.token(&[Scope::Read]).await;
    // The public part of a token is in its secret.
    let id = revoked.split('_').nth(2).unwrap();
    let revoke = app.act(&format!("/tokens/{id}/actions/revoke")).send().await;
    assert_eq!(revoke.status, 200, "{}", revoke.text());
    assert_eq!(app.get("/jobs").token(&expired).send().await.status, 200);
    assert_eq!(app.get("/jobs").token(&revoked).send().await.status, 401);

    app.clock.advance(std::time::Duration::from_secs(3601));

    let mut bodies = Vec::new();
    for token in [&expired, &revoked, "ph_pat_abcdefghijkl_0123456789012345678901234567890123456789012"] {
        let mut body = app.get("/jobs").token(token).refused(StatusCode::UNAUTHORIZED, "unauthenticated").await;
        body["request_id"] = Value::Null;
        bodies.push(body);
    }
    assert_eq!(bodies[0], bodies[1]);
    assert_eq!(bodies[1], bodies[2]);
}

#[tokio::test]
async fn agents_never_decide_whatever_their_scopes_say() {
    let app = TestApp::start().await;
    let run = app.post("/runs", &json!({"job": "demo"})).send().await.json();
    let agent = app.control.ensure_person("robot", PersonKind::Agent, &[]).await.unwrap();
    // Control refuses to make such a token; were there one, it would still not decide.
    let refused = app
        .post("/tokens", &json!({"name": "x", "scopes": ["gates:decide"], "person": "robot"}))
        .refused(StatusCode::UNPROCESSABLE_ENTITY, "scope_not_allowed")
        .await;
    assert!(refused["detail"].as_str().unwrap().contains("robot"));
    let token = app.token_of(&agent.id, &[Scope::Read, Scope::RunsWrite]).await;

    let path = format!("/gates/{}/actions/approve", run["gate_id"].as_str().unwrap());
    app.act(&path).token(&token).refused(StatusCode::FORBIDDEN, "missing_scope").await;
}

#[tokio::test]
async fn the_development_channel_is_not_there_when_it_is_off() {
    let app = TestApp::start_with(|config| config.dev_channel = false).await;
    let message = json!({"from": "ada", "conversation": "ada", "body": "help"});

    app.post("/dev/inbound", &message).refused(StatusCode::NOT_FOUND, "dev_channel_off").await;
    app.get("/dev/messages").refused(StatusCode::NOT_FOUND, "dev_channel_off").await;
}

#[tokio::test]
async fn a_token_has_its_rate_where_one_is_set() {
    let app = TestApp::start_with(|config| config.limits.requests_per_minute_per_token = Some(3)).await;

    for _ in 0..3 {
        assert_eq!(app.get("/jobs").send().await.status, 200);
    }

    let answer = app.get("/jobs").send().await;
    answer.assert_problem("fourth request");
    assert_eq!((answer.status, answer.header("retry-after")), (429, Some("20")));
}
