//! What every request passes and every answer carries, whatever route it takes.

use std::time::Duration;

use hyper::StatusCode;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::app::TestApp;

/// Sends bytes as they are and reads what comes back until the other side closes.
async fn raw(app: &TestApp, request: &str) -> String {
    let mut stream = TcpStream::connect(app.server.address()).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut answer)).await.expect("no answer");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn every_answer_carries_the_headers_that_protect_its_reader() {
    let app = TestApp::start().await;

    for (path, status) in [("/health", 200), ("/jobs", 200), ("/nothing", 404), ("/runs/%FF", 404), ("/docs", 200)] {
        let answer = app.get(path).send().await;
        assert_eq!(answer.status, status, "{path}");
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("cross-origin-resource-policy", "same-origin"),
            ("cross-origin-opener-policy", "same-origin"),
            ("permissions-policy", "camera=(), microphone=(), geolocation=(), usb=(), clipboard-read=()"),
            ("cache-control", "no-store"),
        ] {
            assert_eq!(answer.header(name), Some(value), "{path}");
        }
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{path}");
        assert!(answer.header("x-request-id").is_some(), "{path}");
        assert_eq!(answer.header("server"), None, "{path}");
        assert_eq!(answer.header("access-control-allow-origin"), None, "{path}");
    }
}

#[tokio::test]
async fn a_request_id_is_taken_over_when_it_is_sane() {
    let app = TestApp::start().await;

    let taken = app.get("/nothing").header("x-request-id", "abc-1").send().await;
    let drawn = app.get("/nothing").header("x-request-id", "a b\"c").send().await;

    assert_eq!(taken.header("x-request-id"), Some("abc-1"));
    assert_eq!(taken.json()["request_id"], "abc-1");
    assert_eq!(drawn.header("x-request-id").unwrap().len(), 36);
    assert_eq!(drawn.json()["request_id"].as_str(), drawn.header("x-request-id"));
}

#[tokio::test]
async fn foreign_hosts_are_misdirected_before_anything_else() {
    let app = TestApp::start_with(|config| config.allowed_hosts = vec!["ops.example".to_owned()]).await;
    let port = app.server.address().port();
    let call = |host: &str, path: &str| app.get(path).without("host").header("host", host);

    for path in ["/health", "/jobs", "/nothing", "/openapi.json"] {
        for host in ["evil.test", &format!("evil.test:{port}"), "localhost", "localhost:1"] {
            call(host, path).refused(StatusCode::MISDIRECTED_REQUEST, "misdirected").await;
        }
    }
    for host in [format!("localhost:{port}"), format!("127.0.0.1:{port}"), "ops.example".to_owned()] {
        assert_eq!(call(&host, "/health").send().await.status, 200, "{host}");
    }
    let twice = app.get("/health").header("host", &app.host());
    twice.refused(StatusCode::BAD_REQUEST, "bad_host").await;
    let absolute = raw(
        &app,
        &format!("GET http://evil.test/health HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: close\r\n\r\n"),
    )
    .await;
    assert!(absolute.starts_with("HTTP/1.1 421"), "{absolute}");
    let none = raw(&app, "GET /health HTTP/1.0\r\n\r\n").await;
    assert!(none.starts_with("HTTP/1.0 400") || none.starts_with("HTTP/1.1 400"), "{none}");
}

