//! A regular expression that a script may hold.

use regex::{Captures, Regex, RegexBuilder};
use serde::Deserialize;

/// Found anywhere in a text; `.` matches newlines too.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Pattern(Regex);

impl Pattern {
    /// A pattern that stands in a test's own code.
    pub(super) fn of(pattern: &str) -> Self {
        Self::try_from(pattern.to_owned()).unwrap_or_else(|error| panic!("{pattern} is no regular expression: {error}"))
    }

    pub(super) fn is_in(&self, text: &str) -> bool {
        self.0.is_match(text)
    }

    /// The match and its groups; a group that took no part is empty.
    pub(super) fn groups(&self, text: &str) -> Option<Vec<String>> {
        let all = |found: Captures<'_>| {
            found.iter().map(|group| group.map_or_else(String::new, |group| group.as_str().to_owned())).collect()
        };
        self.0.captures(text).map(all)
    }
}

impl TryFrom<String> for Pattern {
    type Error = regex::Error;

    fn try_from(pattern: String) -> Result<Self, regex::Error> {
        RegexBuilder::new(&pattern).dot_matches_new_line(true).build().map(Self)
    }
}
