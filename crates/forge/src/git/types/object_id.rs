//! The name of a git object: 40 or 64 hexadecimal digits.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// An object id in lower case; which of the two lengths it has depends on the repository's object format.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ObjectId(String);

/// Why a text is not an object id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ObjectIdError {
    #[error("an object id has 40 or 64 digits")]
    Length,
    #[error("an object id has only hexadecimal digits")]
    Digit,
    #[error("an object id of zeros names nothing")]
    Zero,
}

impl ObjectIdError {
    pub fn code(self) -> &'static str {
        match self {
            Self::Length => "object_id_length",
            Self::Digit => "object_id_digit",
            Self::Zero => "object_id_zero",
        }
    }
}

impl ObjectId {
    pub fn parse(text: &str) -> Result<Self, ObjectIdError> {
        if !matches!(text.len(), 40 | 64) {
            return Err(ObjectIdError::Length);
        }
        if !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(ObjectIdError::Digit);
        }
        // Git's own sign for "nothing"; as an object it would turn a comparison into a deletion.
        if text.bytes().all(|b| b == b'0') {
            return Err(ObjectIdError::Zero);
        }
        Ok(Self(text.to_ascii_lowercase()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first ten digits, for people.
    pub fn short(&self) -> &str {
        &self.0[..10]
    }

    /// What git writes for "no object" in a repository of the same object format.
    pub(crate) fn zero(&self) -> String {
        "0".repeat(self.0.len())
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ObjectId({})", self.0)
    }
}

impl FromStr for ObjectId {
    type Err = ObjectIdError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl TryFrom<String> for ObjectId {
    type Error = ObjectIdError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl From<ObjectId> for String {
    fn from(id: ObjectId) -> Self {
        id.0
    }
}
