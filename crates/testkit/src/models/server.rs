//! The listener: takes requests on loopback, lets the scenario answer, keeps what it saw.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, Method, Response, StatusCode, Uri, header};
use futures_util::stream::{self, Stream};
use serde_json::{Value, json};
use tokio::sync::{oneshot, watch};

use super::answer::{Answer, Ids};
use super::asked::Asked;
use super::dialect::Dialect;
use super::record::Seen;
use super::reply::Reply;
use super::rule::{Act, Failure, Rule};
use super::scenario::{Picked, Play, Scenario};
use super::tools::resolve;

/// No agent sends more than this.
const MAX_BODY: usize = 64 << 20;

/// A running server on a port of its own. It has its own thread, so that it answers whatever its test is doing, and
/// ends when it is dropped, cutting what is under way.
#[derive(Debug)]
pub struct ModelServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<Infallible>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    play: Mutex<Play>,
    seen: watch::Sender<Vec<Seen>>,
    ids: Ids,
}

impl ModelServer {
    /// Listens on a free port of loopback. When this returns, connections are accepted.
    pub fn start(scenario: Scenario) -> io::Result<Self> {
        Self::start_on(0, scenario)
    }

    /// Listens on a given port of loopback.
    pub fn start_on(port: u16, scenario: Scenario) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let play = Mutex::new(Play::new(scenario));
        let shared = Arc::new(Shared { play, seen: watch::Sender::new(Vec::new()), ids: Ids::default() });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let router = Router::new().fallback(answer).layer(DefaultBodyLimit::max(MAX_BODY));
        let router = router.with_state(Arc::clone(&shared));
        let (stop, stopped) = oneshot::channel();
        let serve = move || {
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).expect("the listener does not block");
                tokio::select! {
                    _ = axum::serve(listener, router) => {}
                    _ = stopped => {}
                }
            });
        };
        let thread = std::thread::Builder::new().name("model server".to_owned()).spawn(serve)?;
        Ok(Self { address, shared, stop: Some(stop), thread: Some(thread) })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address as a URL without a path.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Plays another scenario from now on; what was seen is kept.
    pub fn play(&self, scenario: Scenario) {
        *self.shared.play() = Play::new(scenario);
    }

    /// Every request so far, oldest first.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen.borrow().clone()
    }

    /// The requests to a model so far, oldest first.
    pub fn asked(&self) -> Vec<Asked> {
        self.shared.seen.borrow().iter().filter_map(|seen| seen.asked.clone()).collect()
    }

    /// Waits until this holds of everything seen.
    pub async fn until(&self, holds: impl Fn(&[Seen]) -> bool) {
        let mut seen = self.shared.seen.subscribe();
        // The sender lives as long as the server, which is borrowed here.
        let _ = seen.wait_for(|seen| holds(seen)).await;
    }
}

