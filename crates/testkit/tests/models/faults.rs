//! What goes wrong on purpose, and what is kept of it.

use std::time::Duration;

use serde_json::json;
use testkit::models::{Dialect, Gate, ModelServer, Reply, Rule, Scenario, Unreachable, When};

use super::{client, post, stream};

const PATH: &str = "/v1/chat/completions";

fn body(text: &str) -> serde_json::Value {
    json!({"model": "scripted", "stream": true, "messages": [{"role": "user", "content": text}]})
}

#[tokio::test]
async fn a_stream_is_cut_after_so_many_pieces() {
    let rule = Rule::always().reply([Reply::text("one two three four five six seven")]).cut_after(2);
    let server = ModelServer::start(Scenario::new().rule(rule)).unwrap();

    let mut response = post(&server, PATH, &body("count")).await;
    let mut received = Vec::new();
    let ended = loop {
        match response.chunk().await {
            Ok(Some(chunk)) => received.extend_from_slice(&chunk),
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
    };

    assert!(ended.is_err());
    let received = String::from_utf8(received).unwrap();
    assert_eq!(super::pieces(&received).len(), 2, "{received}");
    assert!(!received.contains("[DONE]"));
}

#[tokio::test]
async fn a_whole_answer_is_cut_in_its_middle() {
    let server = ModelServer::start(Scenario::new().rule(Rule::always().cut_after(0))).unwrap();

    let response = post(&server, PATH, &json!({"messages": [{"role": "user", "content": "count"}]})).await;

    assert!(response.text().await.is_err());
}

#[tokio::test]
async fn a_server_that_hangs_has_taken_the_request() {
    let server = ModelServer::start(Scenario::new().rule(Rule::always().hang())).unwrap();
    let url = format!("{}{PATH}", server.url());

    let asking = client().post(url).json(&body("are you there?")).timeout(Duration::from_millis(300)).send();
    let (answer, ()) = tokio::join!(asking, server.until(|seen| !seen.is_empty()));

    assert!(answer.unwrap_err().is_timeout());
    let seen = server.seen().pop().unwrap();
    assert_eq!((seen.prompt(), seen.status), ("are you there?", None));
}

#[tokio::test]
async fn an_answer_waits_as_long_as_its_rule_says() {
    let rule =
        Rule::always().reply([Reply::text("late")]).delay(Duration::from_millis(150)).pace(Duration::from_millis(20));
    let server = ModelServer::start(Scenario::new().rule(rule)).unwrap();
    let started = host::clock::monotonic();

    let pieces = stream(&server, PATH, &body("hello")).await;

    assert!(started.elapsed() >= Duration::from_millis(150 + 20 * (pieces.len() as u64 - 1)));
}

#[tokio::test]
async fn an_answer_waits_behind_its_gate_and_no_other_does() {
    let gate = Gate::closed();
    let held = Rule::on("hello").behind(&gate).reply([Reply::text("late")]);
    let server = ModelServer::start(Scenario::new().rule(held).rule(Rule::always())).unwrap();
    let answered = std::sync::atomic::AtomicBool::new(false);

    let asked = async {
        post(&server, PATH, &body("hello")).await.text().await.unwrap();
        answered.store(true, std::sync::atomic::Ordering::SeqCst);
    };
    let lets_go = async {
        server.until(|seen| !seen.is_empty()).await;
        post(&server, PATH, &body("another")).await.text().await.unwrap();
        assert!(!answered.load(std::sync::atomic::Ordering::SeqCst), "the gate is closed");
        gate.open();
    };
    tokio::join!(asked, lets_go);

    assert!(answered.into_inner());
    post(&server, PATH, &body("hello")).await.text().await.unwrap();
}

#[tokio::test]
async fn nobody_listens_at_an_unreachable_address() {
    let unreachable = Unreachable::new().unwrap();

    let asked = client().post(format!("{}{PATH}", unreachable.url())).json(&body("hello")).send().await;

    assert!(asked.unwrap_err().is_connect());
}

#[tokio::test]
async fn a_rule_that_is_used_up_leaves_the_answer_to_the_next() {
    let scenario = Scenario::new()
        .rule(Rule::on("again").times(2).fail(500, "not yet"))
        .rule(Rule::on("again").reply([Reply::text("now")]));
    let server = ModelServer::start(scenario).unwrap();

    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(post(&server, PATH, &body("again")).await.status().as_u16());
    }

    assert_eq!(statuses, [500, 500, 200]);
    let rules: Vec<_> = server.seen().iter().map(|seen| seen.rule).collect();
    assert_eq!(rules, [Some(0), Some(0), Some(1)]);
}

#[tokio::test]
async fn a_hole_in_the_script_is_refused_unless_no_tools_are_at_stake() {
    let server = ModelServer::start(Scenario::new()).unwrap();
    let mut with_tools = body("hello");
    with_tools["tools"] = json!([{"type": "function", "function": {"name": "bash"}}]);

    assert_eq!(post(&server, PATH, &body("a title, please")).await.status(), 200);
    let refused = post(&server, PATH, &with_tools).await;

    assert_eq!(refused.status(), 400);
    assert!(refused.text().await.unwrap().contains("no rule of the scenario fits"));
    assert_eq!(server.seen()[1].rule, None);
}

#[tokio::test]
async fn a_tool_that_is_not_offered_is_never_called() {
    let server = ModelServer::start(Scenario::new().rule(Rule::always().reply([Reply::shell("ls")]))).unwrap();

    let refused = post(&server, PATH, &body("hello")).await;

    assert_eq!(refused.status(), 400);
    assert!(refused.text().await.unwrap().contains("the script wants a shell"));
}

#[tokio::test]
async fn rules_look_at_headers_dialect_tools_and_the_last_result() {
    let scenario = Scenario::new()
        .rule(
            Rule::new(When::default().header("Authorization", "^Bearer right$").dialect(Dialect::Chat)).fail(402, "a"),
        )
        .rule(Rule::new(When::default().tool("write").tools(true)).fail(403, "b"))
        .rule(Rule::new(When::default().tool_output("exit code 1")).fail(404, "c"))
        .rule(Rule::new(When::default().anywhere("temperature")).fail(405, "d"));
    let server = ModelServer::start(scenario).unwrap();
    let url = format!("{}{PATH}", server.url());

    let right = client().post(&url).bearer_auth("right").json(&body("x")).send().await.unwrap().status();
    let mut tools = body("x");
    tools["tools"] = json!([{"type": "function", "function": {"name": "write"}}]);
    let mut failed = body("x");
    failed["messages"].as_array_mut().unwrap().push(json!({"role": "tool", "content": "exit code 1"}));
    let mut warm = body("x");
    warm["temperature"] = 1.into();
    let mut others = Vec::new();
    for body in [&tools, &failed, &warm, &body("x")] {
        others.push(post(&server, PATH, body).await.status().as_u16());
    }

    assert_eq!((right.as_u16(), others), (402, vec![403, 404, 405, 200]));
    assert_eq!(server.seen()[0].header("authorization"), "Bearer right");
    assert!(server.seen()[0].everything().contains("Bearer right"));
}

#[tokio::test]
async fn another_scenario_is_played_without_forgetting_what_was_seen() {
    let server = ModelServer::start(Scenario::new().rule(Rule::always().fail(500, "first"))).unwrap();
    post(&server, PATH, &body("x")).await;

    server.play(Scenario::new().rule(Rule::always().fail(503, "second")));

    assert_eq!(post(&server, PATH, &body("x")).await.status(), 503);
    assert_eq!(server.seen().len(), 2);
}
