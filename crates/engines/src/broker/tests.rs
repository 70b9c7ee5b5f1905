//! A broker between a client that does what an engine does, or worse, and a model that records what reaches it.

use super::wire::{Body, Head, Length};
use super::*;
use crate::engine::Usage;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, mpsc};

const TOKEN: &str = "token-of-the-attempt";
const KEY: &str = "key-of-the-model";

/// A model that answers every call with the same words.
struct Model {
    url: String,
    seen: mpsc::Receiver<(Head, Vec<u8>)>,
}

impl Model {
    fn start(answer: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let (tell, seen) = mpsc::channel();
        let answer = answer.to_owned();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let Some((head, behind)) = Head::read(&mut stream).unwrap() else { continue };
                let mut body = Body::new(head.length().unwrap().unwrap_or(Length::Known(0)));
                let mut content = Vec::new();
                body.feed(&behind, &mut content).unwrap();
                let mut piece = [0; 4096];
                while !body.is_done() {
                    let n = stream.read(&mut piece).unwrap();
                    body.feed(&piece[..n], &mut content).unwrap();
                }
                let _ = tell.send((head, content));
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        Self { url, seen }
    }
}

/// A broker with its door open.
struct Door {
    address: SocketAddr,
    dir: PathBuf,
    _keep: tempfile::TempDir,
}

fn open(model: &str, tokens: Option<u64>) -> Door {
    let keep = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let broker = Broker {
        listen: address,
        upstream: model.to_owned(),
        token: TOKEN.to_owned(),
        key: KEY.to_owned(),
        limits: Limits { tokens },
    };
    assert_eq!(broker.base_url(), format!("http://{address}/v1"));
    let desk = Arc::new(Desk::open(broker, keep.path(), "nonce").unwrap());
    std::thread::spawn(move || {
        for engine in listener.incoming() {
            let (engine, desk) = (engine.unwrap(), Arc::clone(&desk));
            std::thread::spawn(move || desk.serve(&engine));
        }
    });
    Door { address, dir: keep.path().to_owned(), _keep: keep }
}

impl Door {
    fn send(&self, request: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        stream
    }

    fn ask(&self, request: &str) -> String {
        let mut answer = String::new();
        // A connection that is cut off may be reset: then what came before is all there is.
        let _ = self.send(request).read_to_string(&mut answer);
        answer
    }

    fn wire(&self) -> Wire {
        books::read(&self.dir, "nonce").unwrap().unwrap()
    }

    /// Waits until this holds of what is written down.
    fn until(&self, holds: impl Fn(&Wire) -> bool) -> Wire {
        for _ in 0..3000 {
            let wire = self.wire();
            if holds(&wire) {
                return wire;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        panic!("it did not come: {:?}", self.wire());
    }
}

fn post(path: &str, credential: &str, body: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{credential}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}")
}

/// A streamed answer of the Responses dialect, in chunks.
fn streamed() -> String {
    let events = "data: {\"type\":\"response.created\"}\n\ndata: {\"type\":\"response.completed\",\"response\":{\"usage\":{\
                  \"input_tokens\":1200,\"output_tokens\":34}}}\n\n";
    let (a, b) = events.split_at(20);
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{a}\r\n{:x}\r\n{b}\r\n0\r\n\r\n",
        a.len(),
        b.len()
    )
}

fn used(input: u64, output: u64) -> Usage {
    Usage { input_tokens: Some(input), output_tokens: Some(output), ..Usage::default() }
}

#[test]
fn the_key_takes_the_tokens_place_and_the_answer_is_passed_on_and_read_off() {
    let model = Model::start(&streamed());
    let door = open(&model.url, None);

    let answer = door.ask(&post("/v1/responses", &bearer(TOKEN), "{\"model\":\"m\"}"));

    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("0\r\n\r\n"), "{answer}");
    let (head, body) = model.seen.recv().unwrap();
    assert_eq!(head.get("authorization"), Some(format!("Bearer {KEY}").as_str()));
    assert_eq!((head.line.as_str(), body.as_slice()), ("POST /v1/responses HTTP/1.1", &b"{\"model\":\"m\"}"[..]));
    assert!(!String::from_utf8(head.bytes()).unwrap().contains(TOKEN));
    let wire = door.until(|wire| wire.n_calls == 1);
    assert_eq!(wire, Wire { usage: used(1200, 34), n_calls: 1, n_unmetered: 0, n_refused: 0 });
    for (credential, wanted) in
        [(format!("x-api-key: {TOKEN}"), "x-api-key"), (format!("X-Goog-Api-Key: {TOKEN}"), "x-goog-api-key")]
    {
        door.ask(&post("/v1/messages?beta=true", &credential, "{}"));
        let (head, _) = model.seen.recv().unwrap();
        assert_eq!((head.get(wanted), head.line.as_str()), (Some(KEY), "POST /v1/messages?beta=true HTTP/1.1"));
    }
    door.ask(&post(&format!("/v1/models/m:streamGenerateContent?alt=sse&key={TOKEN}"), "x: y", "{}"));
    let (head, _) = model.seen.recv().unwrap();
    assert_eq!(head.line, "POST /v1/models/m:streamGenerateContent?alt=sse HTTP/1.1");
    assert_eq!(head.get("x-goog-api-key"), Some(KEY));
}

