//! A job's typed parameters: what a value may be, and its canonical form.

use regex::{Regex, RegexBuilder};
use serde::{Serialize, Serializer};

use crate::text;

/// The longest value a text parameter may ever have.
pub(super) const MAX_LENGTH: usize = 4096;
pub(super) const DEFAULT_LENGTH: usize = 200;
const MAX_PATTERN: usize = 1000;
/// Bounds what one pattern can cost to compile and to match.
const MAX_PATTERN_BYTES: usize = 1 << 20;

#[derive(Clone, PartialEq, Debug, Serialize)]
#[non_exhaustive]
pub struct Param {
    pub name: String,
    #[serde(flatten)]
    pub kind: ParamKind,
    pub required: bool,
    /// In canonical form.
    pub default: Option<String>,
}

#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ParamKind {
    Enum { values: Vec<String> },
    Int { min: Option<i64>, max: Option<i64> },
    String { pattern: Option<Pattern>, max_length: usize },
    Bool,
}

/// A regular expression that must match a whole value.
#[derive(Clone, Debug)]
pub struct Pattern {
    source: String,
    whole: Regex,
}

impl Param {
    /// The canonical form of a value, or what would have been expected.
    pub fn check(&self, value: &str) -> Result<String, String> {
        self.kind.canonical(value).ok_or_else(|| self.kind.expected())
    }
}

impl ParamKind {
    /// The name of the type, as a catalog writes it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Enum { .. } => "enum",
            Self::Int { .. } => "int",
            Self::String { .. } => "string",
            Self::Bool => "bool",
        }
    }

    /// What a value has to be, as the end of a sentence that starts with "expected".
    pub fn expected(&self) -> String {
        match self {
            Self::Enum { values } => format!("one of {}", values.join(", ")),
            Self::Int { min: None, max: None } => "a whole number".to_owned(),
            Self::Int { min: Some(min), max: None } => format!("a whole number of at least {min}"),
            Self::Int { min: None, max: Some(max) } => format!("a whole number of at most {max}"),
            Self::Int { min: Some(min), max: Some(max) } => format!("a whole number from {min} to {max}"),
            Self::String { pattern: Some(pattern), max_length } => {
                format!("text matching {} of at most {max_length} characters", pattern.source)
            }
            Self::String { pattern: None, max_length } => {
                format!("text without control characters of at most {max_length} characters")
            }
            Self::Bool => "true or false".to_owned(),
        }
    }

    pub(super) fn canonical(&self, value: &str) -> Option<String> {
        // Whatever the pattern says: hidden characters would let people approve something else than they read.
        if value.chars().any(text::is_hidden) {
            return None;
        }
        match self {
            Self::Enum { values } => {
                let exact = values.iter().find(|known| *known == value);
                // A phone writes `Prod`; loading made sure that no two values differ in case only.
                exact.or_else(|| values.iter().find(|known| known.eq_ignore_ascii_case(value))).cloned()
            }
            Self::Int { min, max } => {
                let digits = value.strip_prefix('-').unwrap_or(value);
                if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
                    return None;
                }
                let number: i64 = value.parse().ok()?;
                let fits = min.is_none_or(|min| min <= number) && max.is_none_or(|max| number <= max);
                fits.then(|| number.to_string())
            }
            Self::String { pattern, max_length } => {
                let fits = value.chars().count() <= *max_length;
                (fits && pattern.as_ref().is_none_or(|pattern| pattern.matches(value))).then(|| value.to_owned())
            }
            Self::Bool => {
                let is = |words: [&str; 2]| words.iter().any(|word| word.eq_ignore_ascii_case(value));
                if is(["true", "yes"]) {
                    Some("true".to_owned())
                } else if is(["false", "no"]) {
                    Some("false".to_owned())
                } else {
                    None
                }
            }
        }
    }
}

impl Pattern {
    /// Compiles a pattern within limits; the error is one line.
    pub fn compile(source: &str) -> Result<Self, String> {
        if source.len() > MAX_PATTERN {
            return Err(format!("the pattern is longer than {MAX_PATTERN} bytes"));
        }
        let build = |pattern: &str| {
            RegexBuilder::new(pattern)
                .size_limit(MAX_PATTERN_BYTES)
                .dfa_size_limit(MAX_PATTERN_BYTES)
                .nest_limit(50)
                .build()
                .map_err(|error| last_line(&error.to_string()))
        };
        // On its own first, so that `a)|(b` cannot escape from the group that makes it match the whole value.
        build(source)?;
        let whole = build(&format!(r"\A(?:{source})\z"))?;
        Ok(Self { source: source.to_owned(), whole })
    }

    pub fn as_str(&self) -> &str {
        &self.source
    }

    pub fn matches(&self, value: &str) -> bool {
        self.whole.is_match(value)
    }
}

/// The library draws a picture over several lines; its last one says what is wrong.
fn last_line(message: &str) -> String {
    let line = message.lines().last().unwrap_or_default().trim();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Serialize for Pattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn string(pattern: &str) -> ParamKind {
        ParamKind::String { pattern: Some(Pattern::compile(pattern).unwrap()), max_length: 10 }
    }

    #[test]
    fn values_have_one_canonical_form() {
        let env = ParamKind::Enum { values: vec!["staging".to_owned(), "prod".to_owned()] };
        let count = ParamKind::Int { min: Some(-5), max: Some(100) };
        for (kind, value, canonical) in [
            (&env, "prod", Some("prod")),
            (&env, "Prod", Some("prod")),
            (&env, "production", None),
            (&env, "", None),
            (&count, "7", Some("7")),
            (&count, "007", Some("7")),
            (&count, "-0", Some("0")),
            (&count, "-5", Some("-5")),
            (&count, "-6", None),
            (&count, "101", None),
            (&count, "+7", None),
            (&count, "7.0", None),
            (&count, "", None),
            (&count, "-", None),
            (&count, "99999999999999999999", None),
            (&count, "７", None),
            (&ParamKind::Bool, "TRUE", Some("true")),
            (&ParamKind::Bool, "no", Some("false")),
            (&ParamKind::Bool, "1", None),
        ] {
            assert_eq!(kind.canonical(value).as_deref(), canonical, "{value:?}");
        }
    }

    #[test]
    fn a_pattern_matches_the_whole_value() {
        for (pattern, value, fits) in [
            ("[0-9]+", "123", true),
            ("[0-9]+", "x123", false),
            ("[0-9]+", "123\n", false),
            ("^[0-9]+$", "123", true),
            ("a|ab", "ab", true),
            ("a|b", "ac", false),
            ("(?m)^a$", "a\nb", false),
            (".*", "a\u{202e}b", false),
            (".*", "a\0b", false),
            (".*", "12345678901", false),
            (".*", "1234567890", true),
        ] {
            assert_eq!(string(pattern).canonical(value).is_some(), fits, "{pattern} {value:?}");
        }
    }

    #[test]
    fn bad_patterns_are_refused_in_one_line() {
        let huge = format!("(?:{}){{1000}}", "[a-z]{1000}");
        let deep = format!("{}a{}", "(".repeat(100), ")".repeat(100));
        for pattern in ["(", "a)|(b", "[z-a]", "(?x) a # b", "(?=a)", &huge, &deep, &"a".repeat(2000)] {
            let error = Pattern::compile(pattern).unwrap_err();
            assert!(!error.is_empty() && !error.contains('\n'), "{error}");
        }
    }
}
