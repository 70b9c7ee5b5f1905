//! Anthropic Messages.

use serde_json::{Value, json};

use super::{joined, post, server, stream, whole};

const PATH: &str = "/v1/messages?beta=true";

fn body(content: &Value, tools: &[&str]) -> Value {
    let tools: Vec<Value> = tools.iter().map(|name| json!({"name": name, "input_schema": {}})).collect();
    json!({"model": "claude-opus-5-5", "stream": true, "messages": [{"role": "user", "content": content}], "tools": tools})
}

fn one(text: &str, tools: &[&str]) -> Value {
    body(&text.into(), tools)
}

#[tokio::test]
async fn text_and_thinking_are_streamed_block_by_block_and_counted() {
    let server = server();

    let pieces = stream(&server, PATH, &one("say hello", &[])).await;

    assert_eq!(joined(&pieces, "content_block_delta", "/delta/thinking"), "A greeting.");
    assert_eq!(joined(&pieces, "content_block_delta", "/delta/text"), "Hello from the script.");
    let names: Vec<&str> = pieces.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        (names[0], names[names.len() - 2], names[names.len() - 1]),
        ("message_start", "message_delta", "message_stop")
    );
    let last = &pieces[pieces.len() - 2].1;
    assert_eq!(last["delta"]["stop_reason"], "end_turn");
    // What the cache gave or took is not part of the input here.
    assert_eq!(
        last["usage"],
        json!({"input_tokens": 150, "cache_creation_input_tokens": 50, "cache_read_input_tokens": 1000, "output_tokens": 34})
    );
}

#[tokio::test]
async fn tools_are_called_by_the_names_that_are_offered() {
    let server = server();

    let wrote = stream(&server, PATH, &one("write file a.txt", &["Bash", "Write"])).await;
    let ran = stream(&server, PATH, &one("run ls", &["Bash", "Write"])).await;

    assert_eq!(wrote[1].1["content_block"]["name"], "Write");
    let input: Value = serde_json::from_str(&joined(&wrote, "content_block_delta", "/delta/partial_json")).unwrap();
    assert_eq!(input, json!({"file_path": "a.txt", "content": "it's\n"}));
    assert_eq!(ran[1].1["content_block"]["name"], "Bash");
    let stop = |pieces: &[(String, Value)]| pieces[pieces.len() - 2].1["delta"]["stop_reason"].clone();
    assert_eq!((stop(&wrote), stop(&ran)), (json!("tool_use"), json!("tool_use")));
}

#[tokio::test]
async fn the_agents_reminders_are_not_the_users_words() {
    let server = server();
    let content = json!([
        {"type": "text", "text": "<system-reminder>\nsay nothing"},
        {"type": "text", "text": "say hello"},
        {"type": "text", "text": "<system-reminder>as json"},
    ]);

    stream(&server, PATH, &body(&content, &[])).await;

    assert_eq!(server.asked().pop().unwrap().prompt(), "say hello");
}

#[tokio::test]
async fn the_result_of_a_tool_makes_the_next_step() {
    let server = server();
    let mut body = one("write file a.txt", &["Write"]);
    let messages = body["messages"].as_array_mut().unwrap();
    messages
        .push(json!({"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "Write", "input": {}}]}));
    let result = json!([{"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "done"}]}]);
    messages.push(json!({"role": "user", "content": result}));

    let pieces = stream(&server, PATH, &body).await;

    assert_eq!(joined(&pieces, "content_block_delta", "/delta/text"), "Wrote a.txt.");
    assert_eq!(server.asked().pop().unwrap().tool_output(), "done");
}

#[tokio::test]
async fn a_structured_answer_goes_through_the_tool_for_it() {
    let server = server();
    let mut body = one("as json", &["Bash", "StructuredOutput"]);
    body["stream"] = false.into();

    let answer = whole(&server, PATH, &body).await;

    assert_eq!(answer["content"][0]["name"], "StructuredOutput");
    assert_eq!(answer["content"][0]["input"], json!({"verdict": "as json"}));
}

#[tokio::test]
async fn a_refusal_is_a_reason_to_stop() {
    let server = server();

    let pieces = stream(&server, PATH, &one("forbidden", &[])).await;

    assert_eq!(pieces[pieces.len() - 2].1["delta"]["stop_reason"], "refusal");
}

#[tokio::test]
async fn an_error_has_the_type_of_its_status() {
    let server = server();

    let refused = post(&server, PATH, &one("too fast", &[])).await;

    assert_eq!((refused.status().as_u16(), &refused.headers()["retry-after"]), (429, &"7".parse().unwrap()));
    let error: Value = serde_json::from_str(&refused.text().await.unwrap()).unwrap();
    assert_eq!((&error["type"], &error["error"]["type"]), (&json!("error"), &json!("rate_limit_error")));
}

#[tokio::test]
async fn tokens_are_counted_without_a_rule() {
    let server = server();

    let counted = whole(&server, "/v1/messages/count_tokens", &one("say hello", &[])).await;

    assert_eq!(counted["input_tokens"], 100);
    assert!(server.asked().is_empty());
    assert_eq!(server.seen().len(), 1);
}
