//! Gemini CLI, over Gemini's own dialect.

use serde_json::json;

use super::{Place, Ran};

async fn gemini(place: &Place, name: &str, prompt: &str) -> Ran {
    let settings = json!({"security": {"auth": {"selectedType": "gemini-api-key"}},
        "privacy": {"usageStatisticsEnabled": false}, "telemetry": {"enabled": false},
        "general": {"enableAutoUpdate": false}});
    place.lay(".gemini/settings.json", &settings.to_string());
    let program = place.agents.gemini();
    let command = place
        .command(&program[0])
        .arg(&program[1])
        .env("GOOGLE_GEMINI_BASE_URL", place.server.url())
        .env("GEMINI_API_KEY", "key");
    let fixed = ["-m", "gemini-2.5-flash", "-o", "stream-json", "--approval-mode", "yolo", "--skip-trust", "-p"];
    place.run(name, command.args(fixed).arg(prompt)).await
}

#[tokio::test]
async fn its_tools_write_a_file_and_it_counts_what_that_costs() {
    let place = Place::new();

    let ran = gemini(&place, "gemini-write", "write file a.txt").await;

    assert_eq!((ran.code, place.file("a.txt").as_deref()), (0, Some("hello\n")), "{ran:?}");
    assert_eq!(ran.having("/type", "tool_use")[0]["tool_name"], "write_file");
    let stats = &ran.last()["stats"];
    assert_eq!((&stats["input_tokens"], &stats["cached"]), (&json!(2400), &json!(2000)));
    // What was thought is counted apart from what was said.
    assert_eq!(stats["output_tokens"], 58);
}

#[tokio::test]
async fn it_tries_again_when_it_is_told_to_slow_down() {
    let place = Place::new();

    let ran = gemini(&place, "gemini-429-recovers", "slow down").await;

    assert_eq!((ran.code, place.statuses()), (0, vec![Some(429), Some(200)]), "{ran:?}");
    assert_eq!(ran.last()["status"], "success", "{}", ran.stderr);
}

#[tokio::test]
async fn a_refusal_looks_like_a_success() {
    let place = Place::new();

    let ran = gemini(&place, "gemini-refusal", "something forbidden").await;

    assert_eq!((ran.code, &ran.last()["status"]), (0, &json!("success")), "{ran:?}");
}
