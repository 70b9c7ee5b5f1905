//! Short references: what a person types on a phone to name a run, a gate or a protocol.
//!
//! Seven Crockford base32 characters, kept and sent in upper case without a prefix. On input case does not matter,
//! `I` and `L` are read as `1`, `O` as `0`, and `J-`, `P-` or `G-` in front is accepted; people may be shown it. The
//! caller draws the random bytes, and draws again when the store says that the reference is taken.
//!
//! The first 12 of its 35 bits come from the clock and the rest are random, so that rows made in the same moment lie
//! beside each other in every index that begins with a reference, and one page is written where there were dozens.
//! A reference is no secret: what it names is shown to whoever may see it, and decided by whoever may decide it.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const MIN_LENGTH: usize = 6;
const MAX_LENGTH: usize = 8;

/// Bits of a character.
const BITS: u32 = 5;
const DRAWN_LENGTH: u8 = 7;
/// Bits of a drawn reference that are random.
const RANDOM_BITS: u32 = 23;
/// An instant in microseconds without these bits is a window, of 8.2 ms; windows come round again after 33.6 s.
const WINDOW_BITS: u32 = 13;

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
    /// Makes a reference for an instant from random bytes, of which 23 bits count.
    pub fn drawn(at: Timestamp, random: [u8; 4]) -> Self {
        let random = u64::from(u32::from_le_bytes(random)) & ((1 << RANDOM_BITS) - 1);
        // What lies above the 35 bits falls off with the last character.
        let number = Self::window(at) << RANDOM_BITS | random;
        let mut characters = [0; MAX_LENGTH];
        let places = (0..u32::from(DRAWN_LENGTH)).rev();
        for (character, place) in characters.iter_mut().zip(places) {
            let [low, ..] = (number >> (place * BITS)).to_le_bytes();
            *character = ALPHABET[usize::from(low & 31)];
        }
        Self { characters, length: DRAWN_LENGTH }
    }

    /// The window of an instant: references of one differ in their random bits only.
    pub fn window(at: Timestamp) -> u64 {
        at.as_micros().cast_unsigned() >> WINDOW_BITS
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