#[tokio::test]
async fn lengths_are_limited() {
    let app = TestApp::start().await;

    app.get(&format!("/jobs?x={}", "a".repeat(9000))).refused(StatusCode::URI_TOO_LONG, "uri_too_long").await;
    let many = (0..70).fold(app.get("/jobs"), |call, n| call.header(&format!("x-{n}"), "1"));
    many.refused(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "headers_too_large").await;
    let long = app.get("/jobs").header("x-long", &"a".repeat(33 * 1024));
    long.refused(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "headers_too_large").await;
    let body = json!({"job": "demo", "reason": "a".repeat(1024 * 1024)});
    app.post("/runs", &body).refused(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large").await;
    let deep = format!("{}1{}", "[".repeat(65), "]".repeat(65));
    let deep = app.post("/runs", &json!({})).body(format!("{{\"job\":{deep}}}"));
    deep.refused(StatusCode::UNPROCESSABLE_ENTITY, "json_too_deep").await;
}

#[tokio::test]
async fn tokens_in_addresses_are_refused() {
    let app = TestApp::start().await;

    for query in ["token=x", "access_token=x", "q=1&API_KEY=x", &format!("x={}", app.admin)] {
        app.get(&format!("/jobs?{query}")).refused(StatusCode::BAD_REQUEST, "token_in_query").await;
    }
}

#[tokio::test]
async fn unknown_routes_and_methods_are_problems() {
    let app = TestApp::start().await;

    app.get("/nothing/at/all").refused(StatusCode::NOT_FOUND, "no_such_route").await;
    let answer = app.get("/runs").method("DELETE").send().await;
    answer.assert_problem("DELETE /runs");
    assert_eq!((answer.status, answer.json()["code"].as_str()), (405, Some("method_not_allowed")));
    assert!(answer.header("allow").unwrap().contains("POST"));
}

#[tokio::test]
async fn slow_headers_and_bodies_are_cut_off() {
    let app = TestApp::start_with(|config| {
        config.limits.header_read = Duration::from_millis(200);
        config.limits.body_read = Duration::from_millis(200);
    })
    .await;

    let headers = raw(&app, "GET /health HTTP/1.1\r\nHost: x").await;
    let host = app.host();
    let request = format!(
        "POST /runs HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
         Content-Length: 100\r\n\r\n{{",
        app.admin
    );
    let body = raw(&app, &request).await;

    assert!(headers.is_empty() || headers.starts_with("HTTP/1.1 408"), "{headers}");
    assert!(body.starts_with("HTTP/1.1 408") && body.contains("body_timeout"), "{body}");
}

#[tokio::test]
async fn connections_are_limited_and_places_come_back() {
    let app = TestApp::start_with(|config| config.limits.max_connections_per_peer = 2).await;
    let first = TcpStream::connect(app.server.address()).await.unwrap();
    let second = TcpStream::connect(app.server.address()).await.unwrap();

    let refused = raw(&app, "").await;

    assert!(refused.starts_with("HTTP/1.1 503"), "{refused}");
    assert!(refused.contains("retry-after: 1") && refused.contains("\"code\":\"overloaded\""), "{refused}");
    drop((first, second));
    let host = app.host();
    let mut answer = String::new();
    for _ in 0..100 {
        answer = raw(&app, &format!("GET /health HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")).await;
        if answer.starts_with("HTTP/1.1 200") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn health_is_open_and_metrics_count_routes_not_paths() {
    let app = TestApp::start().await;

    let health = app.get("/health").without("authorization").send().await;
    assert_eq!((health.status, health.json()["status"].as_str()), (200, Some("ok")));
    for run in ["7Q4K2MA", "7Q4K2MB"] {
        app.get(&format!("/runs/{run}")).send().await;
    }
    app.get("/no/such/route").send().await;
    let metrics = app.get("/metrics").send().await.text();

    assert!(
        metrics.contains("pilothouse_http_requests_total{method=\"GET\",path=\"/runs/{id}\",status=\"404\"} 2"),
        "{metrics}"
    );
    assert!(metrics.contains("path=\"unmatched\",status=\"404\"} 1"), "{metrics}");
    assert!(metrics.contains("pilothouse_queue_tasks{state=\"ready\"} 0"), "{metrics}");
    assert!(!metrics.contains("7Q4K2M") && !metrics.contains("such"), "{metrics}");
}

#[tokio::test]
async fn a_backup_is_written_where_the_data_is() {
    let app = TestApp::start().await;

    let answer = app.act("/db/actions/backup").send().await;

    assert_eq!(answer.status, 200, "{}", answer.text());
    let path = answer.json()["path"].as_str().unwrap().to_owned();
    assert!(path.starts_with(app.dir.path().join("backups").to_str().unwrap()), "{path}");
    assert!(host::fs::read(std::path::Path::new(&path), 1 << 30).unwrap().starts_with(b"SQLite format 3"));
}

#[tokio::test]
async fn stopping_answers_what_is_under_way_and_takes_no_more() {
    let app = TestApp::start().await;
    let address = app.server.address();

    app.server.stop().await;

    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_database_that_is_away_is_said_and_never_a_success_or_a_defect() {
    let app = TestApp::start().await;
    app.control.store().close().await;

    let health = app.get("/health").without("authorization").send().await;
    assert_eq!((health.status, health.json()["status"].as_str()), (503, Some("degraded")));
    let alive = app.get("/health/live").without("authorization").send().await;
    assert_eq!((alive.status, alive.json()["status"].as_str()), (200, Some("alive")), "a restart would mend nothing");
    for call in [app.get("/jobs"), app.get("/events/stream"), app.post("/runs", &json!({"job": "free"}))] {
        let answer = call.send().await;
        assert_eq!((answer.status, answer.json()["code"].as_str()), (503, Some("unavailable")), "{}", answer.text());
        assert!(answer.header("retry-after").is_some());
        assert!(!answer.text().contains("closed"), "{}", answer.text());
    }
}
