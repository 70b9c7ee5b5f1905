//! Takes known secrets out of what a stranger writes, in every form that programs commonly give them.
//!
//! What is found is exact: the secret itself, in base64 at any place of a longer text, in hexadecimal, percent-encoded,
//! escaped for JSON, and base64 broken into lines. It works on pieces cut anywhere and remembers only what may be the
//! beginning of a secret.

use aho_corasick::{AhoCorasick, MatchKind};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use std::fmt::Write;

/// What stands in a secret's place.
pub const REDACTED: &[u8] = b"[redacted]";

/// A shorter text is too likely to stand for something else.
const SHORTEST: usize = 8;
/// Where programs break base64 into lines.
const WIDTHS: [usize; 2] = [64, 76];

/// Takes secrets out of one stream.
#[derive(Debug)]
pub struct Redactor {
    /// `None` when there is nothing to look for.
    search: Option<Search>,
    held: Vec<u8>,
}

struct Search {
    automaton: AhoCorasick,
    /// Sorted, so that a beginning is looked up quickly.
    patterns: Vec<Vec<u8>>,
    longest: usize,
}

impl std::fmt::Debug for Search {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Search").field("patterns", &self.patterns.len()).finish_non_exhaustive()
    }
}

impl Redactor {
    /// A redactor for these secrets; those of less than eight bytes are left out.
    pub fn new<S: AsRef<str>>(secrets: impl IntoIterator<Item = S>) -> Self {
        let mut patterns = Vec::new();
        for secret in secrets {
            let secret = secret.as_ref().trim();
            if secret.len() >= SHORTEST {
                forms(secret, &mut patterns);
            }
        }
        patterns.sort();
        patterns.dedup();
        let built = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(&patterns);
        let search = (!patterns.is_empty()).then(|| Search {
            automaton: built.expect("a few hundred short patterns are within the automaton's limits"),
            longest: patterns.iter().map(Vec::len).max().unwrap_or(0),
            patterns,
        });
        Self { search, held: Vec::new() }
    }

    /// Takes the next piece and gives back what is known to hold no secret.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<u8> {
        let Some(search) = &self.search else { return bytes.to_vec() };
        self.held.extend_from_slice(bytes);
        let undecided = search.undecided(&self.held);
        let (out, end) = search.replace(&self.held, undecided);
        self.held.drain(..end);
        out
    }

    /// Gives back what was held in case more would come, and is then ready for the next stream.
    pub fn finish(&mut self) -> Vec<u8> {
        let held = std::mem::take(&mut self.held);
        match &self.search {
            Some(search) => search.replace(&held, held.len()).0,
            None => held,
        }
    }

    /// Takes the secrets out of a whole text.
    pub fn redact(&mut self, text: &str) -> String {
        let mut out = self.feed(text.as_bytes());
        out.extend(self.finish());
        // Patterns are ASCII or whole characters, so what is left is whole characters, too.
        String::from_utf8_lossy(&out).into_owned()
    }
}

impl Search {
    /// Where the text ends that may still become a secret.
    fn undecided(&self, held: &[u8]) -> usize {
        let first = held.len().saturating_sub(self.longest.saturating_sub(1));
        (first..held.len()).find(|&start| self.begins(&held[start..])).unwrap_or(held.len())
    }

    /// Whether some pattern begins like this and goes on.
    fn begins(&self, text: &[u8]) -> bool {
        let at = self.patterns.partition_point(|pattern| pattern.as_slice() <= text);
        self.patterns.get(at).is_some_and(|pattern| pattern.starts_with(text))
    }

    /// What becomes of the text up to `limit`, and where it ended: a secret is replaced as a whole.
    fn replace(&self, text: &[u8], limit: usize) -> (Vec<u8>, usize) {
        let mut out = Vec::with_capacity(limit);
        let mut done = 0;
        for found in self.automaton.find_iter(text) {
            // What begins within the undecided part may turn out to be longer.
            if found.start() >= limit {
                break;
            }
            out.extend_from_slice(&text[done..found.start()]);
            out.extend_from_slice(REDACTED);
            done = found.end();
        }
        if done < limit {
            out.extend_from_slice(&text[done..limit]);
            done = limit;
        }
        (out, done)
    }
}

/// All forms in which a secret is looked for.
fn forms(secret: &str, patterns: &mut Vec<Vec<u8>>) {
    let bytes = secret.as_bytes();
    patterns.push(bytes.to_vec());
    patterns.push(crate::text::clean(secret).into_bytes());
    for upper in [false, true] {
        let mut hex = String::new();
        let mut percent = String::new();
        for &byte in bytes {
            let _ = if upper { write!(hex, "{byte:02X}") } else { write!(hex, "{byte:02x}") };
            let _ = match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                    write!(percent, "{}", char::from(byte))
                }
                _ if upper => write!(percent, "%{byte:02X}"),
                _ => write!(percent, "%{byte:02x}"),
            };
        }
        patterns.push(hex.into_bytes());
        patterns.push(percent.into_bytes());
    }
    let mut escaped = secret.to_owned();
    for _ in 0..2 {
        // Once in a document, twice in a document inside a string.
        escaped = escape(&escaped);
        patterns.push(escaped.clone().into_bytes());
        patterns.push(escaped.replace('/', "\\/").into_bytes());
    }
    for offset in 0..3 {
        for encoded in [inside(&STANDARD_NO_PAD, bytes, offset), inside(&URL_SAFE_NO_PAD, bytes, offset)] {
            if encoded.len() < SHORTEST {
                continue;
            }
            for width in WIDTHS {
                for break_at in 1..encoded.len().min(width) {
                    for newline in ["\n", "\\n"] {
                        patterns.push(broken(&encoded, break_at, width, newline));
                    }
                }
            }
            patterns.push(encoded);
        }
    }
    patterns.retain(|pattern| !pattern.is_empty());
}

/// The part of a longer text's base64 that depends on the secret alone, when `offset` bytes stand before it in its group.
fn inside(engine: &impl Engine, secret: &[u8], offset: usize) -> Vec<u8> {
    let mut group = vec![0; offset];
    group.extend_from_slice(secret);
    let encoded = engine.encode(&group).into_bytes();
    // A character stands for six bits: those at either end share theirs with what is beside the secret.
    let first = (offset * 8).div_ceil(6);
    let last = group.len() * 8 / 6;
    encoded[first.min(encoded.len())..last.min(encoded.len())].to_vec()
}

/// Base64 with a line's end after `first` characters and then after every `width`.
fn broken(encoded: &[u8], first: usize, width: usize, newline: &str) -> Vec<u8> {
    let mut out = encoded[..first].to_vec();
    for line in encoded[first..].chunks(width) {
        out.extend_from_slice(newline.as_bytes());
        out.extend_from_slice(line);
    }
    out
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if c.is_ascii_control() => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests;
