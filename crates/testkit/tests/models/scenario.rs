//! Scenarios as people write them.

use serde_json::json;
use testkit::models::{ModelServer, Scenario};

use super::{client, stream};

#[test]
fn the_scenario_for_demonstrations_is_understood() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/basic.toml");

    let scenario = Scenario::load(&path).unwrap();

    assert!(scenario.rules.len() > 5);
    assert_eq!((scenario.usage.input, scenario.usage.cache_write), (1200, 0));
}

#[tokio::test]
async fn json_and_toml_say_the_same() {
    let json = Scenario::from_json(
        r#"{"models": ["m"], "rules": [{"when": {"prompt": "say (\\w+)"}, "reply": [{"text": "{{1}}!"}]}]}"#,
    );
    let toml = Scenario::from_toml(
        "models = [\"m\"]\n[[rules]]\nwhen = { prompt = 'say (\\w+)' }\nreply = [{ text = \"{{1}}!\" }]",
    );
    let body = json!({"model": "m", "stream": true, "messages": [{"role": "user", "content": "say yes"}]});

    let mut said = Vec::new();
    for scenario in [json.unwrap(), toml.unwrap()] {
        let server = ModelServer::start(scenario).unwrap();
        let listed = client().get(format!("{}/v1/models", server.url())).send().await.unwrap().text().await.unwrap();
        assert!(listed.contains(r#""id":"m""#), "{listed}");
        said.push(super::joined(&stream(&server, "/v1/chat/completions", &body).await, "", "/choices/0/delta/content"));
    }

    assert_eq!(said, ["yes!", "yes!"]);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let refused = [
        r#"{"rules": [{"when": {"prompt": "("}, "reply": []}]}"#,
        r#"{"rules": [{"when": {"promt": "x"}, "reply": []}]}"#,
        r#"{"rules": [{"reply": [{"sing": "la"}]}]}"#,
        r#"{"rules": [{"reply": [], "hang": true}]}"#,
        r#"{"rules": [{}]}"#,
        r#"{"usage": {"inputs": 1}}"#,
    ];
    for text in refused {
        assert!(Scenario::from_json(text).is_err(), "{text}");
    }
}
