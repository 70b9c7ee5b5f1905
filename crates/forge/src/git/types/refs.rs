//! Names of branches and refs, in a grammar far narrower than git's own.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

const MAX_NAME: usize = 200;
/// A full ref is a name behind `refs/heads/` or a place of ours.
const MAX_REF: usize = MAX_NAME + 40;

/// A branch name without `refs/heads/`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BranchName(String);

/// A full ref name, `refs/…`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RefName(String);

/// Why a name was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("the name is empty")]
    Empty,
    #[error("the name is longer than {MAX_NAME} characters")]
    TooLong,
    #[error("the name has a character other than letters, digits, `.`, `_`, `/` and `-`")]
    Character,
    #[error("the name, or a part of it, starts with `-` or `.`")]
    Start,
    #[error("the name, or a part of it, ends with `.` or `.lock`")]
    End,
    #[error("the name has two dots in a row")]
    Dots,
    #[error("the name has an empty part")]
    Slashes,
    #[error("the name looks like an object id")]
    LooksLikeObjectId,
    #[error("the name is not a full ref, starting with `refs/`")]
    NotFull,
    #[error("the name means something else to git")]
    Reserved,
}

impl NameError {
    pub fn code(self) -> &'static str {
        match self {
            Self::Empty => "name_empty",
            Self::TooLong => "name_too_long",
            Self::Character => "name_character",
            Self::Start => "name_start",
            Self::End => "name_end",
            Self::Dots => "name_dots",
            Self::Slashes => "name_slashes",
            Self::LooksLikeObjectId => "name_object_id",
            Self::NotFull => "name_not_full",
            Self::Reserved => "name_reserved",
        }
    }
}

fn check(text: &str, max: usize) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    if text.len() > max {
        return Err(NameError::TooLong);
    }
    if !text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'/' | b'-')) {
        return Err(NameError::Character);
    }
    if text.contains("..") {
        return Err(NameError::Dots);
    }
    for part in text.split('/') {
        if part.is_empty() {
            return Err(NameError::Slashes);
        }
        if part.starts_with(['-', '.']) {
            return Err(NameError::Start);
        }
        // Case-insensitive because the loose ref may lie on a file system that folds case.
        if part.ends_with('.') || part.to_ascii_lowercase().ends_with(".lock") {
            return Err(NameError::End);
        }
    }
    Ok(())
}

impl BranchName {
    pub fn parse(text: &str) -> Result<Self, NameError> {
        check(text, MAX_NAME)?;
        if matches!(text.len(), 40 | 64) && text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(NameError::LooksLikeObjectId);
        }
        // Where a short name is shown, these would read as another ref.
        if text == "HEAD" || text.starts_with("refs/") {
            return Err(NameError::Reserved);
        }
        Ok(Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The branch as a full ref.
    pub fn to_ref(&self) -> RefName {
        RefName(format!("refs/heads/{}", self.0))
    }

    /// Where the mirror keeps what it last fetched of this branch.
    pub fn to_fetched_ref(&self) -> RefName {
        RefName(format!("refs/remotes/origin/{}", self.0))
    }
}

impl RefName {
    pub fn parse(text: &str) -> Result<Self, NameError> {
        check(text, MAX_REF)?;
        match text.strip_prefix("refs/") {
            // Git wants a kind and a name below `refs/`.
            Some(rest) if rest.contains('/') => Ok(Self(text.to_owned())),
            _ => Err(NameError::NotFull),
        }
    }

    /// The ref that keeps an attempt's commit alive.
    pub fn of_attempt(fence: u64) -> Self {
        Self(format!("refs/pilothouse/attempts/{fence}"))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The branch this ref is, if it is one.
    pub fn branch(&self) -> Option<BranchName> {
        self.0.strip_prefix("refs/heads/").and_then(|name| BranchName::parse(name).ok())
    }
}

macro_rules! text_type {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::parse(text)
            }
        }
        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, Self::Error> {
                Self::parse(&text)
            }
        }
        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }
    };
}
text_type!(BranchName);
text_type!(RefName);
