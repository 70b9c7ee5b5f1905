//! Who may ask and who may decide, as a catalog names them.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

const MAX_NAME: usize = 100;

/// One entry of `request` or `approve.of`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Principal {
    /// `person:<name>`
    Person(String),
    /// `dev:<name>`: whoever the dev channel knows by that name.
    Dev(String),
    /// `dev:*`: anybody on the dev channel.
    AnyDev,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PrincipalError {
    #[error("groups are not available yet: name each `person:<name>`")]
    GroupLater,
    #[error("expected `person:<name>`, `dev:<name>` or `dev:*`")]
    Unknown,
}

impl Principal {
    /// Whether a person is meant, by name or by one of the identities (`dev:ada`) that are proven to be theirs.
    pub fn matches(&self, person_name: &str, identities: &[String]) -> bool {
        let mut dev_names = identities.iter().filter_map(|identity| identity.strip_prefix("dev:"));
        match self {
            Self::Person(name) => name == person_name,
            Self::Dev(name) => dev_names.any(|dev| dev == name),
            Self::AnyDev => dev_names.next().is_some(),
        }
    }

    /// Whether it can stand for more than one person.
    pub fn is_wildcard(&self) -> bool {
        match self {
            Self::AnyDev => true,
            Self::Person(_) | Self::Dev(_) => false,
        }
    }

    /// Whether it means nobody while the dev channel is off.
    pub fn needs_dev_channel(&self) -> bool {
        match self {
            Self::Dev(_) | Self::AnyDev => true,
            Self::Person(_) => false,
        }
    }
}

impl FromStr for Principal {
    type Err = PrincipalError;

    fn from_str(text: &str) -> Result<Self, PrincipalError> {
        let (kind, name) = text.split_once(':').ok_or(PrincipalError::Unknown)?;
        let is_name = !name.is_empty()
            && name.chars().count() <= MAX_NAME
            && !name.contains('*')
            && !name.chars().any(|c| c.is_whitespace() || crate::text::is_hidden(c));
        match kind {
            "dev" if name == "*" => Ok(Self::AnyDev),
            "dev" if is_name => Ok(Self::Dev(name.to_owned())),
            "person" if is_name => Ok(Self::Person(name.to_owned())),
            "group" | "team" | "role" | "oncall" => Err(PrincipalError::GroupLater),
            _ => Err(PrincipalError::Unknown),
        }
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Person(name) => write!(f, "person:{name}"),
            Self::Dev(name) => write!(f, "dev:{name}"),
            Self::AnyDev => f.write_str("dev:*"),
        }
    }
}

impl Serialize for Principal {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Principal {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn principals_are_read_and_written() {
        for (text, principal) in [
            ("person:owner", Principal::Person("owner".to_owned())),
            ("dev:ada", Principal::Dev("ada".to_owned())),
            ("dev:*", Principal::AnyDev),
        ] {
            assert_eq!(text.parse(), Ok(principal.clone()));
            assert_eq!(principal.to_string(), text);
        }
    }

    #[test]
    fn anything_else_is_refused() {
        assert_eq!("group:eng".parse::<Principal>(), Err(PrincipalError::GroupLater));
        for text in [
            "",
            "owner",
            "person:",
            "person:*",
            "dev:a*",
            "dev:",
            "*",
            "Person:a",
            "person:a b",
            "dev:a\u{202e}b",
            "token:x",
        ] {
            assert_eq!(text.parse::<Principal>(), Err(PrincipalError::Unknown), "{text}");
        }
    }

    #[test]
    fn a_principal_matches_by_name_or_proven_identity() {
        let ada = ["dev:ada".to_owned()];

        assert!(Principal::Person("ada".to_owned()).matches("ada", &[]));
        assert!(!Principal::Person("ada".to_owned()).matches("bob", &ada));
        assert!(Principal::Dev("ada".to_owned()).matches("bob", &ada));
        assert!(!Principal::Dev("ada".to_owned()).matches("ada", &[]));
        assert!(Principal::AnyDev.matches("bob", &ada));
        assert!(!Principal::AnyDev.matches("dev:ada", &["telegram:1".to_owned()]));
    }
}
