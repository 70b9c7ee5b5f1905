use crate::engine::{Endpoint, Engine, EngineRequest, ErrorClass, Key, Phase, Session, Subject};
use crate::sandbox::Profile;
use serde_json::Value;
use std::path::Path;

fn request() -> EngineRequest {
    let subject = Subject { phase: Phase::Work, step: "01-fix".into(), attempt: 1 };
    EngineRequest::new(subject, "fix it", Path::new("/work"), Path::new("/attempt"))
}

fn argv(request: &EngineRequest) -> String {
    Engine::Gemini.prepare(request).unwrap().argv[4..].join(" ")
}

#[test]
fn a_model_is_always_named_and_the_checkout_trusted() {
    let own = "gemini -m gemini-2.5-pro -o stream-json --skip-trust --approval-mode yolo";
    assert_eq!(argv(&request()), own);
    let asked = EngineRequest { access: Profile::ReadOnly, model: Some("gemini-2.5-flash".into()), ..request() };
    assert_eq!(argv(&asked), "gemini -m gemini-2.5-flash -o stream-json --skip-trust --approval-mode plan");
}

#[test]
fn a_session_is_named_beforehand_or_gone_on_with() {
    assert!(argv(&EngineRequest { session: Session::Preset("u".into()), ..request() }).ends_with(" --session-id u"));
    assert!(argv(&EngineRequest { session: Session::Resume("u".into()), ..request() }).ends_with(" --resume u"));
}

#[test]
fn its_settings_name_the_login_and_keep_the_key_from_its_tools() {
    let asked = EngineRequest {
        endpoint: Endpoint { base_url: Some("http://127.0.0.1:1".into()), key: Some(Key::new("K", "k-1")) },
        max_turns: Some(9),
        ..request()
    };
    let prepared = Engine::Gemini.prepare(&asked).unwrap();
    assert!(prepared.env.contains(&("GEMINI_API_KEY".into(), "k-1".into())));
    assert!(prepared.env.contains(&("GOOGLE_GEMINI_BASE_URL".into(), "http://127.0.0.1:1".into())));
    let file = prepared.files.iter().find(|file| file.path.ends_with(".gemini/settings.json")).unwrap();
    let settings: Value = serde_json::from_slice(&file.content).unwrap();
    assert_eq!(settings["security"]["auth"]["selectedType"], "gemini-api-key");
    assert_eq!(settings["security"]["environmentVariableRedaction"]["enabled"], true);
    assert_eq!(settings["model"]["maxSessionTurns"], 9);
    assert!(!String::from_utf8_lossy(&file.content).contains("k-1"));
}

#[test]
fn the_code_in_the_answer_of_the_api_decides_the_class() {
    let class = |code: u32, text: &str| {
        super::class_of("unknown", &format!("[API Error: {{\"error\":{{\"code\":{code},\"message\":\"{text}\"}}}}]"))
    };
    assert_eq!(class(401, "bad key"), Some(ErrorClass::NotLoggedIn));
    assert_eq!(class(400, "API key not valid"), Some(ErrorClass::BadRequest));
    assert_eq!(class(429, "slow down"), Some(ErrorClass::RateLimit { reset: None }));
    assert_eq!(class(429, "You exceeded your current quota"), Some(ErrorClass::UsageLimit { reset: None }));
    assert_eq!(class(503, "overloaded"), Some(ErrorClass::Server));
    assert_eq!(super::class_of("FatalTurnLimitedError", "too many"), Some(ErrorClass::LimitsReached));
    assert_eq!(super::class_of("unknown", "exception TypeError: fetch failed"), Some(ErrorClass::Network));
}

#[test]
fn only_tools_that_are_listed_are_offered_to_its_model() {
    let core = |request: &EngineRequest| {
        let prepared = Engine::Gemini.prepare(request).unwrap();
        let file = prepared.files.iter().find(|file| file.path.ends_with(".gemini/settings.json")).unwrap();
        serde_json::from_slice::<Value>(&file.content).unwrap()["tools"]["core"].clone()
    };
    let mut listing = request();
    listing.settings.allowed_tools = vec!["read_file".into(), "glob".into()];

    assert_eq!(core(&listing), serde_json::json!(["read_file", "glob"]));
    assert_eq!(core(&request()), Value::Null);
}
