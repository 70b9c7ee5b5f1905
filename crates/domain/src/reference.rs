//! Short references: what a person types on a phone to name a run, a gate or a protocol.
//!
//! Seven Crockford base32 characters, kept and sent in upper case without a prefix. On input case does not matter,
//! `I` and `L` are read as `1`, `O` as `0`, and `J-`, `P-` or `G-` in front is accepted; people may be shown it. The
//! caller draws the random bytes, and draws again when the store says that the reference is taken.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const MIN_LENGTH: usize = 6;
const MAX_LENGTH: usize = 8;

/// A parsed short reference.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ref {
    /// Zero beyond `length`, so that the derived order is the order of the texts.
    characters: [u8; MAX_LENGTH],
    length: u8,
}

/// Why a text is not a reference. The text itself may be hostile and is not repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RefError {
    #[error("a reference has {MIN_LENGTH} to {MAX_LENGTH} characters, this one has {found}")]
    Length { found: usize },
    #[error("character {place} cannot be part of a reference, which has digits and letters other than U only")]
    Character { place: usize },
}

impl Ref {
    /// How many random bytes a new reference takes, one for each of its characters.
    pub const RANDOM_BYTES: usize = 7;

    /// Makes a reference from random bytes; every reference is equally likely.
    pub fn from_random(bytes: [u8; Self::RANDOM_BYTES]) -> Self {
        let mut characters = [0; MAX_LENGTH];
        for (character, byte) in characters.iter_mut().zip(bytes) {
            *character = ALPHABET[usize::from(byte & 31)];
        }
        Self { characters, length: 7 }
    }

    /// Reads a reference as people type it.
    pub fn parse(text: &str) -> Result<Self, RefError> {
        let (skipped, body) = match text.as_bytes() {
            [b'J' | b'j' | b'P' | b'p' | b'G' | b'g', b'-', ..] => (2, &text[2..]),
            _ => (0, text),
        };
        let found = body.chars().count();
        if !(MIN_LENGTH..=MAX_LENGTH).contains(&found) {
            return Err(RefError::Length { found });
        }
        let mut characters = [0; MAX_LENGTH];
        for (index, typed) in body.chars().enumerate() {
            characters[index] = read(typed).ok_or(RefError::Character { place: skipped + index + 1 })?;
        }
        Ok(Self { characters, length: u8::try_from(found).unwrap_or(u8::MAX) })
    }

    pub fn as_str(&self) -> &str {
        let used = self.characters.get(..usize::from(self.length)).unwrap_or(&self.characters);
        std::str::from_utf8(used).unwrap_or_default()
    }
}

fn read(typed: char) -> Option<u8> {
    let upper = u8::try_from(typed.to_ascii_uppercase()).ok()?;
    match upper {
        b'I' | b'L' => Some(b'1'),
        b'O' => Some(b'0'),
        _ => ALPHABET.contains(&upper).then_some(upper),
    }
}

impl fmt::Display for Ref {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Ref {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Ref {
    type Err = RefError;

    fn from_str(text: &str) -> Result<Self, RefError> {
        Self::parse(text)
    }
}

impl Serialize for Ref {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Ref {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests;
