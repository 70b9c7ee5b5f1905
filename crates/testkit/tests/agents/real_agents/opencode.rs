//! opencode, over OpenAI chat completions. A start costs it five seconds of a core, so it has few cases.

use serde_json::{Value, json};

use super::{Place, Ran};

async fn opencode(place: &Place, name: &str, prompt: &str) -> Ran {
    let model = json!({"name": "scripted", "tool_call": true, "limit": {"context": 200_000, "output": 8000},
        "cost": {"input": 1, "output": 2, "cache_read": 0.1}});
    let provider = json!({"npm": "@ai-sdk/openai-compatible", "name": "script",
        "options": {"baseURL": format!("{}/v1", place.server.url()), "apiKey": "key"}, "models": {"scripted": model}});
    let config = json!({"model": "script/scripted", "small_model": "script/scripted", "autoupdate": false,
        "share": "disabled", "provider": {"script": provider}});
    place.lay("opencode.json", &config.to_string());
    let command = place
        .command(&place.agents.opencode())
        .env("OPENCODE_CONFIG", place.home().join("opencode.json"))
        .env("OPENCODE_DISABLE_MODELS_FETCH", "1");
    // A prompt in the arguments would be put into quotes.
    place.run(name, command.args(["run", "--format", "json"]).stdin(prompt)).await
}

#[tokio::test]
async fn its_tools_write_a_file_and_its_steps_count_what_they_cost() {
    let place = Place::new();

    let ran = opencode(&place, "opencode-write", "write file a.txt").await;

    assert_eq!((ran.code, place.file("a.txt").as_deref()), (0, Some("hello\n")), "{ran:?}");
    let texts: Vec<&Value> = ran.having("/type", "text").into_iter().map(|event| &event["part"]["text"]).collect();
    assert_eq!(texts, ["Writing it.", "Done: wrote a.txt."]);
    let steps = ran.having("/type", "step_finish");
    let tokens = &steps[0]["part"]["tokens"];
    assert_eq!((steps.len(), &tokens["input"], &tokens["cache"]["read"]), (2, &json!(200), &json!(1000)));
}

#[tokio::test]
async fn it_tries_again_when_it_is_told_to_slow_down() {
    let place = Place::new();

    let ran = opencode(&place, "opencode-429-recovers", "slow down").await;

    assert_eq!((ran.code, place.statuses()), (0, vec![Some(429), Some(200)]), "{ran:?}");
    assert_eq!(ran.having("/type", "text")[0]["part"]["text"], "Recovered.");
}

#[tokio::test]
async fn a_refusal_is_an_error() {
    let place = Place::new();

    let ran = opencode(&place, "opencode-refusal", "something forbidden").await;

    assert_eq!((ran.code, &ran.last()["error"]["name"]), (1, &json!("ContentFilterError")), "{ran:?}");
}
