//! Any text: good examples with words exchanged, doubled and spoilt, from a list of words that mean something.

use crate::fuzz::json::{index, spoil};
use crate::random::Random;

/// What has been known to hurt readers of text.
const NASTY: &[&str] = &[
    "",
    " ",
    "\t",
    "\r\n",
    "\0",
    "\u{1b}[2J",
    "\u{202e}",
    "\u{200b}",
    "\u{feff}",
    "é",
    "e\u{301}",
    "İ",
    "ß",
    "\u{1f600}",
    "٣",
    "\"",
    "'",
    "`",
    "\\",
    "=",
    ":",
    "/",
    "//",
    "..",
    "../",
    "@",
    "#",
    "%00",
    "%2e%2e",
    "$(id)",
    "{{",
    "}}",
    "[",
    "]]",
    "-",
    "--",
    "0",
    "-1",
    "99999999999999999999",
    "1e9",
    "NaN",
    "null",
];

/// Good examples, and the words that their readers know.
#[derive(Debug)]
pub struct Samples {
    samples: Vec<String>,
    words: Vec<String>,
}

impl Samples {
    pub fn new<S: Into<String>>(samples: impl IntoIterator<Item = S>, words: &[&str]) -> Self {
        let samples: Vec<String> = samples.into_iter().map(Into::into).collect();
        let own = samples.iter().flat_map(|sample| sample.split_whitespace().map(str::to_owned));
        let words = own.chain(words.iter().map(|&word| word.to_owned())).collect();
        Self { samples, words }
    }

    /// Writes a sample with up to five things wrong with it.
    pub fn draw(&self, random: &mut Random, out: &mut Vec<u8>) {
        if let Some(sample) = random.pick(&self.samples) {
            out.extend_from_slice(sample.as_bytes());
        }
        for _ in 0..random.below(6) {
            let at = index(random, out.len() + 1);
            match random.below(8) {
                0..2 => self.put(random, at, at, out),
                2..4 => {
                    let end = at + index(random, (out.len() - at).min(12) + 1);
                    self.put(random, at, end, out);
                }
                4 => {
                    let nasty = random.pick(NASTY).expect("there are some").as_bytes();
                    out.splice(at..at, nasty.iter().copied());
                }
                5 => {
                    let times = 1 + index(random, 200);
                    let byte = out.get(at).copied().unwrap_or(b'a');
                    out.splice(at..at, std::iter::repeat_n(byte, times));
                }
                _ => spoil(random, 0, out),
            }
        }
    }

    fn put(&self, random: &mut Random, from: usize, to: usize, out: &mut Vec<u8>) {
        let word = random.pick(&self.words).map(String::as_bytes).unwrap_or_default();
        out.splice(from..to, word.iter().copied());
    }
}
