//! Facts on a timeline: the new shape, and the inherited one.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::projects::without_password;

/// An immutable fact. Its cursor continues a list or a stream behind it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct EventView {
    pub id: i64,
    pub cursor: String,
    /// `run:7Q4K2MA`, `protocol:3`, `project:1`
    pub subject: String,
    /// The subject's version that the event led to, and its place among those that led there together.
    pub version: i64,
    pub place: i16,
    #[serde(rename = "type")]
    pub kind: String,
    /// One line for people.
    pub message: String,
    pub at: String,
    /// `user:dev:alice`, `worker:…` or `system`
    pub actor: String,
    pub project_id: Option<i64>,
    pub step_id: Option<i64>,
    /// What happened, without secrets.
    #[schema(value_type = Object)]
    pub data: Value,
}

/// An event in the inherited shape.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct InheritedEvent {
    pub id: i64,
    pub protocol_run_id: Option<i64>,
    pub step_run_id: Option<i64>,
    pub event_type: String,
    pub message: String,
    #[schema(value_type = Object)]
    pub metadata: Value,
    /// `YYYY-MM-DD HH:MM:SS` in UTC.
    pub created_at: String,
    pub protocol_name: Option<String>,
    pub project_id: Option<i64>,
    pub project_name: Option<String>,
    /// What it is about: `run:7Q4K2MA`, `protocol:3`, `project:1`
    pub subject: String,
    pub actor: String,
}

/// Either shape: the array without `subject` and `after`, the page with one of them.
#[derive(Clone, PartialEq, Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub enum EventList {
    Inherited(Vec<InheritedEvent>),
    Page(crate::Page<EventView>),
}

/// Members that never leave the server: they would let a reader act.
const SECRET: [&str; 6] = ["nonce", "secret_hash", "api_token_hash", "secrets", "secret", "token_hash"];

/// The data of an event as it may be shown.
pub fn shown_data(data: &str) -> Value {
    let mut value = serde_json::from_str(data).unwrap_or(Value::Null);
    redact(&mut value);
    value
}

fn redact(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|name, _| !SECRET.contains(&name.as_str()));
            if let Some(Value::String(address)) = members.get_mut("git_url") {
                *address = without_password(address);
            }
            members.values_mut().for_each(redact);
        }
        Value::Array(items) => items.iter_mut().for_each(redact),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// One line that says what happened, from what the event itself says.
pub fn message_of(kind: &str, data: &Value) -> String {
    let text = |name: &str| find(data, name, 3).and_then(Value::as_str).filter(|text| !text.is_empty());
    let words = words_of(kind);
    match text("message").or_else(|| text("summary")).or_else(|| text("why")).or_else(|| text("reason")) {
        Some(detail) => format!("{words}: {}", domain::text::note(detail)),
        None => words,
    }
}

/// `ExecutionStarted` and `execution_started` both read `Execution started`.
fn words_of(kind: &str) -> String {
    let mut words = String::with_capacity(kind.len() + 4);
    for (place, character) in kind.chars().enumerate() {
        match character {
            '_' => words.push(' '),
            c if c.is_ascii_uppercase() && place > 0 => {
                words.push(' ');
                words.push(c.to_ascii_lowercase());
            }
            c if place == 0 => words.push(c.to_ascii_uppercase()),
            c => words.push(c),
        }
    }
    words
}

/// Whole documents inside an event: what they say is not what happened.
const DOCUMENTS: [&str; 6] = ["protocol", "project", "spec", "steps", "job", "gate"];

/// The member of that name, at most `depth` objects deep.
fn find<'v>(value: &'v Value, name: &str, depth: u8) -> Option<&'v Value> {
    let members = value.as_object()?;
    match members.get(name) {
        Some(found) => Some(found),
        None if depth > 0 => members
            .iter()
            .filter(|(inner, _)| !DOCUMENTS.contains(&inner.as_str()))
            .find_map(|(_, inner)| find(inner, name, depth - 1)),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_would_let_a_reader_act_is_left_out_at_any_depth() {
        let data = json!({"attempt": {"nonce": "n", "worker": "w", "more": [{"secret_hash": "h", "x": 1}]},
            "project": {"git_url": "https://u:p@h/x"}});

        let shown = json!({"attempt": {"worker": "w", "more": [{"x": 1}]}, "project": {"git_url": "https://…@h/x"}});
        assert_eq!(shown_data(&data.to_string()), shown);
    }

    #[test]
    fn an_event_reads_as_one_line() {
        assert_eq!(message_of("ExecutionStarted", &json!({})), "Execution started");
        assert_eq!(message_of("setup_failed", &json!({"reason": "no\nsuch"})), "Setup failed: no such");
        assert_eq!(message_of("RunDenied", &json!({"change": {"reason": "not today"}})), "Run denied: not today");
        assert_eq!(message_of("protocol_created", &json!({"protocol": {"summary": "x"}})), "Protocol created");
    }
}
