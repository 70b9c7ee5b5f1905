//! A server on a port of its own over an SQLite ledger in a directory of its own, and a small HTTP client.

use std::time::Duration;

use control::{Cause, Clock, Control, tokens::NewToken};
use domain::{actor::Actor, ids::PersonId, person::PersonKind, time::Timestamp, token::Scope};
use http_body_util::{BodyExt, Full};
use hyper::{
    HeaderMap, Request, StatusCode,
    body::{Bytes, Incoming},
    header,
};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use server::{Limits, Server, ServerConfig};
use store::{EventQuery, Order, Store, StoreConfig};
use tokio::net::TcpStream;

pub(crate) const NOON: Timestamp = Timestamp::from_micros(1_766_836_800_000_000);

pub(crate) const CATALOG: &str = r#"
[job.demo]
title = "Demo"
owner = "ops"
exec = { argv = ["echo", "hello"] }
policy = { approve = { of = ["dev:*", "person:owner"], quorum = 1, distinct_from_requester = false } }

[job.deploy]
title = "Deploy to {{env}}"
owner = "ops"
params = { env = { type = "enum", values = ["staging", "prod"], required = true } }
exec = { argv = ["deploy", "--env={{env}}"] }
policy = { approve = { of = ["person:owner"], quorum = 1 } }

[job.free]
title = "Free"
owner = "ops"
exec = { argv = ["true"] }
policy = { approve = "none" }
"#;

pub(crate) struct TestApp {
    pub(crate) server: Server,
    pub(crate) control: Control,
    pub(crate) clock: Clock,
    pub(crate) admin: String,
    pub(crate) dir: tempfile::TempDir,
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl TestApp {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut ServerConfig)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&StoreConfig::Sqlite { path: dir.path().join("pilothouse.db") }).await.unwrap();
        let clock = Clock::manual(NOON);
        let control = Control::new(store, clock.clone());
        let admin = control.bootstrap().await.unwrap().expect("the ledger is new");
        control.load_catalog(CATALOG, "jobs.toml").await.unwrap();
        let mut config = ServerConfig::new("127.0.0.1:0".parse().unwrap(), dir.path().to_owned());
        config.dev_channel = true;
        config.limits = Limits { shutdown: Duration::from_secs(2), ..Limits::default() };
        change(&mut config);
        let server = Server::start(config, control.clone()).await.unwrap();
        Self { server, control, clock, admin, dir }
    }

    /// A token of the owner with these scopes.
    pub(crate) async fn token(&self, scopes: &[Scope]) -> String {
        let owner = self.control.ensure_person("owner", PersonKind::Human, &[]).await.unwrap();
        self.token_of(&owner.id, scopes).await
    }

    pub(crate) async fn token_of(&self, person: &PersonId, scopes: &[Scope]) -> String {
        let new = NewToken {
            name: "test".to_owned(),
            person: person.clone(),
            scopes: scopes.to_vec(),
            expires_in: Some(Duration::from_secs(3600)),
        };
        self.control.create_token(&new, &Cause::of(Actor::System)).await.unwrap().1
    }

    pub(crate) fn host(&self) -> String {
        self.server.address().to_string()
    }

    pub(crate) fn get(&self, path: &str) -> Call {
        Call::new(self, "GET", path)
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Call {
        Call::new(self, "POST", path).body(body.to_string()).header("content-type", "application/json")
    }

    /// A POST without a body.
    pub(crate) fn act(&self, path: &str) -> Call {
        Call::new(self, "POST", path)
    }

    /// Says something on the development channel.
    pub(crate) async fn say(&self, from: &str, body: &str) -> Value {
        let message = serde_json::json!({ "from": from, "conversation": from, "body": body });
        let answer = self.post("/dev/inbound", &message).send().await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    }

    pub(crate) async fn count_events(&self) -> usize {
        let query = EventQuery {
            subject: None,
            project: None,
            step: None,
            kinds: Vec::new(),
            order: Order::Ascending,
            after: None,
            limit: 500,
        };
        self.control.store().list_events(&query).await.unwrap().events.len()
    }
}

/// A request in the making; with the admin's token unless said otherwise.
pub(crate) struct Call {
    address: String,
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Call {
    fn new(app: &TestApp, method: &str, path: &str) -> Self {
        let address = app.host();
        let headers =
            vec![("host".to_owned(), address.clone()), ("authorization".to_owned(), format!("Bearer {}", app.admin))];
        Self { address, method: method.to_owned(), path: path.to_owned(), headers, body: Vec::new() }
    }

    pub(crate) fn method(mut self, method: &str) -> Self {
        self.method = method.to_owned();
        self
    }

    pub(crate) fn token(self, token: &str) -> Self {
        self.without("authorization").header("authorization", &format!("Bearer {token}"))
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(known, _)| known != name);
        self
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    pub(crate) async fn send(self) -> Answer {
        let (parts, mut body) = self.open().await.into_parts();
        let mut bytes = Vec::new();
        while let Some(frame) = body.frame().await {
            bytes.extend_from_slice(&frame.unwrap().into_data().unwrap_or_default());
        }
        Answer { status: parts.status.as_u16(), headers: parts.headers, body: bytes }
    }

    /// The answer as it begins.
    pub(crate) async fn open(self) -> hyper::Response<Incoming> {
        let stream = TcpStream::connect(&self.address).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        host::task::spawn("test connection", connection);
        let mut request = Request::builder().method(self.method.as_str()).uri(&self.path);
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        sender.send_request(request.body(Full::new(Bytes::from(self.body))).unwrap()).await.unwrap()
    }

    /// The answer, which has to be this problem with all that a problem has.
    pub(crate) async fn refused(self, status: StatusCode, code: &str) -> Value {
        let what = format!("{} {}", self.method, self.path);
        let answer = self.send().await;
        answer.assert_problem(&what);
        assert_eq!((answer.status, answer.json()["code"].as_str()), (status.as_u16(), Some(code)), "{what}");
        answer.json()
    }
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// Whatever fails, fails as a problem with a code and a hint, and never as a defect of ours.
    pub(crate) fn assert_problem(&self, what: &str) {
        assert!((400..500).contains(&self.status), "{what}: {} {}", self.status, self.text());
        assert_eq!(self.header(header::CONTENT_TYPE.as_str()), Some("application/problem+json"), "{what}");
        let body = self.json();
        assert!(api::Code::find(body["code"].as_str().unwrap_or_default()).is_some(), "{what}: {body}");
        assert!(body["hint"].as_str().is_some_and(|hint| hint.ends_with('.')), "{what}: {body}");
        assert_eq!(body["status"], self.status, "{what}");
        assert!(body["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{what}: {body}");
    }
}
