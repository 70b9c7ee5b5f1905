//! Reading what an engine printed without believing in its shape: a field that is not there, or not of its kind, is
//! absent. Nothing here can fail.

use serde_json::Value;

/// The fields of a JSON value that may not be an object.
pub(crate) trait Fields {
    fn text(&self, name: &str) -> Option<&str>;
    fn count(&self, name: &str) -> Option<u64>;
    fn number(&self, name: &str) -> Option<f64>;
    fn truth(&self, name: &str) -> Option<bool>;
    fn items(&self, name: &str) -> &[Value];
    /// Micro-USD of a field in USD.
    fn micro_usd(&self, name: &str) -> Option<u64>;
}

impl Fields for Value {
    fn text(&self, name: &str) -> Option<&str> {
        self.get(name)?.as_str()
    }

    fn count(&self, name: &str) -> Option<u64> {
        self.get(name)?.as_u64()
    }

    fn number(&self, name: &str) -> Option<f64> {
        self.get(name)?.as_f64()
    }

    fn truth(&self, name: &str) -> Option<bool> {
        self.get(name)?.as_bool()
    }

    fn items(&self, name: &str) -> &[Value] {
        self.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the value was checked to lie within what fits"
    )]
    fn micro_usd(&self, name: &str) -> Option<u64> {
        let micro = (self.number(name)? * 1e6).round();
        (micro.is_finite() && (0.0..1e15).contains(&micro)).then_some(micro as u64)
    }
}

/// A value as text: a string as it is, anything else as JSON.
pub(crate) fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// Whether a name can stand in a command line or a configuration without meaning anything else.
pub(crate) fn is_plain_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/' | ':' | '@' | '[' | ']' | '+');
    !name.is_empty() && name.len() <= 200 && !name.starts_with('-') && name.chars().all(plain)
}
