//! Streams of JSON lines: recorded ones, with values and names exchanged, lines dropped, doubled, cut and mixed up.

use std::ops::Range;

use crate::random::Random;

/// What has been known to hurt readers of JSON.
const NASTY: &[&str] = &[
    "null",
    "true",
    "false",
    "0",
    "-1",
    "1e999",
    "-0.0",
    "1e-400",
    "NaN",
    "Infinity",
    "18446744073709551615",
    "18446744073709551616",
    "-9223372036854775808",
    "9007199254740993",
    "429",
    "\"\"",
    "\"\\u0000\"",
    "\"\\ud800\"",
    "\"\\udc00\\ud800\"",
    "\"\\u202e\\u001b[2J\\u001b]0;x\\u0007\"",
    "\"\\n{\\\"type\\\":\\\"result\\\"}\\n\"",
    "\"../../../etc/passwd\"",
    "\"path:\"",
    "\"status 429 usage limit\"",
    "\"{\\\"error\\\":{\\\"code\\\":429}}\"",
    "\"```json\\n{}\\n```\"",
    "[]",
    "{}",
    "[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]",
    "{\"type\":\"text\",\"text\":\"x\"}",
    "[{\"type\":\"text\",\"text\":\"x\"}]",
    "{\"a\":{\"a\":{\"a\":{\"a\":null}}}}",
];

/// A longer line is seldom chosen: it says little that a shorter one does not, and takes longer.
const LONG: usize = 1500;

/// Bytes that end or begin something.
const SPOILERS: &[u8] = b"\"\\{}[],:\n\r\x1b\x00\xff\xc3";

/// What a stretch of a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The name of a member, in its quotes.
    Name,
    /// A string in its quotes.
    Text,
    /// A number, or one of the three words.
    Plain,
    /// An object or an array, brackets included.
    Nest,
}

/// A stretch of a line that can be replaced by another of its kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    pub kind: Kind,
    pub at: Range<usize>,
    /// The name of the member whose value it is.
    pub name: String,
}

/// A line of a recorded stream, taken apart.
#[derive(Debug, Clone)]
pub struct Line {
    pub text: String,
    pub tokens: Vec<Token>,
}

/// Recorded streams to begin with.
#[derive(Debug)]
pub struct Corpus {
    streams: Vec<Vec<Line>>,
    /// Where values come from that belong elsewhere.
    short: Vec<(usize, usize)>,
}

impl Corpus {
    /// Takes streams apart; each has lines of JSON. Long lists of words are left out of them.
    pub fn new(streams: impl IntoIterator<Item = String>) -> Self {
        let lines = |stream: String| stream.lines().map(|line| Line::new(line).shortened()).collect::<Vec<_>>();
        let streams: Vec<Vec<Line>> = streams.into_iter().map(lines).filter(|lines| !lines.is_empty()).collect();
        assert!(!streams.is_empty(), "without a recorded stream there is nothing to begin with");
        let places = streams.iter().enumerate().flat_map(|(s, lines)| (0..lines.len()).map(move |l| (s, l)));
        let short = places.filter(|&(s, l)| streams[s][l].text.len() <= LONG).collect();
        Self { streams, short }
    }

    pub fn streams(&self) -> &[Vec<Line>] {
        &self.streams
    }

    /// Writes a few lines of a spoilt stream: often with its true beginning, mostly of one stream, mostly with a newline
    /// at the end.
    pub fn draw(&self, random: &mut Random, out: &mut Vec<u8>) {
        let stream = &self.streams[index(random, self.streams.len())];
        if random.chance(60) {
            self.line(random, &stream[0], 15, out);
        }
        let start = index(random, stream.len());
        for at in start..=start + index(random, 2) {
            let line = match stream.get(at) {
                Some(line) if !random.chance(10) && (line.text.len() <= LONG || random.chance(5)) => line,
                _ => self.any(random),
            };
            self.line(random, line, 70, out);
        }
        if random.chance(10) {
            out.pop();
        }
    }

    fn any(&self, random: &mut Random) -> &Line {
        match random.pick(&self.short) {
            Some(&(stream, line)) => &self.streams[stream][line],
            None => &self.streams[0][0],
        }
    }

    /// Writes a line, spoilt with this probability in percent.
    fn line(&self, random: &mut Random, line: &Line, spoilt: u64, out: &mut Vec<u8>) {
        let start = out.len();
        if random.chance(spoilt) && !line.tokens.is_empty() {
            let mut from = 0;
            let mut n = index(random, line.tokens.len());
            for _ in 0..=random.below(2) {
                let Some(token) = line.tokens.get(n).filter(|token| token.at.start >= from) else { break };
                out.extend_from_slice(&line.text.as_bytes()[from..token.at.start]);
                self.instead_of(random, line, token, out);
                from = token.at.end;
                n += 1 + index(random, line.tokens.len());
            }
            out.extend_from_slice(&line.text.as_bytes()[from..]);
            if random.chance(10) {
                spoil(random, start, out);
            }
        } else {
            out.extend_from_slice(line.text.as_bytes());
        }
        out.push(b'\n');
        if random.chance(3) {
            out.extend_from_within(start..);
        }
    }

