//! OpenAI Responses.

use serde_json::{Value, json};

use super::{joined, post, server, stream, whole};

const PATH: &str = "/v1/responses";

fn body(input: &Value, tools: &Value) -> Value {
    json!({"model": "gpt-5.5", "stream": true, "input": input, "tools": tools})
}

fn says(text: &str) -> Value {
    json!([{"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}])
}

fn shell() -> Value {
    json!([{"type": "function", "name": "exec_command"}, {"type": "web_search"}])
}

#[tokio::test]
async fn text_and_reasoning_are_streamed_item_by_item_and_counted() {
    let server = server();

    let pieces = stream(&server, PATH, &body(&says("say hello"), &json!([]))).await;

    assert_eq!(joined(&pieces, "response.output_text.delta", "/delta"), "Hello from the script.");
    assert_eq!(joined(&pieces, "response.reasoning_summary_text.delta", "/delta"), "A greeting.");
    let numbers: Vec<_> = pieces.iter().map(|(_, data)| data["sequence_number"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (0..pieces.len() as u64).collect::<Vec<_>>());
    let (name, last) = pieces.last().unwrap();
    assert_eq!((name.as_str(), &last["type"]), ("response.completed", &json!("response.completed")));
    let output = last["response"]["output"].as_array().unwrap();
    assert_eq!((&output[0]["type"], &output[1]["type"]), (&json!("reasoning"), &json!("message")));
    assert_eq!(
        last["response"]["usage"],
        json!({"input_tokens": 1200, "input_tokens_details": {"cached_tokens": 1000, "cache_write_tokens": 50},
            "output_tokens": 34, "output_tokens_details": {"reasoning_tokens": 5}, "total_tokens": 1234})
    );
}

#[tokio::test]
async fn a_command_goes_to_the_shell_tool_that_is_offered() {
    let server = server();
    let tools = [
        ("exec_command", r#"{"cmd":"ls"}"#),
        ("shell_command", r#"{"command":"ls"}"#),
        ("shell", r#"{"command":["bash","-lc","ls"]}"#),
    ];
    for (tool, arguments) in tools {
        let offered = json!([{"type": "function", "name": tool}]);

        let answer = stream(&server, PATH, &body(&says("run ls"), &offered)).await.pop().unwrap().1;

        let call = &answer["response"]["output"][0];
        assert_eq!((&call["name"], &call["arguments"]), (&tool.into(), &arguments.into()));
    }
}

#[tokio::test]
async fn a_file_is_a_patch_where_patches_are_taken_as_text() {
    let server = server();
    let offered = json!([{"type": "function", "name": "exec_command"}, {"type": "custom", "name": "apply_patch"}]);

    let answer = stream(&server, PATH, &body(&says("write file a.txt"), &offered)).await.pop().unwrap().1;

    let call = &answer["response"]["output"][0];
    assert_eq!((&call["type"], &call["name"]), (&json!("custom_tool_call"), &json!("apply_patch")));
    assert_eq!(call["input"], "*** Begin Patch\n*** Add File: a.txt\n+it's\n*** End Patch\n");
}

#[tokio::test]
async fn without_a_tool_for_files_the_shell_writes_them() {
    let server = server();

    let answer = stream(&server, PATH, &body(&says("write file a.txt"), &shell())).await.pop().unwrap().1;

    let arguments = answer["response"]["output"][0]["arguments"].as_str().unwrap();
    assert_eq!(
        arguments,
        json!({"cmd": r"printf %s 'it'\''s
' > 'a.txt'"})
        .to_string()
    );
}

#[tokio::test]
async fn the_agents_own_context_is_not_the_users_words() {
    let server = server();
    let input = json!([
        {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "be brief"}]},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "say hello"}]},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "# AGENTS.md instructions"}]},
        {"type": "message", "role": "user",
         "content": [{"type": "input_text", "text": "<environment_context>\n  <cwd>/w</cwd>"}]},
    ]);

    stream(&server, PATH, &body(&input, &json!([]))).await;

    let seen = server.seen().pop().unwrap();
    assert_eq!((seen.prompt(), seen.rule), ("say hello", Some(0)));
}

#[tokio::test]
async fn the_second_call_of_a_turn_is_its_next_step() {
    let server = server();
    let input = json!([
        {"type": "message", "role": "user", "content": "write file a.txt"},
        {"type": "function_call", "name": "exec_command", "call_id": "1", "arguments": "{}"},
        {"type": "function_call", "name": "exec_command", "call_id": "2", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "1", "output": "first"},
        {"type": "function_call_output", "call_id": "2", "output": "second"},
    ]);

    let answer = stream(&server, PATH, &body(&input, &shell())).await.pop().unwrap().1;

    assert_eq!(answer["response"]["output"][0]["content"][0]["text"], "Wrote a.txt.");
    let asked = server.asked().pop().unwrap();
    assert_eq!((asked.step(), asked.tool_output(), asked.model.as_str()), (1, "second", "gpt-5.5"));
}

#[tokio::test]
async fn a_tool_of_a_group_is_called_in_its_group() {
    let server = server();
    let offered = json!([{"type": "namespace", "name": "mcp__house", "tools": [{"type": "function", "name": "Bash"}]}]);

    let answer = stream(&server, PATH, &body(&says("run ls"), &offered)).await.pop().unwrap().1;

    assert_eq!(answer["response"]["output"][0]["namespace"], "mcp__house");
}

#[tokio::test]
async fn a_refusal_is_a_part_of_its_own() {
    let server = server();

    let pieces = stream(&server, PATH, &body(&says("something forbidden"), &json!([]))).await;

    assert_eq!(joined(&pieces, "response.refusal.delta", "/delta"), "I will not.");
    let part = &pieces.last().unwrap().1["response"]["output"][0]["content"][0];
    assert_eq!(part, &json!({"type": "refusal", "refusal": "I will not."}));
}

#[tokio::test]
async fn an_answer_may_be_whole_and_an_error_has_a_code() {
    let server = server();
    let mut hello = body(&says("say hello"), &json!([]));
    hello["stream"] = false.into();

    assert_eq!(whole(&server, PATH, &hello).await["output"][1]["content"][0]["text"], "Hello from the script.");
    let refused = post(&server, PATH, &body(&says("too fast"), &json!([]))).await;
    assert_eq!((refused.status().as_u16(), &refused.headers()["retry-after"]), (429, &"7".parse().unwrap()));
    let error: Value = serde_json::from_str(&refused.text().await.unwrap()).unwrap();
    assert_eq!(error["error"]["message"], "slow down");
    assert_eq!(error["error"]["code"], "rate_limit_error");
}
