//! What something is, in 32 bytes: SHA-256 over RFC 8785 canonical JSON behind a domain tag.
//!
//! Equal values have equal digests whatever the order of their keys, and values of two domains never share one: the
//! tag is part of what is hashed. [`canonical`] departs from RFC 8785 in one point: integers beyond 2^53 are written
//! exactly and not as the nearest double, so that two different ids cannot share a digest.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use serde_json::{Number, Value};
use sha2::{Digest as _, Sha256};

/// Deeper values are refused instead of overflowing the stack.
const MAX_DEPTH: usize = 128;
const HEX: &[u8; 16] = b"0123456789abcdef";

/// A SHA-256 digest; prints as 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

/// Why a value has no canonical form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CanonicalError {
    #[error("the value is nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
    #[error("the number {0} has no canonical form")]
    Number(String),
}

/// Why a text is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a digest has 64 hex digits")]
pub struct DigestError;

impl Digest {
    /// The digest of a JSON value in the domain that `tag` names.
    pub fn of(tag: &str, value: &Value) -> Result<Self, CanonicalError> {
        Ok(Self::of_bytes(tag, canonical(value)?.as_bytes()))
    }

    /// The digest of plain bytes in the domain that `tag` names.
    pub fn of_bytes(tag: &str, bytes: &[u8]) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(format!("pilothouse:{tag}:v1\n").as_bytes());
        hasher.update(bytes);
        Self(hasher.finalize().into())
    }

    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Its 64 hex digits, in lower case.
    fn digits(&self) -> [u8; 64] {
        let mut digits = [0; 64];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(self.0) {
            pair[0] = HEX[usize::from(byte >> 4)];
            pair[1] = HEX[usize::from(byte & 15)];
        }
        digits
    }

    /// The first 32 bits as people compare them: `4e7a-91c0`. Never a key.
    pub fn short(&self) -> String {
        let [a, b, c, d, ..] = self.0;
        format!("{a:02x}{b:02x}-{c:02x}{d:02x}")
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.digits()).unwrap_or_default())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let digits = text.as_bytes();
        if digits.len() != 64 {
            return Err(DigestError);
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = hex_digit(pair[0])? << 4 | hex_digit(pair[1])?;
        }
        Ok(Self(bytes))
    }
}

fn hex_digit(digit: u8) -> Result<u8, DigestError> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        b'A'..=b'F' => Ok(digit - b'A' + 10),
        _ => Err(DigestError),
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(std::str::from_utf8(&self.digits()).unwrap_or_default())
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The canonical JSON text of a value.
pub fn canonical(value: &Value) -> Result<String, CanonicalError> {
    let mut text = String::new();
    write_value(&mut text, value, 0)?;
    Ok(text)
}

fn write_value(out: &mut String, value: &Value, depth: usize) -> Result<(), CanonicalError> {
    if depth > MAX_DEPTH {
        return Err(CanonicalError::TooDeep);
    }
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(true) => out.push_str("true"),
        Value::Bool(false) => out.push_str("false"),
        Value::Number(number) => write_number(out, number)?,
        Value::String(text) => write_string(out, text),
        Value::Array(items) => {
            out.push('[');
            for (place, item) in items.iter().enumerate() {
                if place > 0 {
                    out.push(',');
                }
                write_value(out, item, depth + 1)?;
            }
            out.push(']');
        }
        Value::Object(members) => {
            // The standard sorts by UTF-16 code units, which differs from Rust's order beyond the basic plane.
            let mut sorted: Vec<_> = members.iter().collect();
            sorted.sort_unstable_by(|(a, _), (b, _)| match a.is_ascii() && b.is_ascii() {
                true => a.cmp(b),
                false => a.encode_utf16().cmp(b.encode_utf16()),
            });
            out.push('{');
            for (place, (key, member)) in sorted.into_iter().enumerate() {
                if place > 0 {
                    out.push(',');
                }
                write_string(out, key);
                out.push(':');
                write_value(out, member, depth + 1)?;
            }
            out.push('}');
        }
    }
    Ok(())
}

fn write_number(out: &mut String, number: &Number) -> Result<(), CanonicalError> {
    if number.is_i64() || number.is_u64() {
        out.push_str(&number.to_string());
        return Ok(());
    }
    match number.as_f64() {
        Some(float) if float.is_finite() => write_float(out, float),
        _ => return Err(CanonicalError::Number(number.to_string())),
    }
    Ok(())
}

/// Writes a finite double as ECMAScript's `Number::toString` does.
fn write_float(out: &mut String, float: f64) {
    if float == 0.0 {
        return out.push('0');
    }
    if float < 0.0 {
        out.push('-');
    }
    // The shortest digits that read back as the same double, ties to even: the same in both languages.
    let shortest = Number::from_f64(float.abs()).map(|number| number.to_string()).unwrap_or_default();
    let (mantissa, exponent) = shortest.split_once('e').unwrap_or((&shortest, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all = format!("{whole}{fraction}");
    let significant = all.trim_start_matches('0');
    let digits = significant.trim_end_matches('0');
    // Where the decimal point stands, counted from the first significant digit.
    let point = length(whole) + exponent.parse().unwrap_or(0) - length(&all) + length(significant);
    let n_digits = length(digits);
    let zeros = |count: i32| "0".repeat(usize::try_from(count).unwrap_or(0));
    if n_digits <= point && point <= 21 {
        out.push_str(digits);
        out.push_str(&zeros(point - n_digits));
    } else if 0 < point && point <= 21 {
        let (whole, fraction) = digits.split_at(usize::try_from(point).unwrap_or(0));
        out.push_str(whole);
        out.push('.');
        out.push_str(fraction);
    } else if -6 < point && point <= 0 {
        out.push_str("0.");
        out.push_str(&zeros(-point));
        out.push_str(digits);
    } else {
        let (first, rest) = digits.split_at(1);
        out.push_str(first);
        if !rest.is_empty() {
            out.push('.');
            out.push_str(rest);
        }
        out.push_str(&format!("e{:+}", point - 1));
    }
}

fn length(digits: &str) -> i32 {
    i32::try_from(digits.len()).unwrap_or(i32::MAX)
}

fn write_string(out: &mut String, text: &str) {
    out.push('"');
    let mut rest = text;
    // Mostly there is nothing to escape, and the text is taken over as it is.
    while let Some(at) = rest.bytes().position(|byte| byte < b' ' || byte == b'"' || byte == b'\\') {
        let (plain, special) = rest.split_at(at);
        out.push_str(plain);
        let (special, behind) = special.split_at(1);
        rest = behind;
        match special.as_bytes()[0] {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            8 => out.push_str("\\b"),
            b'\t' => out.push_str("\\t"),
            b'\n' => out.push_str("\\n"),
            12 => out.push_str("\\f"),
            b'\r' => out.push_str("\\r"),
            control => out.push_str(&format!("\\u{control:04x}")),
        }
    }
    out.push_str(rest);
    out.push('"');
}

#[cfg(test)]
mod tests;
