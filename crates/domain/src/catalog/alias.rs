//! Other words for a job: `ship {service} {version}`.
//!
//! An alias is a list of words and placeholders that must match a whole message. The first word is literal and does
//! not belong to the grammar, so that an alias can never take a message away from it.

use std::{collections::BTreeMap, fmt};

use serde::{Serialize, Serializer};

use crate::grammar::{self, Scanner};

/// Single words that SMS providers keep for themselves.
const CARRIER_WORDS: [&str; 10] =
    ["stop", "stopall", "unsubscribe", "cancel", "end", "quit", "start", "unstop", "info", "help"];

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Alias {
    slots: Vec<Slot>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Slot {
    /// In lower case.
    Word(String),
    Parameter(String),
}

/// Why a text cannot be an alias.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AliasError {
    #[error("an alias needs at least one word")]
    Empty,
    #[error("an alias starts with a word, not with a placeholder")]
    LeadingPlaceholder,
    #[error("`{0}` belongs to the text commands")]
    Verb(String),
    #[error("SMS providers keep the single word `{0}` for themselves")]
    CarrierWord(String),
    #[error("a placeholder is written `{{name}}` and stands between spaces; words have no braces, quotes, `=` or `--`")]
    Malformed,
    #[error("`{{{0}}}` stands there twice")]
    Repeated(String),
}

impl Alias {
    pub fn parse(text: &str) -> Result<Self, AliasError> {
        let mut slots: Vec<Slot> = Vec::new();
        for word in text.split_whitespace() {
            let slot = match word.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
                Some(name) if grammar::is_key(name) => Slot::Parameter(name.to_owned()),
                None if is_word(word) => Slot::Word(word.to_lowercase()),
                _ => return Err(AliasError::Malformed),
            };
            if let Slot::Parameter(name) = &slot
                && slots.contains(&slot)
            {
                return Err(AliasError::Repeated(name.clone()));
            }
            slots.push(slot);
        }
        match slots.first() {
            None => Err(AliasError::Empty),
            Some(Slot::Parameter(_)) => Err(AliasError::LeadingPlaceholder),
            Some(Slot::Word(word)) if grammar::VERBS.contains(&word.as_str()) => Err(AliasError::Verb(word.clone())),
            Some(Slot::Word(word)) if slots.len() == 1 && CARRIER_WORDS.contains(&word.as_str()) => {
                Err(AliasError::CarrierWord(word.clone()))
            }
            Some(Slot::Word(_)) => Ok(Self { slots }),
        }
    }

    pub fn parameters(&self) -> impl Iterator<Item = &str> {
        self.slots.iter().filter_map(|slot| match slot {
            Slot::Parameter(name) => Some(name.as_str()),
            Slot::Word(_) => None,
        })
    }

    /// The parameters a message gives in the words of this alias, and the reason after `--`.
    pub(super) fn read(&self, message: &str) -> Option<(BTreeMap<String, String>, Option<String>)> {
        let mut rest = Scanner::new(message);
        let mut args = BTreeMap::new();
        for slot in &self.slots {
            match slot {
                Slot::Word(word) => {
                    rest.word().filter(|typed| typed.to_lowercase() == *word)?;
                }
                Slot::Parameter(name) => {
                    if rest.clone().separator() {
                        return None;
                    }
                    args.insert(name.clone(), rest.quoted_or_word()?.into_owned());
                }
            }
        }
        if rest.is_empty() {
            return Some((args, None));
        }
        rest.separator().then(|| (args, rest.note()))
    }

    /// Whether some message could mean both. Placeholders are taken to match any word.
    pub(super) fn collides_with(&self, other: &Self) -> bool {
        self.slots.len() == other.slots.len()
            && self.slots.iter().zip(&other.slots).all(|pair| match pair {
                (Slot::Word(a), Slot::Word(b)) => a == b,
                (Slot::Parameter(_), _) | (_, Slot::Parameter(_)) => true,
            })
    }
}

fn is_word(word: &str) -> bool {
    !matches!(word, "--" | "\u{2013}" | "\u{2014}")
        && !word.contains(['{', '}', '"', '=', '\u{201c}', '\u{201d}'])
        && !word.chars().any(crate::text::is_hidden)
}

impl fmt::Display for Alias {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, slot) in self.slots.iter().enumerate() {
            if place > 0 {
                f.write_str(" ")?;
            }
            match slot {
                Slot::Word(word) => f.write_str(word)?,
                Slot::Parameter(name) => write!(f, "{{{name}}}")?,
            }
        }
        Ok(())
    }
}

impl Serialize for Alias {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alias(text: &str) -> Alias {
        Alias::parse(text).unwrap()
    }

    #[test]
    fn an_alias_reads_the_whole_message() {
        let ship = alias("Ship  {service} {version}");
        let args = |service: &str, version: &str| {
            BTreeMap::from([("service".to_owned(), service.to_owned()), ("version".to_owned(), version.to_owned())])
        };

        assert_eq!(ship.to_string(), "ship {service} {version}");
        assert_eq!(ship.read(" SHIP api 1.9.2 "), Some((args("api", "1.9.2"), None)));
        assert_eq!(ship.read("ship \"the api\" \"\""), Some((args("the api", ""), None)));
        assert_eq!(ship.read("ship api 1 -- fix it"), Some((args("api", "1"), Some("fix it".to_owned()))));
        for other in ["ship", "ship api", "ship api 1 2", "shipp api 1", "ship api \"1", "ship api --", ""] {
            assert_eq!(ship.read(other), None, "{other}");
        }
    }

    #[test]
    fn an_alias_cannot_take_what_belongs_to_others() {
        for (text, error) in [
            ("", AliasError::Empty),
            ("{service} now", AliasError::LeadingPlaceholder),
            ("RUN {service}", AliasError::Verb("run".to_owned())),
            ("lock it", AliasError::Verb("lock".to_owned())),
            ("Stop", AliasError::CarrierWord("stop".to_owned())),
            ("ship v{version}", AliasError::Malformed),
            ("ship {}", AliasError::Malformed),
            ("ship -- now", AliasError::Malformed),
            ("ship a=b", AliasError::Malformed),
            ("ship {a} {a}", AliasError::Repeated("a".to_owned())),
        ] {
            assert_eq!(Alias::parse(text), Err(error), "{text}");
        }
        assert!(Alias::parse("stop everything").is_ok());
    }

    #[test]
    fn aliases_collide_when_one_message_could_mean_both() {
        assert!(alias("ship {a} {b}").collides_with(&alias("ship api {v}")));
        assert!(alias("ship it").collides_with(&alias("SHIP IT")));
        assert!(!alias("ship {a}").collides_with(&alias("ship {a} {b}")));
        assert!(!alias("ship api").collides_with(&alias("ship web")));
    }
}