#[test]
fn nothing_else_gets_through() {
    let model = Model::start("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
    let door = open(&model.url, None);
    let status = |request: String| door.ask(&request).split(' ').nth(1).unwrap_or_default().to_owned();

    assert_eq!(status(post("/v1/responses", &bearer("another"), "{}")), "401");
    assert_eq!(status(post("/v1/responses", &bearer(KEY), "{}")), "401");
    assert_eq!(status(post("/v1/responses", "x: y", "{}")), "401");
    for path in [
        "/v2/responses",
        "/v1/files",
        "/v1/batches",
        "/v1/../admin/responses",
        "/v1/%2e%2e/responses",
        "/responses",
        "http://elsewhere/v1/responses",
    ] {
        assert_eq!(status(post(path, &bearer(TOKEN), "{}")), "404", "{path}");
    }
    assert_eq!(status(format!("DELETE /v1/models/m HTTP/1.1\r\n{}\r\n\r\n", bearer(TOKEN))), "404");
    let upgrade = format!("{}\r\nUpgrade: websocket", bearer(TOKEN));
    assert_eq!(status(post("/v1/responses", &upgrade, "{}")), "426");
    let smuggled = format!("{}\r\nTransfer-Encoding: chunked", bearer(TOKEN));
    assert_eq!(status(post("/v1/responses", &smuggled, "0\r\n\r\n")), "");
    assert!(model.seen.try_recv().is_err(), "nothing reached the model");
    assert_eq!(status(format!("GET /v1/models HTTP/1.1\r\n{}\r\n\r\n", bearer(TOKEN))), "200");
    assert_eq!(door.wire(), Wire::default());
}

#[test]
fn who_hangs_up_before_the_end_is_metered_all_the_same() {
    let model = Model::start(&streamed());
    let door = open(&model.url, None);

    drop(door.send(&post("/v1/responses", &bearer(TOKEN), "{}")));

    let wire = door.until(|wire| wire.n_calls == 1);
    assert_eq!((wire.usage, wire.n_unmetered), (used(1200, 34), 0));
}

#[test]
fn once_the_budget_is_used_up_no_call_goes_out() {
    let model = Model::start(&streamed());
    let door = open(&model.url, Some(2000));
    let ask = |path: &str| door.ask(&post(path, &bearer(TOKEN), "{}"));

    assert!(ask("/v1/responses").starts_with("HTTP/1.1 200"));
    door.until(|wire| wire.n_calls == 1);
    assert!(ask("/v1/responses").starts_with("HTTP/1.1 200"), "it is not used up yet");
    door.until(|wire| wire.n_calls == 2);
    let openai = ask("/v1/responses");
    let anthropic = ask("/v1/messages");
    let gemini = ask("/v1/models/m:generateContent");

    let why = "the budget of this attempt is used up: 2468 of 2000 tokens";
    let body =
        |answer: &str| -> serde_json::Value { serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap() };
    assert!(openai.starts_with("HTTP/1.1 400"), "{openai}");
    assert_eq!(body(&openai)["error"]["message"], why);
    assert_eq!(body(&anthropic)["error"]["type"], "invalid_request_error");
    assert_eq!(body(&gemini)["error"]["status"], "FAILED_PRECONDITION");
    assert_eq!(model.seen.try_iter().count(), 2);
    assert_eq!(door.wire().n_refused, 3);
}

#[test]
fn a_streamed_chat_is_made_to_say_what_it_used() {
    let model = Model::start("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
    let door = open(&model.url, None);

    door.ask(&post(
        "/v1/chat/completions",
        &bearer(TOKEN),
        "{\"stream\":true,\"stream_options\":{\"include_usage\":false}}",
    ));
    door.ask(&post("/v1/chat/completions", &bearer(TOKEN), "{\"stream\":false}"));

    let asked = |body: Vec<u8>| String::from_utf8(body).unwrap();
    assert_eq!(asked(model.seen.recv().unwrap().1), "{\"stream\":true,\"stream_options\":{\"include_usage\":true}}");
    assert_eq!(asked(model.seen.recv().unwrap().1), "{\"stream\":false}");
    // It did not say so all the same, and is not taken for nothing.
    assert_eq!(door.until(|wire| wire.n_calls == 2).n_unmetered, 2);
}

#[test]
fn a_model_that_is_not_there_or_refuses_costs_nothing_and_is_told() {
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let door = open(&format!("http://{gone}/v1"), Some(10));
    assert!(door.ask(&post("/v1/responses", &bearer(TOKEN), "{}")).starts_with("HTTP/1.1 502"));
    let model = Model::start("HTTP/1.1 429 Too Many Requests\r\nRetry-After: 7\r\nContent-Length: 2\r\n\r\n{}");
    let busy = open(&model.url, Some(10));

    let answer = busy.ask(&post("/v1/responses", &bearer(TOKEN), "{}"));

    assert!(answer.starts_with("HTTP/1.1 429") && answer.contains("retry-after: 7"), "{answer}");
    for door in [door, busy] {
        assert_eq!(door.wire(), Wire::default());
    }
}
