//! A spec's hash: short and inherited on the wire, whole in the ledger.

use sha2::{Digest as _, Sha256};

use crate::digest::{CanonicalError, Digest};

/// The full digest of a spec.
pub fn spec_digest(spec: &serde_json::Value) -> Result<Digest, CanonicalError> {
    Digest::of("protocol-spec", spec)
}

/// The inherited short hash: the first 12 hex digits of SHA-256 over JSON with sorted keys, `,` and `:` without
/// spaces, and everything beyond ASCII escaped.
pub fn spec_hash(spec: &serde_json::Value) -> String {
    let mut text = String::new();
    write_sorted(&mut text, spec);
    let mut ascii = String::with_capacity(text.len());
    for character in text.chars() {
        // DEL is ASCII and is not escaped by the encoder this repeats.
        if character.is_ascii() {
            ascii.push(character);
        } else {
            let mut units = [0; 2];
            for unit in character.encode_utf16(&mut units) {
                ascii.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    let hash = Sha256::digest(ascii.as_bytes());
    hash.iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

fn write_sorted(out: &mut String, value: &serde_json::Value) {
    match value {
        serde_json::Value::Object(entries) => {
            let mut keys: Vec<&String> = entries.keys().collect();
            keys.sort();
            out.push('{');
            for (place, key) in keys.into_iter().enumerate() {
                if place > 0 {
                    out.push(',');
                }
                out.push_str(&serde_json::Value::String(key.clone()).to_string());
                out.push(':');
                write_sorted(out, &entries[key]);
            }
            out.push('}');
        }
        serde_json::Value::Array(items) => {
            out.push('[');
            for (place, item) in items.iter().enumerate() {
                if place > 0 {
                    out.push(',');
                }
                write_sorted(out, item);
            }
            out.push(']');
        }
        plain => out.push_str(&plain.to_string()),
    }
}
