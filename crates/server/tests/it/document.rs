//! The description of the API is what is served and what is kept in the repository.

use std::path::Path;

use crate::app::TestApp;

#[tokio::test]
async fn the_kept_description_is_the_one_that_is_served() {
    let app = TestApp::start().await;
    let served = app.get("/openapi.json").without("authorization").send().await.text();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../openapi.json");
    if host::env::var("UPDATE_DOCS").is_some() {
        host::fs::write_atomic_with_mode(&path, served.as_bytes(), 0o644).unwrap();
    }

    let kept = host::fs::read_text(&path, 10 << 20).unwrap_or_default();

    assert!(kept == served, "openapi.json is not what the code says: run this test again with UPDATE_DOCS=1");
}

#[test]
fn every_operation_says_what_it_does_and_how_it_fails() {
    let document = serde_json::to_value(server::routes::openapi()).unwrap();
    assert_eq!(document["openapi"], "3.1.0");
    let mut routes = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let what = format!("{} {path}", method.to_uppercase());
            assert!(operation["summary"].as_str().is_some_and(|summary| !summary.is_empty()), "{what}");
            assert!(operation["tags"][0].is_string(), "{what}");
            let responses = operation["responses"].as_object().unwrap();
            assert!(responses.contains_key("200"), "{what}");
            assert!(responses.contains_key("4XX") || path.starts_with("/health"), "{what}");
            routes.push(what);
        }
    }
    // The routes that others rely on; the snapshot has them all.
    for route in [
        "POST /dev/inbound",
        "GET /runs/{id}",
        "POST /runs",
        "GET /gates",
        "POST /gates/{id}/actions/approve",
        "GET /attempts/{id}/log",
        "GET /events",
        "GET /events/stream",
        "GET /queues",
        "GET /queues/jobs",
        "GET /health",
        "GET /health/live",
        "GET /metrics",
        "POST /projects",
        "GET /projects",
        "GET /projects/{id}",
        "POST /projects/{id}/protocols",
        "GET /projects/{id}/protocols",
        "GET /protocols/{id}",
        "GET /protocols/{id}/spec",
        "GET /protocols/{id}/events",
        "GET /protocols/{id}/steps",
        "POST /protocols/{id}/steps",
        "POST /protocols/{id}/actions/start",
        "POST /protocols/{id}/actions/pause",
        "POST /protocols/{id}/actions/resume",
        "POST /protocols/{id}/actions/cancel",
        "POST /protocols/{id}/actions/run_next_step",
        "POST /protocols/{id}/actions/retry_latest",
        "GET /steps/{id}",
        "POST /steps/{id}/actions/run",
        "POST /steps/{id}/actions/run_qa",
        "POST /steps/{id}/actions/approve",
    ] {
        assert!(routes.iter().any(|known| known == route), "{route} is missing");
    }
}

#[tokio::test]
async fn the_page_fetches_nothing_from_elsewhere() {
    let app = TestApp::start().await;

    for path in ["/docs", "/docs/docs.js", "/docs/docs.css"] {
        let answer = app.get(path).without("authorization").send().await;
        assert_eq!(answer.status, 200, "{path}");
        assert!(!answer.text().contains("://"), "{path}");
        assert!(!answer.text().contains("innerHTML"), "{path}");
    }
    let policy = app.get("/docs").send().await.header("content-security-policy").unwrap().to_owned();
    assert!(policy.contains("script-src 'self'") && policy.contains("require-trusted-types-for 'script'"), "{policy}");
}
