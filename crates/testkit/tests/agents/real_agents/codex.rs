//! Codex, over OpenAI Responses.

use serde_json::json;

use super::{Place, Ran, schema};

async fn codex(place: &Place, name: &str, args: &[&str]) -> Ran {
    let config = format!(
        r#"
model = "gpt-5.5"
model_provider = "script"
approval_policy = "never"
check_for_update_on_startup = false
[model_providers.script]
name = "script"
base_url = "{}/v1"
env_key = "SCRIPT_KEY"
wire_api = "responses"
request_max_retries = 1
stream_max_retries = 1
[analytics]
enabled = false
[features]
apps = false
"#,
        place.server.url()
    );
    place.lay("codex/config.toml", &config);
    let command = place.command(&place.agents.codex());
    let command = command.env("CODEX_HOME", place.home().join("codex")).env("SCRIPT_KEY", "key");
    let fixed = ["exec", "--json", "--skip-git-repo-check", "-s", "workspace-write"];
    place.run(name, command.args(fixed).args(args.iter().copied())).await
}

#[tokio::test]
async fn it_says_what_the_script_says_and_counts_what_it_costs() {
    let place = Place::new();

    let ran = codex(&place, "codex-hello", &["say hello"]).await;

    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(ran.having("/item/type", "agent_message")[0]["item"]["text"], "Hello from the script.");
    assert_eq!(ran.having("/item/type", "reasoning")[0]["item"]["text"], "A greeting.");
    let usage = &ran.last()["usage"];
    assert_eq!((&usage["input_tokens"], &usage["cached_input_tokens"]), (&json!(1200), &json!(1000)));
    assert_eq!((&usage["output_tokens"], &usage["reasoning_output_tokens"]), (&json!(34), &json!(5)));
    assert_eq!(place.server.seen()[0].header("authorization"), "Bearer key");
}

#[tokio::test]
async fn its_tools_write_a_file_and_run_a_command() {
    let place = Place::new();

    let wrote = codex(&place, "codex-write", &["write file a.txt"]).await;
    let ran = codex(&place, "codex-command", &["run cat a.txt"]).await;

    assert_eq!((wrote.code, place.file("a.txt").as_deref()), (0, Some("hello\n")), "{wrote:?}");
    let change = wrote.having("/item/type", "file_change").pop().unwrap();
    assert_eq!(change["item"]["status"], "completed");
    let command = ran.having("/item/type", "command_execution").pop().unwrap();
    assert_eq!((&command["item"]["exit_code"], &command["item"]["aggregated_output"]), (&json!(0), &json!("hello\n")));
    let asked = place.server.asked();
    assert_eq!(asked.iter().map(testkit::models::Asked::step).collect::<Vec<_>>(), [0, 1, 0, 1]);
    assert!(asked[3].tool_output().contains("hello"));
}

#[tokio::test]
async fn it_tries_again_when_it_is_told_to_slow_down() {
    let place = Place::new();

    let ran = codex(&place, "codex-429-recovers", &["slow down"]).await;

    assert_eq!((ran.code, place.statuses()), (0, vec![Some(429), Some(200)]), "{ran:?}");
    assert_eq!(ran.having("/item/type", "agent_message")[0]["item"]["text"], "Recovered.");
}

#[tokio::test]
async fn it_asks_for_a_structured_answer_by_its_schema() {
    let place = Place::new();
    let path = place.home().join("schema.json");
    std::fs::write(&path, schema().to_string()).unwrap();

    let ran = codex(&place, "codex-structured", &["--output-schema", path.to_str().unwrap(), "judge it"]).await;

    let text = ran.having("/item/type", "agent_message")[0]["item"]["text"].as_str().unwrap();
    let answer: serde_json::Value = serde_json::from_str(text).unwrap();
    assert_eq!(answer, json!({"verdict": "approve", "issues": []}));
    assert_eq!(place.server.seen()[0].body["text"]["format"]["schema"], schema());
}

#[tokio::test]
async fn a_refusal_leaves_it_without_a_word_and_a_cut_stream_without_success() {
    let place = Place::new();

    let refused = codex(&place, "codex-refusal", &["something forbidden"]).await;
    let cut = codex(&place, "codex-cut", &["break off"]).await;

    assert_eq!((refused.code, refused.having("/item/type", "agent_message").len()), (0, 0), "{refused:?}");
    assert_eq!((cut.code, &cut.last()["type"]), (1, &json!("turn.failed")), "{cut:?}");
}
