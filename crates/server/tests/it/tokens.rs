//! Tokens: a secret once, a list without secrets, an end.

use hyper::StatusCode;
use serde_json::{Value, json};

use crate::app::TestApp;

#[tokio::test]
async fn a_token_works_until_it_is_revoked() {
    let app = TestApp::start().await;

    let made =
        app.post("/tokens", &json!({"name": "ci", "scopes": ["read"], "expires_in_days": 1})).send().await.json();
    let secret = made["secret"].as_str().unwrap().to_owned();
    assert_eq!(app.get("/jobs").token(&secret).send().await.status, 200);
    let listed = app.get("/tokens").send().await;
    let path = format!("/tokens/{}/actions/revoke", made["id"].as_str().unwrap());
    let revoked = app.act(&path).send().await.json();

    assert!(!listed.text().contains(&secret));
    assert_eq!(listed.json()["items"].as_array().unwrap().len(), 2);
    assert_eq!((&made["status"], &revoked["status"]), (&json!("active"), &json!("revoked")));
    assert_ne!(revoked["revoked_at"], Value::Null);
    app.get("/jobs").token(&secret).refused(StatusCode::UNAUTHORIZED, "unauthenticated").await;
    assert_eq!(app.act(&path).send().await.status, 200);
}
