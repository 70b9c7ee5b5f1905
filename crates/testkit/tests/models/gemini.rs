//! Gemini's `generateContent`.

use serde_json::{Value, json};

use super::{post, server, stream, whole};

const WHOLE: &str = "/v1beta/models/gemini-2.5-flash:generateContent";
const STREAM: &str = "/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse";

fn body(parts: &Value, tools: &[&str]) -> Value {
    let tools: Vec<Value> = tools.iter().map(|name| json!({"name": name})).collect();
    json!({"contents": [{"role": "user", "parts": parts}], "tools": [{"functionDeclarations": tools}]})
}

fn one(text: &str, tools: &[&str]) -> Value {
    body(&json!([{"text": text}]), tools)
}

#[tokio::test]
async fn text_and_thoughts_are_counted_apart() {
    let server = server();

    let answer = whole(&server, WHOLE, &one("say hello", &[])).await;

    let parts = &answer["candidates"][0]["content"]["parts"];
    assert_eq!(parts, &json!([{"text": "A greeting.", "thought": true}, {"text": "Hello from the script."}]));
    assert_eq!(
        answer["usageMetadata"],
        json!({"promptTokenCount": 1200, "candidatesTokenCount": 29, "cachedContentTokenCount": 1000,
            "thoughtsTokenCount": 5, "totalTokenCount": 1234})
    );
    assert_eq!(server.asked().pop().unwrap().model, "gemini-2.5-flash");
}

#[tokio::test]
async fn the_path_asks_for_a_stream_and_tools_have_their_own_names() {
    let server = server();

    let wrote = stream(&server, STREAM, &one("write file a.txt", &["run_shell_command", "write_file"])).await;
    let ran = stream(&server, STREAM, &one("run ls", &["run_shell_command", "write_file"])).await;

    let call = |pieces: &[(String, Value)]| pieces[0].1["candidates"][0]["content"]["parts"][0]["functionCall"].clone();
    assert_eq!(call(&wrote), json!({"name": "write_file", "args": {"file_path": "a.txt", "content": "it's\n"}}));
    assert_eq!(call(&ran)["args"]["command"], "ls");
}

#[tokio::test]
async fn the_result_of_a_tool_makes_the_next_step_and_context_is_not_the_users_words() {
    let server = server();
    let mut body = body(&json!([{"text": "<session_context>as json"}]), &["write_file"]);
    let contents = body["contents"].as_array_mut().unwrap();
    contents.insert(0, json!({"role": "user", "parts": [{"text": "write file a.txt"}]}));
    contents.push(json!({"role": "model", "parts": [{"functionCall": {"name": "write_file", "args": {}}}]}));
    let result = json!({"name": "write_file", "response": {"output": "done"}});
    contents.push(json!({"role": "user", "parts": [{"functionResponse": result}]}));

    let answer = whole(&server, WHOLE, &body).await;

    assert_eq!(answer["candidates"][0]["content"]["parts"][0]["text"], "Wrote a.txt.");
    assert!(server.asked().pop().unwrap().tool_output().contains("done"));
}

#[tokio::test]
async fn a_refusal_is_unsafe_and_an_error_has_a_status() {
    let server = server();

    let answer = whole(&server, WHOLE, &one("forbidden", &[])).await;
    let refused = post(&server, STREAM, &one("too fast", &[])).await;

    assert_eq!(answer["candidates"][0]["finishReason"], "SAFETY");
    assert_eq!(refused.status(), 429);
    let error: Value = serde_json::from_str(&refused.text().await.unwrap()).unwrap();
    assert_eq!(error["error"], json!({"code": 429, "message": "slow down", "status": "RESOURCE_EXHAUSTED"}));
}
