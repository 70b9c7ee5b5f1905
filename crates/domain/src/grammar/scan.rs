//! Words, pairs and quotes of a message.
//!
//! Phones turn `"` into `“ ”` and `--` into a dash; both are read as what was meant.

use std::borrow::Cow;

use crate::text;

use super::Word;

/// Walks over a message from left to right.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scanner<'a> {
    rest: &'a str,
}

impl<'a> Scanner<'a> {
    pub(crate) fn new(message: &'a str) -> Self {
        Self { rest: message.trim() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next characters up to white space.
    pub(crate) fn word(&mut self) -> Option<&'a str> {
        let word = self.peek()?;
        self.skip(word.len());
        Some(word)
    }

    /// Whether `--` stands here on its own; skips it.
    pub(crate) fn separator(&mut self) -> bool {
        match self.peek() {
            Some(word @ ("--" | "\u{2014}" | "\u{2013}")) => {
                self.skip(word.len());
                true
            }
            _ => false,
        }
    }

    /// The next `key=value`, whose value may be quoted.
    pub(super) fn pair(&mut self) -> Option<(&'a str, String)> {
        let (key, _) = self.peek()?.split_once('=')?;
        self.rest = &self.rest[key.len() + 1..];
        // After the `=` nothing may be skipped: `k= v` is `k` with no value.
        if self.rest.starts_with(char::is_whitespace) {
            self.skip(0);
            return Some((key, String::new()));
        }
        if self.rest.is_empty() {
            return Some((key, String::new()));
        }
        Some((key, self.quoted_or_word()?.into_owned()))
    }

    /// The next word, or what stands between quotes. `None` at the end and for a lone quote.
    pub(crate) fn quoted_or_word(&mut self) -> Option<Word<'a>> {
        let close = match self.rest.chars().next()? {
            '"' => '"',
            '\u{201c}' | '\u{201d}' => '\u{201d}',
            _ => {
                let word = self.word()?;
                return (!word.contains(is_quote)).then_some(Cow::Borrowed(word));
            }
        };
        let mut text = String::new();
        let mut characters = self.rest.char_indices().skip(1);
        while let Some((_, character)) = characters.next() {
            match character {
                '\\' => match characters.next()?.1 {
                    escaped if escaped == '\\' || is_quote(escaped) => text.push(escaped),
                    _ => return None,
                },
                end if end == close => {
                    let after = characters.next().map_or(self.rest.len(), |(place, _)| place);
                    let next = self.rest[after..].chars().next();
                    if next.is_some_and(|c| !c.is_whitespace()) {
                        return None;
                    }
                    self.skip(after);
                    return Some(Cow::Owned(text));
                }
                plain => text.push(plain),
            }
        }
        None
    }

    /// All that is left, as a note; `None` when nothing of it is visible.
    pub(crate) fn note(self) -> Option<String> {
        Some(text::note(self.rest)).filter(|note| !note.is_empty())
    }

    fn peek(&self) -> Option<&'a str> {
        self.rest.split(char::is_whitespace).next().filter(|word| !word.is_empty())
    }

    fn skip(&mut self, length: usize) {
        self.rest = self.rest[length..].trim_start();
    }
}

fn is_quote(character: char) -> bool {
    matches!(character, '"' | '\u{201c}' | '\u{201d}')
}

/// A value as [`Scanner::pair`] reads it back.
pub(super) fn quoted(value: &str) -> Cow<'_, str> {
    let is_plain = |c: char| !c.is_whitespace() && !is_quote(c);
    if !value.is_empty() && value.chars().all(is_plain) {
        return Cow::Borrowed(value);
    }
    Cow::Owned(format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\"")))
}
