//! What texts from outside may hold: line breaks and tabs, but nothing else that is hidden or steers how it is read.

use domain::text::is_hidden;
use serde_json::Value;

/// Joins letters and emoji in several scripts; shows nothing else than it says.
const JOINERS: [char; 2] = ['\u{200c}', '\u{200d}'];

pub(crate) fn is_acceptable(text: &str) -> bool {
    text.chars().all(|c| !is_hidden(c) || matches!(c, '\n' | '\r' | '\t') || JOINERS.contains(&c))
}

/// The first place in a document with a text that is not acceptable, as a JSON pointer.
pub(crate) fn find_unacceptable(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !is_acceptable(text) => Some(String::new()),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .find_map(|(place, item)| find_unacceptable(item).map(|rest| format!("/{place}{rest}"))),
        Value::Object(members) => members.iter().find_map(|(name, member)| match is_acceptable(name) {
            true => find_unacceptable(member).map(|rest| format!("/{name}{rest}")),
            false => Some("/…".to_owned()),
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}

/// How deep a JSON text nests, at most; texts that are no JSON have some depth too.
pub(crate) fn json_depth(text: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let (mut in_string, mut escaped) = (false, false);
    for byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn hidden_characters_are_found_wherever_they_are() {
        assert_eq!(find_unacceptable(&json!({"a": ["x\n\ty", "family: 👨‍👩‍👧"], "b": 1})), None);
        assert_eq!(find_unacceptable(&json!({"a": ["x", "y\u{0}"]})), Some("/a/1".to_owned()));
        assert_eq!(find_unacceptable(&json!({"a": {"b": "\u{202e}"}})), Some("/a/b".to_owned()));
        assert_eq!(find_unacceptable(&json!({"\u{202e}": 1})), Some("/…".to_owned()));
    }

    #[test]
    fn depth_counts_outside_of_strings_only() {
        assert_eq!(json_depth(br#"{"a": [1, {"b": "[[[[\"[["}]}"#), 3);
        assert_eq!(json_depth(&[b'['; 1000]), 1000);
        assert_eq!(json_depth(b"1"), 0);
    }
}
