//! Claude Code, over Anthropic Messages.

use serde_json::json;

use super::{Place, Ran, schema};

async fn claude(place: &Place, name: &str, args: &[&str]) -> Ran {
    let command = place
        .command(&place.agents.claude())
        .env("ANTHROPIC_BASE_URL", place.server.url())
        .env("ANTHROPIC_API_KEY", "key")
        .env("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1")
        .env("DISABLE_AUTOUPDATER", "1")
        .env("CLAUDE_CODE_MAX_RETRIES", "1");
    let fixed = ["--output-format", "stream-json", "--verbose", "--permission-mode", "dontAsk"];
    let allowed = ["--allowedTools", "Bash,Edit,Write,Read"];
    place.run(name, command.arg("-p").args(args.iter().copied()).args(fixed).args(allowed)).await
}

#[tokio::test]
async fn it_says_what_the_script_says_and_counts_what_it_costs() {
    let place = Place::new();

    let ran = claude(&place, "claude-hello", &["say hello"]).await;

    assert_eq!((ran.code, &ran.last()["result"]), (0, &json!("Hello from the script.")), "{ran:?}");
    let usage = &ran.last()["usage"];
    assert_eq!((&usage["input_tokens"], &usage["cache_read_input_tokens"]), (&json!(200), &json!(1000)));
    assert_eq!(usage["output_tokens"], 34);
    assert_eq!(place.server.seen().iter().find(|seen| seen.asked.is_some()).unwrap().header("x-api-key"), "key");
}

#[tokio::test]
async fn its_tools_write_a_file_and_run_a_command() {
    let place = Place::new();

    let wrote = claude(&place, "claude-write", &["write file a.txt"]).await;
    let ran = claude(&place, "claude-command", &["run cat a.txt"]).await;

    assert_eq!((wrote.code, place.file("a.txt").as_deref()), (0, Some("hello\n")), "{wrote:?}");
    assert_eq!((ran.code, &ran.last()["result"]), (0, &json!("It ran.")), "{ran:?}");
    assert!(place.server.asked().last().unwrap().tool_output().contains("hello"));
}

#[tokio::test]
async fn it_tries_again_when_it_is_told_to_slow_down() {
    let place = Place::new();

    let ran = claude(&place, "claude-429-recovers", &["slow down"]).await;

    assert_eq!((ran.code, place.statuses()), (0, vec![Some(429), Some(200)]), "{ran:?}");
    assert_eq!(ran.having("/subtype", "api_retry")[0]["error_status"], 429);
    assert_eq!(ran.last()["result"], "Recovered.");
}

#[tokio::test]
async fn it_asks_for_a_structured_answer_through_a_tool() {
    let place = Place::new();

    let ran = claude(&place, "claude-structured", &["judge it", "--json-schema", &schema().to_string()]).await;

    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(ran.last()["structured_output"], json!({"verdict": "approve", "issues": []}));
    assert!(place.server.asked().last().unwrap().offers("StructuredOutput"));
}

#[tokio::test]
async fn neither_a_refusal_nor_a_cut_stream_is_a_success() {
    let place = Place::new();

    let refused = claude(&place, "claude-refusal", &["something forbidden"]).await;
    let cut = claude(&place, "claude-cut", &["break off"]).await;

    assert_eq!((refused.code, &refused.last()["is_error"]), (1, &json!(true)), "{refused:?}");
    assert_eq!((cut.code, &cut.last()["is_error"]), (1, &json!(true)), "{cut:?}");
}
