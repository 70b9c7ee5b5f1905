//! What every request passes first and every answer passes last, whatever route it takes or misses.
//!
//! In this order: request id, Host, lengths, tokens in the query; then the router, with panics caught; then problems
//! are written out, headers set, the request logged and counted.

use std::{net::SocketAddr, panic::AssertUnwindSafe, time::Duration};

use api::problem::{self as codes, BODY_TIMEOUT};
use axum::{
    Router,
    body::Body,
    extract::{MatchedPath, Request},
    http::{HeaderMap, HeaderName, HeaderValue, Method, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use futures_util::FutureExt;
use host::trace::{self, Origin, Span};
use tower::ServiceExt;

use crate::{app::App, host_rule::HostRule, problem::Problem};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Names under which people put secrets into addresses.
const TOKEN_NAMES: [&str; 8] =
    ["token", "access_token", "api_token", "auth_token", "api_key", "apikey", "authorization", "bearer"];

/// The other end of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) SocketAddr);

#[derive(Clone, Debug)]
pub(crate) struct Edge {
    pub(crate) app: App,
    pub(crate) rule: HostRule,
    pub(crate) router: Router,
}

impl Edge {
    pub(crate) async fn serve(&self, peer: SocketAddr, request: Request) -> Response {
        let started = host::clock::monotonic();
        let id = request_id(request.headers());
        let method = request.method().clone();
        let path = shown_path(&request);
        let carrier = request.headers().get(trace::CARRIER).and_then(|value| value.to_str().ok());
        let span = Span::following(Origin::Request, "request", carrier);
        let response = match self.check(&request) {
            Ok(()) => span.around(self.route(peer, request)).await,
            Err(problem) => problem.into_response(),
        };
        let response = finish(response, &id);
        self.record(&method, &path, &id, &response, started.elapsed(), &span);
        response
    }

    fn check(&self, request: &Request) -> Result<(), Problem> {
        self.rule.check(request)?;
        let limits = &self.app.limits;
        if request.uri().to_string().len() > limits.max_url_bytes {
            return Err(Problem::new(codes::URI_TOO_LONG, format!("the limit is {} bytes", limits.max_url_bytes)));
        }
        let bytes: usize = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
        if request.headers().len() > limits.max_headers || bytes > limits.max_header_bytes {
            let detail = format!("the limit is {} headers and {} bytes", limits.max_headers, limits.max_header_bytes);
            return Err(Problem::new(codes::HEADERS_TOO_LARGE, detail));
        }
        if request.uri().query().is_some_and(holds_token) {
            return Err(Problem::new(codes::TOKEN_IN_QUERY, "the address holds a token"));
        }
        Ok(())
    }

    async fn route(&self, peer: SocketAddr, mut request: Request) -> Response {
        request.extensions_mut().insert(Peer(peer));
        let answered = AssertUnwindSafe(self.router.clone().oneshot(request)).catch_unwind().await;
        match answered {
            Ok(Ok(response)) => response,
            // The panic itself was reported where it happened.
            Err(_) => Problem::internal(&"a handler panicked").into_response(),
        }
    }

    fn record(&self, method: &Method, path: &str, id: &str, response: &Response, took: Duration, span: &Span) {
        let status = response.status().as_u16();
        let matched = response.extensions().get::<MatchedPath>().map_or("unmatched", MatchedPath::as_str);
        self.app.metrics.count_request(method_label(method), matched, status, took);
        span.rename(|| format!("{} {matched}", method_label(method)));
        span.set("http.request.method", || method_label(method));
        span.set("http.route", || matched.to_owned());
        span.set("http.response.status_code", || i64::from(status));
        span.set("request.id", || id.to_owned());
        if status >= 500 {
            span.fail(|| status.to_string());
        }
        let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        tracing::info!(
            request.id = id,
            trace.id = span.trace_id(),
            http.status = status,
            http.route = matched,
            duration_ms = millis,
            "Answered {method} {path} with {status} in {millis} ms"
        );
    }
}

/// Leaves the route's own path with the answer, for the metrics.
pub(crate) async fn remember_route(request: Request, next: Next) -> Response {
    let matched = request.extensions().get::<MatchedPath>().cloned();
    let mut response = next.run(request).await;
    if let Some(matched) = matched {
        response.extensions_mut().insert(matched);
    }
    response
}

/// A sane id is taken over, so that a caller finds its request in our log.
fn request_id(headers: &HeaderMap) -> String {
    let given = headers.get(&REQUEST_ID).and_then(|value| value.to_str().ok());
    let is_sane = |id: &&str| {
        (1..=128).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:".contains(&b))
    };
    match given.filter(is_sane) {
        Some(id) => id.to_owned(),
        None => host::random::uuid_v4().to_string(),
    }
}

/// The path for the log: never the query.
fn shown_path(request: &Request) -> String {
    crate::problem::typed(request.uri().path())
}

fn holds_token(query: &str) -> bool {
    query.split('&').any(|pair| {
        let name = pair.split('=').next().unwrap_or_default().to_ascii_lowercase();
        // A secret of ours is one under whatever name.
        TOKEN_NAMES.contains(&name.as_str()) || pair.contains("ph_pat_")
    })
}

fn method_label(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}

/// Writes out a problem, and sets the headers that every answer has.
fn finish(mut response: Response, id: &str) -> Response {
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        let matched = response.extensions_mut().remove::<MatchedPath>();
        let allow = response.headers_mut().remove(header::ALLOW);
        let closes = problem.code() == BODY_TIMEOUT.code;
        response = problem.write(id);
        if let Some(matched) = matched {
            response.extensions_mut().insert(matched);
        }
        if let Some(allow) = allow {
            response.headers_mut().insert(header::ALLOW, allow);
        }
        if closes {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
    }
    let is_html =
        response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/html"));
    let headers = response.headers_mut();
    for (name, value) in SECURITY_HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let policy = if is_html { HTML_POLICY } else { DATA_POLICY };
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    if let Ok(id) = HeaderValue::from_str(id) {
        headers.insert(REQUEST_ID, id);
    }
    response
}

pub(crate) const SECURITY_HEADERS: [(HeaderName, &str); 6] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (
        HeaderName::from_static("permissions-policy"),
        "camera=(), microphone=(), geolocation=(), usb=(), clipboard-read=()",
    ),
    (header::CACHE_CONTROL, "no-store"),
];
const HTML_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; \
    connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'; \
    require-trusted-types-for 'script'";
const DATA_POLICY: &str = "default-src 'none'; frame-ancestors 'none'; sandbox";

/// The whole answer to a connection for which there is no place, without reading what it asks.
pub(crate) fn no_place() -> Vec<u8> {
    let id = request_id(&HeaderMap::new());
    let problem = Problem::new(codes::OVERLOADED, "too many connections are open").retry_after(1);
    let body = problem.render(&id);
    let response = finish(problem.into_response(), &id);
    let mut bytes = b"HTTP/1.1 503 Service Unavailable\r\n".to_vec();
    for (name, value) in response.headers() {
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(format!("content-length: {}\r\nconnection: close\r\n\r\n", body.len()).as_bytes());
    bytes.extend_from_slice(&body);
    bytes
}

/// Answers what no route takes.
pub(crate) async fn no_such_route() -> Problem {
    Problem::new(codes::NO_SUCH_ROUTE, "there is nothing under this path")
}

/// Answers a method that the route does not have.
pub(crate) async fn no_such_method() -> Problem {
    Problem::new(codes::METHOD_NOT_ALLOWED, "the route does not have this method")
}

/// Ends a handler that takes too long. What it began may still complete.
pub(crate) async fn limit_time(
    axum::extract::State(app): axum::extract::State<App>,
    request: axum::http::Request<Body>,
    next: Next,
) -> Response {
    // Reading the body has a limit of its own.
    let limit = app.limits.handler.saturating_add(app.limits.body_read);
    match tokio::time::timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::new(codes::HANDLER_TIMEOUT, "the answer took too long").retry_after(1).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sane_request_ids_are_kept_and_others_are_drawn() {
        let id = |value: &[u8]| {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, HeaderValue::from_bytes(value).unwrap());
            request_id(&headers)
        };

        assert_eq!(id(b"abc-1.2:3_4"), "abc-1.2:3_4");
        for strange in [&b""[..], b"a b", b"a\xffb", &[b'a'; 129], b"a\"b"] {
            assert_eq!(id(strange).len(), 36);
        }
        assert_ne!(request_id(&HeaderMap::new()), request_id(&HeaderMap::new()));
    }

    #[tokio::test]
    async fn a_panic_is_answered_without_its_words() {
        async fn panicking() -> &'static str {
            panic!("secret words")
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pilothouse.db");
        let store = store::Store::open(&store::StoreConfig::Sqlite { path }).await.unwrap();
        let control = control::Control::new(store, control::Clock::default());
        let config = crate::ServerConfig::new("127.0.0.1:1".parse().unwrap(), dir.path().to_owned());
        let edge = Edge {
            app: App::new(control, &config, tokio_util::sync::CancellationToken::new()),
            rule: HostRule::new("127.0.0.1:1".parse().unwrap(), &[]),
            router: Router::new().route("/", axum::routing::get(panicking)),
        };
        let request = Request::get("/").header("host", "127.0.0.1:1").body(Body::empty()).unwrap();

        let response = edge.serve("127.0.0.1:2".parse().unwrap(), request).await;

        assert_eq!(response.status().as_u16(), 500);
        assert_eq!(response.headers()["x-content-type-options"], "nosniff");
        let body = axum::body::to_bytes(response.into_body(), 10_000).await.unwrap();
        let body = String::from_utf8(body.to_vec()).unwrap();
        assert!(body.contains("\"code\":\"internal\"") && !body.contains("secret words"), "{body}");
    }

    #[test]
    fn tokens_in_addresses_are_seen() {
        assert!(holds_token("limit=1&TOKEN=x"));
        assert!(holds_token("q=ph_pat_abc"));
        assert!(!holds_token("limit=1&after=2"));
    }
}
