//! What a value may be, and how it is written.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use domain::catalog::{parse_duration, parse_size, render_duration};

/// What a key takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Address,
    Text,
    /// A text that is never shown.
    Secret,
    Path,
    Bool,
    Count {
        min: u64,
    },
    /// Bytes: `64KiB`, or a plain number.
    Size,
    /// `90s`, `15m`, `24h`, `7d`.
    Duration,
    /// The same, no shorter than this many milliseconds.
    DurationFrom {
        min_ms: u64,
    },
    /// In the environment separated by commas.
    List,
    Choice(&'static [&'static str]),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Address(SocketAddr),
    Text(String),
    Path(PathBuf),
    Bool(bool),
    Count(u64),
    Duration(Duration),
    List(Vec<String>),
}

impl Kind {
    /// Reads a value as a flag or the environment gives it; the error says what was expected.
    pub(crate) fn parse(self, text: &str) -> Result<Value, String> {
        let wrong = || Err(format!("not {}", self.expected()));
        match self {
            Self::Address => text.parse().map_or_else(|_| wrong(), |address| Ok(Value::Address(address))),
            Self::Text | Self::Secret if text.trim().is_empty() => wrong(),
            Self::Text | Self::Secret => Ok(Value::Text(text.to_owned())),
            Self::Path if text.is_empty() || text.contains('\0') => wrong(),
            Self::Path => Ok(Value::Path(PathBuf::from(text))),
            Self::Bool => match text {
                "true" | "1" => Ok(Value::Bool(true)),
                "false" | "0" => Ok(Value::Bool(false)),
                _ => wrong(),
            },
            Self::Count { min } => match text.parse() {
                Ok(count) if count >= min => Ok(Value::Count(count)),
                _ => wrong(),
            },
            Self::Size => match parse_size(text).or_else(|| text.parse().ok()) {
                Some(size) if size > 0 => Ok(Value::Count(size)),
                _ => wrong(),
            },
            Self::Duration => match parse_duration(text) {
                Some(span) if !span.is_zero() => Ok(Value::Duration(span)),
                _ => wrong(),
            },
            Self::DurationFrom { min_ms } => match parse_duration(text) {
                Some(span) if span >= Duration::from_millis(min_ms) => Ok(Value::Duration(span)),
                _ => wrong(),
            },
            Self::List => Ok(Value::List(
                text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect(),
            )),
            Self::Choice(words) if words.contains(&text) => Ok(Value::Text(text.to_owned())),
            Self::Choice(_) => wrong(),
        }
    }

    /// In words, for messages.
    pub(crate) fn expected(self) -> String {
        match self {
            Self::Address => "ADDRESS:PORT".to_owned(),
            Self::Text | Self::Secret => "a text".to_owned(),
            Self::Path => "a path".to_owned(),
            Self::Bool => "true or false".to_owned(),
            Self::Count { min } => format!("a whole number from {min} on"),
            Self::Size => "a size such as 64KiB".to_owned(),
            Self::Duration => "a span such as 30s, 15m, 24h or 7d".to_owned(),
            Self::DurationFrom { min_ms } => {
                format!("a span such as 30s or 15m, from {} on", render_duration(Duration::from_millis(min_ms)))
            }
            Self::List => "a list of texts".to_owned(),
            Self::Choice(words) => format!("one of {}", words.join(", ")),
        }
    }
}

impl Value {
    pub(crate) fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Bool(truth) => (*truth).into(),
            Self::Count(count) => (*count).into(),
            Self::List(texts) => texts.clone().into(),
            Self::Address(_) | Self::Text(_) | Self::Path(_) | Self::Duration(_) => self.to_string().into(),
        }
    }
}

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Text(text) => f.write_str(text),
            Self::Path(path) => path.display().fmt(f),
            Self::Bool(truth) => truth.fmt(f),
            Self::Count(count) => count.fmt(f),
            Self::Duration(span) => f.write_str(&render_duration(*span)),
            Self::List(texts) => f.write_str(&texts.join(",")),
        }
    }
}