impl Drop for ModelServer {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It panicked: the test that asked it has failed or does not care.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn play(&self) -> MutexGuard<'_, Play> {
        self.play.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An address of loopback at which nobody listens, and nobody else will as long as this lives.
#[derive(Debug)]
pub struct Unreachable {
    address: SocketAddr,
    _bound: tokio::net::TcpSocket,
}

impl Unreachable {
    pub fn new() -> io::Result<Self> {
        // Bound and never listening: connections are refused, and the port is given to nobody else.
        let socket = tokio::net::TcpSocket::new_v4()?;
        socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
        Ok(Self { address: socket.local_addr()?, _bound: socket })
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

async fn answer(
    State(shared): State<Arc<Shared>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    bytes: Bytes,
) -> Response<Body> {
    let body: Value =
        serde_json::from_slice(&bytes).unwrap_or_else(|_| String::from_utf8_lossy(&bytes).into_owned().into());
    let headers: BTreeMap<String, String> = headers
        .iter()
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect();
    let seen = Seen {
        method: method.to_string(),
        path: uri.to_string(),
        headers,
        body,
        asked: None,
        rule: None,
        status: None,
    };
    match Dialect::of_path(uri.path()) {
        Some(dialect) if method == Method::POST => ask(&shared, dialect, uri.path(), seen).await,
        _ => aside(&shared, &method, uri.path(), seen),
    }
}

/// Answers what is no call to a model.
fn aside(shared: &Shared, method: &Method, path: &str, mut seen: Seen) -> Response<Body> {
    let (status, body) = match path {
        _ if method == Method::HEAD => (200, Value::Null),
        path if path.ends_with("/models") => (200, listing(&shared.play().scenario().models)),
        path if path.ends_with("/count_tokens") || path.ends_with(":countTokens") => {
            (200, json!({"input_tokens": 100, "totalTokens": 100}))
        }
        _ => (404, json!({"error": {"type": "not_found_error", "message": "the script has no such place"}})),
    };
    seen.status = Some(status);
    shared.seen.send_modify(|all| all.push(seen));
    document(status, &BTreeMap::new(), &body, None)
}

fn listing(models: &[String]) -> Value {
    let entry = |id: &String| {
        json!({"id": id, "object": "model", "type": "model", "display_name": id,
        "owned_by": "script", "created": 0, "created_at": "2025-01-01T00:00:00Z"})
    };
    json!({"object": "list", "has_more": false, "data": models.iter().map(entry).collect::<Vec<_>>()})
}

async fn ask(shared: &Shared, dialect: Dialect, path: &str, mut seen: Seen) -> Response<Body> {
    let asked = dialect.read(path, &seen.body);
    let (picked, usage) = {
        let mut play = shared.play();
        let picked = play.pick(&asked, &seen.headers, &seen.body.to_string());
        let usage = picked.rule.usage.unwrap_or(play.scenario().usage);
        (picked, usage)
    };
    let Picked { index, rule, groups } = picked;
    let said = say(&rule, &groups, &asked);
    seen.asked = Some(asked.clone());
    seen.rule = index;
    seen.status = match &said {
        Said::Blocks(_) => Some(200),
        Said::Failure(failure) => Some(failure.status),
        Said::Nothing => None,
    };
    shared.seen.send_modify(|all| all.push(seen));
    tokio::time::sleep(rule.delay).await;
    if let Some(gate) = &rule.gate {
        gate.opened().await;
    }
    match said {
        Said::Nothing => std::future::pending().await,
        Said::Failure(failure) => document(failure.status, &rule.headers, &dialect.error(&failure, &shared.ids), None),
        Said::Blocks(blocks) => {
            let answer = Answer { blocks, usage };
            if asked.stream {
                let pieces = dialect.pieces(&asked, &answer, &shared.ids);
                let pieces = pieces.iter().map(|piece| piece.to_wire().into()).collect();
                streamed(&rule, pieces)
            } else {
                document(200, &rule.headers, &dialect.whole(&asked, &answer, &shared.ids), rule.cut_after)
            }
        }
    }
}

/// What a rule makes the model say to this agent.
enum Said {
    Blocks(Vec<super::answer::Block>),
    Failure(Failure),
    Nothing,
}

fn say(rule: &Rule, groups: &[String], asked: &Asked) -> Said {
    let reply = match &rule.act {
        Act::Hang => return Said::Nothing,
        Act::Fail(failure) => return Said::Failure(failure.clone()),
        Act::Reply(reply) => reply.iter().map(|part| Reply::filled(part, groups)),
    };
    match reply.map(|part| resolve(&part, asked)).collect() {
        Ok(blocks) => Said::Blocks(blocks),
        // A script that the agent cannot follow is a fault of the test, which must not look like an answer.
        Err(message) => Said::Failure(Failure { status: 400, kind: None, message, extra: serde_json::Map::new() }),
    }
}

fn document(status: u16, headers: &BTreeMap<String, String>, body: &Value, cut: Option<usize>) -> Response<Body> {
    let text = if body.is_null() { String::new() } else { body.to_string() };
    let body = match cut {
        Some(_) => Body::from_stream(cut_stream(vec![text[..text.len() / 2].to_owned().into()], Duration::ZERO)),
        None => Body::from(text),
    };
    respond(status, "application/json", headers, body)
}

fn streamed(rule: &Rule, mut pieces: Vec<Bytes>) -> Response<Body> {
    let body = match rule.cut_after {
        Some(kept) => {
            pieces.truncate(kept);
            Body::from_stream(cut_stream(pieces, rule.pace))
        }
        None => Body::from_stream(paced(pieces.into_iter().map(Ok).collect(), rule.pace)),
    };
    respond(200, "text/event-stream", &rule.headers, body)
}

fn cut_stream(pieces: Vec<Bytes>, pace: Duration) -> impl Stream<Item = io::Result<Bytes>> {
    let cut = || Err(io::Error::other("the script cuts the stream here"));
    // An error in the first poll would take the headers with it: the pause lets what came before reach the wire.
    let pace = pace.max(Duration::from_millis(5));
    paced(pieces.into_iter().map(Ok).chain(std::iter::once_with(cut)).collect(), pace)
}

fn paced(pieces: Vec<io::Result<Bytes>>, pace: Duration) -> impl Stream<Item = io::Result<Bytes>> {
    stream::unfold(pieces.into_iter().enumerate(), move |mut rest| async move {
        let (index, piece) = rest.next()?;
        if index > 0 && !pace.is_zero() {
            tokio::time::sleep(pace).await;
        }
        Some((piece, rest))
    })
}

fn respond(status: u16, kind: &str, headers: &BTreeMap<String, String>, body: Body) -> Response<Body> {
    let mut response = Response::builder().status(status).header(header::CONTENT_TYPE, kind);
    for (name, value) in headers {
        response = response.header(name, value);
    }
    response.body(body).unwrap_or_else(|error| {
        let mut response = Response::new(Body::from(format!("the script's status or headers are none: {error}")));
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        response
    })
}
