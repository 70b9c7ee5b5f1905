//! The scripted model server, asked over HTTP the way agents ask it.
#![expect(clippy::unwrap_used, reason = "helpers of tests may fail a test, too")]
#![expect(clippy::disallowed_methods, reason = "these tests ask the server from outside, as agents do")]

mod chat;
mod faults;
mod gemini;
mod messages;
mod responses;
mod scenario;

use serde_json::Value;
use testkit::models::{ModelServer, Reply, Rule, Scenario, Usage};

/// The script that every dialect is asked from.
fn script() -> Scenario {
    let usage = Usage { input: 1200, cached: 1000, cache_write: 50, output: 34, reasoning: 5 };
    Scenario::new()
        .usage(usage)
        .rule(Rule::on("say hello").reply([Reply::reasoning("A greeting."), Reply::text("Hello from the script.")]))
        .rule(Rule::at(r"write file (\S+)", 0).reply([Reply::write("{{1}}", "it's\n")]))
        .rule(Rule::on(r"write file (\S+)").reply([Reply::text("Wrote {{1}}.")]))
        .rule(Rule::on("run (.+)").reply([Reply::shell("{{1}}")]))
        .rule(Rule::on("forbidden").reply([Reply::refusal("I will not.")]))
        .rule(Rule::on("as json").reply([Reply::json(serde_json::json!({"verdict": "{{0}}"}))]))
        .rule(Rule::on("too fast").fail(429, "slow down").header("retry-after", "7"))
}

fn server() -> ModelServer {
    ModelServer::start(script()).unwrap()
}

async fn post(server: &ModelServer, path: &str, body: &Value) -> reqwest::Response {
    let url = format!("{}{path}", server.url());
    client().post(url).json(body).send().await.unwrap()
}

fn client() -> reqwest::Client {
    // A second test finds it installed, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().build().unwrap()
}

/// An answer as one document.
async fn whole(server: &ModelServer, path: &str, body: &Value) -> Value {
    let response = post(server, path, body).await;
    assert_eq!(response.status(), 200);
    serde_json::from_str(&response.text().await.unwrap()).unwrap()
}

/// The data of a stream, each piece with its name.
async fn stream(server: &ModelServer, path: &str, body: &Value) -> Vec<(String, Value)> {
    let response = post(server, path, body).await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    pieces(&response.text().await.unwrap())
}

fn pieces(text: &str) -> Vec<(String, Value)> {
    let piece = |piece: &str| {
        let field = |name: &str| piece.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        let data = field("data: ");
        (field("event: ").to_owned(), serde_json::from_str(data).unwrap_or_else(|_| data.into()))
    };
    text.split("\n\n").filter(|text| !text.is_empty()).map(piece).collect()
}

/// The texts at one place of all pieces of one name, joined.
fn joined(pieces: &[(String, Value)], name: &str, pointer: &str) -> String {
    let of_name = pieces.iter().filter(|(piece, _)| piece == name);
    of_name.filter_map(|(_, data)| data.pointer(pointer)?.as_str()).collect()
}
