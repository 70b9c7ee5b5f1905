use crate::engine::{Endpoint, Engine, EngineRequest, Key, Phase, Prepared, Session, Subject};
use crate::sandbox::Profile;
use serde_json::{Value, json};
use std::path::Path;

fn request() -> EngineRequest {
    let subject = Subject { phase: Phase::Work, step: "01-fix".into(), attempt: 1 };
    EngineRequest {
        model: Some("small".into()),
        endpoint: Endpoint { base_url: Some("http://127.0.0.1:1/v1".into()), key: Some(Key::new("K", "sk-123")) },
        ..EngineRequest::new(subject, "fix it", Path::new("/work"), Path::new("/attempt"))
    }
}

fn prepared(request: &EngineRequest) -> Prepared {
    Engine::Opencode.prepare(request).unwrap()
}

fn config(request: &EngineRequest) -> Value {
    let files = prepared(request).files;
    let file = files.iter().find(|file| file.path.ends_with("opencode.json")).unwrap();
    serde_json::from_slice(&file.content).unwrap()
}

#[test]
fn its_prompt_is_its_input() {
    let argv = |request: &EngineRequest| prepared(request).argv[4..].join(" ");
    assert_eq!(argv(&request()), "opencode run --format json -m pilothouse/small");
    let resumed = EngineRequest { session: Session::Resume("ses_1".into()), ..request() };
    assert_eq!(argv(&resumed), "opencode run --format json -m pilothouse/small -s ses_1");
    let own = EngineRequest { endpoint: Endpoint::default(), model: Some("anthropic/opus".into()), ..request() };
    assert_eq!(argv(&own), "opencode run --format json -m anthropic/opus");
}

#[test]
fn a_schema_is_asked_for_in_words() {
    let asked = EngineRequest { output_schema: Some(json!({"type": "object"})), ..request() };
    let prompt = prepared(&asked).files.into_iter().find(|file| file.path.ends_with("prompt.txt")).unwrap();
    let prompt = String::from_utf8(prompt.content).unwrap();
    assert!(prompt.starts_with("fix it\n") && prompt.contains("{\"type\":\"object\"}"));
}

#[test]
fn the_key_is_not_in_the_environment_that_its_tools_inherit() {
    let prepared = prepared(&request());
    assert!(prepared.env.iter().all(|(_, value)| !value.contains("sk-123")));
    assert_eq!(config(&request())["provider"]["pilothouse"]["options"]["apiKey"], "{file:/attempt/home/model.key}");
    let file = prepared.files.iter().find(|file| file.path == Path::new("/attempt/home/model.key")).unwrap();
    assert_eq!(file.content, b"sk-123");
}

#[test]
fn nothing_is_left_to_be_asked() {
    let permission = |access| config(&EngineRequest { access, ..request() })["permission"].clone();
    let work = permission(Profile::Workspace);
    assert_eq!((&work["bash"], &work["edit"], &work["webfetch"]), (&json!("allow"), &json!("allow"), &json!("deny")));
    let read = permission(Profile::ReadOnly);
    assert_eq!((&read["bash"], &read["edit"]), (&json!("deny"), &json!("deny")));
}

#[test]
fn a_model_has_to_be_named_where_it_is_not_its_own() {
    let error = Engine::Opencode.prepare(&EngineRequest { model: None, ..request() }).unwrap_err();
    assert_eq!(error.to_string(), "engine opencode needs a model");
}