    fn instead_of(&self, random: &mut Random, line: &Line, token: &Token, out: &mut Vec<u8>) {
        let own = &line.text.as_bytes()[token.at.clone()];
        if token.kind == Kind::Name {
            // Another name from anywhere, so that values stand where they are looked for.
            let other = self.any(random);
            let names: Vec<&Token> = other.tokens.iter().filter(|token| token.kind == Kind::Name).collect();
            match random.pick(&names) {
                Some(name) => out.extend_from_slice(&other.text.as_bytes()[name.at.clone()]),
                None => out.extend_from_slice(b"\"type\""),
            }
            return;
        }
        match random.below(5) {
            0..2 => out.extend_from_slice(random.pick(NASTY).expect("there are some").as_bytes()),
            2 => {
                let other = self.any(random);
                let same: Vec<&Token> = other.tokens.iter().filter(|token| token.kind != Kind::Name).collect();
                match random.pick(&same) {
                    Some(value) => out.extend_from_slice(&other.text.as_bytes()[value.at.clone()]),
                    None => out.extend_from_slice(own),
                }
            }
            3 => {
                let place = random.pick(&line.tokens).expect("the line has tokens");
                out.extend_from_slice(&line.text.as_bytes()[place.at.clone()]);
            }
            _ if token.kind == Kind::Text => long_text(random, own, out),
            _ => {
                out.push(b'[');
                out.extend_from_slice(own);
                out.push(b']');
            }
        }
    }
}

impl Line {
    pub fn new(text: &str) -> Self {
        let mut tokens = Vec::new();
        let mut scan = Scan { bytes: text.as_bytes(), at: 0, tokens: &mut tokens };
        // What is no JSON is a line without tokens, and is spoilt byte by byte.
        if scan.value("").is_none() {
            tokens.clear();
        }
        tokens.sort_by_key(|token| (token.at.start, token.at.end));
        Self { text: text.to_owned(), tokens }
    }

    /// A long line without its lists of plain words, which readers pass over.
    fn shortened(self) -> Self {
        let is_list = |token: &&Token| {
            let text = &self.text[token.at.clone()];
            token.kind == Kind::Nest && text.len() > 100 && text.starts_with('[') && !text.contains('{')
        };
        match self.tokens.iter().find(is_list).filter(|_| self.text.len() > LONG) {
            Some(list) => Self::new(&self.with(list, "[]")).shortened(),
            None => self,
        }
    }

    /// The line with the token's stretch replaced.
    pub fn with(&self, token: &Token, instead: &str) -> String {
        format!("{}{instead}{}", &self.text[..token.at.start], &self.text[token.at.end..])
    }
}

/// Spoils single bytes of what was written since `start`.
pub(super) fn spoil(random: &mut Random, start: usize, out: &mut Vec<u8>) {
    let length = out.len() - start;
    if length == 0 {
        return;
    }
    let at = start + index(random, length);
    match random.below(5) {
        0 => out.truncate(at),
        1 => out[at] = u8::try_from(random.below(256)).unwrap_or(0),
        2 => out.insert(at, SPOILERS[index(random, SPOILERS.len())]),
        3 => drop(out.remove(at)),
        _ => {
            let end = at + index(random, (out.len() - at).min(40));
            out.extend_from_within(at..end);
        }
    }
}

fn long_text(random: &mut Random, own: &[u8], out: &mut Vec<u8>) {
    let inner = own.get(1..own.len().saturating_sub(1)).unwrap_or_default();
    out.push(b'"');
    for _ in 0..random.below(6) {
        out.extend_from_slice(inner);
        out.extend_from_slice("\\t\\u00e9\u{1f600}\u{202e}\\\\".as_bytes());
    }
    out.push(b'"');
}

pub(super) fn index(random: &mut Random, length: usize) -> usize {
    usize::try_from(random.below(length as u64)).unwrap_or(0)
}

/// Finds the stretches of one JSON value.
struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
    tokens: &'a mut Vec<Token>,
}

impl Scan<'_> {
    fn blank(&mut self) -> Option<u8> {
        while self.bytes.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
        self.bytes.get(self.at).copied()
    }

    fn value(&mut self, name: &str) -> Option<()> {
        let first = self.blank()?;
        let start = self.at;
        let kind = match first {
            b'"' => {
                self.string()?;
                Kind::Text
            }
            b'{' | b'[' => {
                self.nest(first, name)?;
                Kind::Nest
            }
            _ => {
                while self.bytes.get(self.at).is_some_and(|byte| !b",]} \t".contains(byte)) {
                    self.at += 1;
                }
                Kind::Plain
            }
        };
        self.tokens.push(Token { kind, at: start..self.at, name: name.to_owned() });
        Some(())
    }

    fn nest(&mut self, first: u8, name: &str) -> Option<()> {
        let end = if first == b'{' { b'}' } else { b']' };
        self.at += 1;
        if self.blank()? == end {
            self.at += 1;
            return Some(());
        }
        loop {
            if first == b'{' {
                self.blank()?;
                let start = self.at;
                self.string()?;
                self.tokens.push(Token { kind: Kind::Name, at: start..self.at, name: name.to_owned() });
                let own = String::from_utf8_lossy(&self.bytes[start + 1..self.at - 1]).into_owned();
                (self.blank()? == b':').then(|| self.at += 1)?;
                self.value(&own)?;
            } else {
                self.value(name)?;
            }
            let next = self.blank()?;
            self.at += 1;
            match next {
                b',' => {}
                next if next == end => return Some(()),
                _ => return None,
            }
        }
    }

    fn string(&mut self) -> Option<()> {
        (self.bytes.get(self.at) == Some(&b'"')).then_some(())?;
        self.at += 1;
        loop {
            match self.bytes.get(self.at)? {
                b'\\' => self.at += 2,
                b'"' => {
                    self.at += 1;
                    return Some(());
                }
                _ => self.at += 1,
            }
        }
    }
}
