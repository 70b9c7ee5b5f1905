//! OpenAI chat completions.

use serde_json::{Value, json};

use super::{joined, post, server, stream, whole};

const PATH: &str = "/v1/chat/completions";

fn body(text: &str, tools: &[&str]) -> Value {
    let tools: Vec<Value> = tools.iter().map(|name| json!({"type": "function", "function": {"name": name}})).collect();
    let messages = json!([{"role": "system", "content": "be brief"}, {"role": "user", "content": text}]);
    json!({"model": "scripted", "stream": true, "messages": messages, "tools": tools})
}

#[tokio::test]
async fn text_and_reasoning_are_streamed_and_counted_before_the_last_word() {
    let server = server();

    let pieces = stream(&server, PATH, &body("say hello", &[])).await;

    assert_eq!(joined(&pieces, "", "/choices/0/delta/reasoning_content"), "A greeting.");
    assert_eq!(joined(&pieces, "", "/choices/0/delta/content"), "Hello from the script.");
    assert_eq!(joined(&pieces, "", "/choices/0/finish_reason"), "stop");
    assert_eq!(pieces.last().unwrap().1, "[DONE]");
    let usage = &pieces[pieces.len() - 2].1["usage"];
    assert_eq!((&usage["prompt_tokens"], &usage["completion_tokens"]), (&json!(1200), &json!(34)));
    assert_eq!(usage["prompt_tokens_details"]["cached_tokens"], 1000);
}

#[tokio::test]
async fn tools_are_called_by_the_names_that_are_offered() {
    let server = server();

    let wrote = stream(&server, PATH, &body("write file a.txt", &["bash", "write"])).await;
    let ran = stream(&server, PATH, &body("run ls", &["bash", "write"])).await;

    let call = |pieces: &[(String, Value)]| pieces[1].1["choices"][0]["delta"]["tool_calls"][0]["function"].clone();
    let arguments = json!({"filePath": "a.txt", "content": "it's\n"}).to_string();
    assert_eq!(call(&wrote), json!({"name": "write", "arguments": arguments}));
    assert_eq!(call(&ran)["name"], "bash");
    assert_eq!(joined(&ran, "", "/choices/0/finish_reason"), "tool_calls");
}

#[tokio::test]
async fn the_result_of_a_tool_makes_the_next_step() {
    let server = server();
    let mut body = body("write file a.txt", &["write"]);
    let messages = body["messages"].as_array_mut().unwrap();
    messages.push(json!({"role": "assistant", "content": null, "tool_calls": [{"id": "t"}]}));
    messages.push(json!({"role": "tool", "tool_call_id": "t", "content": "done"}));
    body["stream"] = false.into();

    let answer = whole(&server, PATH, &body).await;

    assert_eq!(answer["choices"][0]["message"]["content"], "Wrote a.txt.");
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
}

#[tokio::test]
async fn a_refusal_is_filtered_and_an_error_has_a_code() {
    let server = server();

    let pieces = stream(&server, PATH, &body("forbidden", &[])).await;
    let refused = post(&server, PATH, &body("too fast", &[])).await;

    assert_eq!(joined(&pieces, "", "/choices/0/finish_reason"), "content_filter");
    assert_eq!(refused.status(), 429);
    let error: Value = serde_json::from_str(&refused.text().await.unwrap()).unwrap();
    assert_eq!(
        error["error"],
        json!({"message": "slow down", "type": "rate_limit_error", "param": null, "code": "rate_limit_error"})
    );
}
