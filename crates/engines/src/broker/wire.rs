//! The little of HTTP/1.1 that a broker speaks: heads taken apart, bodies told from what follows them.

use std::io::{self, Read};

const MAX_HEAD: usize = 128 * 1024;
const MAX_SIZE_LINE: usize = 1024;

/// A request's or an answer's head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    /// The first line.
    pub(super) line: String,
    /// Names in lower case, in their order.
    pub(super) fields: Vec<(String, String)>,
}

/// How much follows a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Length {
    Known(u64),
    Chunked,
    UntilClosed,
}

/// Something that is no HTTP/1.1, or too much of it.
pub(super) fn odd(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

impl Head {
    /// Reads a head and gives back what came behind it; `None` when nothing came at all.
    pub(super) fn read(from: &mut impl Read) -> io::Result<Option<(Self, Vec<u8>)>> {
        let mut read = Vec::new();
        let mut piece = [0; 8192];
        loop {
            let n = match from.read(&mut piece) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                n => n?,
            };
            if n == 0 {
                return if read.is_empty() { Ok(None) } else { Err(odd("a head that breaks off")) };
            }
            let from = read.len().saturating_sub(3);
            read.extend_from_slice(&piece[..n]);
            if let Some(end) = read[from..].windows(4).position(|four| four == b"\r\n\r\n") {
                let behind = read.split_off(from + end + 4);
                return Self::parse(&read).map(|head| Some((head, behind)));
            }
            if read.len() > MAX_HEAD {
                return Err(odd("a head that is too long"));
            }
        }
    }

    fn parse(bytes: &[u8]) -> io::Result<Self> {
        let text = std::str::from_utf8(bytes).map_err(|_| odd("a head that is not UTF-8"))?;
        let mut lines = text.trim_end_matches("\r\n").split("\r\n");
        let line = lines.next().unwrap_or_default().to_owned();
        let mut fields = Vec::new();
        for field in lines {
            let (name, value) = field.split_once(':').ok_or_else(|| odd("a field without a colon"))?;
            let plain = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
            if name.is_empty() || !name.chars().all(plain) || value.contains(['\n', '\r', '\0']) {
                return Err(odd("a field that is none"));
            }
            fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        if line.contains(['\n', '\r', '\0']) {
            return Err(odd("a first line that is none"));
        }
        Ok(Self { line, fields })
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn remove(&mut self, names: &[&str]) {
        self.fields.retain(|(name, _)| !names.contains(&name.as_str()));
    }

    pub(super) fn put(&mut self, name: &str, value: impl Into<String>) {
        self.fields.push((name.to_owned(), value.into()));
    }

    /// How much follows. Two answers to that, or one that is no number, would let two readers disagree.
    pub(super) fn length(&self) -> io::Result<Option<Length>> {
        let all = |wanted: &str| self.fields.iter().filter(|(name, _)| name == wanted).collect::<Vec<_>>();
        match (all("transfer-encoding").as_slice(), all("content-length").as_slice()) {
            ([], []) => Ok(None),
            ([(_, coding)], []) if coding.eq_ignore_ascii_case("chunked") => Ok(Some(Length::Chunked)),
            ([], [(_, n)]) if n.bytes().all(|b| b.is_ascii_digit()) => {
                n.parse().map(|n| Some(Length::Known(n))).map_err(|_| odd("a length that is no number"))
            }
            _ => Err(odd("a length that is not clear")),
        }
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut text = format!("{}\r\n", self.line);
        for (name, value) in &self.fields {
            text += &format!("{name}: {value}\r\n");
        }
        text += "\r\n";
        text.into_bytes()
    }
}

/// Takes a body apart as it comes, and tells where it ends.
#[derive(Debug)]
pub(super) struct Body {
    state: State,
}

#[derive(Debug)]
enum State {
    Left(u64),
    Endless,
    Size(Vec<u8>),
    Chunk(u64),
    /// The line end behind a chunk.
    Behind(u8),
    /// The lines behind the last chunk; how long the present one is.
    Trailer(usize, usize),
    Done,
}

impl Body {
    pub(super) fn new(length: Length) -> Self {
        let state = match length {
            Length::Known(0) => State::Done,
            Length::Known(n) => State::Left(n),
            Length::Chunked => State::Size(Vec::new()),
            Length::UntilClosed => State::Endless,
        };
        Self { state }
    }

    pub(super) fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Whether it may end by the connection being closed.
    pub(super) fn may_be_closed(&self) -> bool {
        matches!(self.state, State::Done | State::Endless)
    }

    /// Takes the next bytes and puts what is content into `content`; how many of them belonged to the body.
    pub(super) fn feed(&mut self, bytes: &[u8], content: &mut Vec<u8>) -> io::Result<usize> {
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            match &mut self.state {
                State::Done => break,
                State::Endless => {
                    content.extend_from_slice(rest);
                    at = bytes.len();
                }
                State::Left(left) | State::Chunk(left) => {
                    let n = usize::try_from(*left).unwrap_or(usize::MAX).min(rest.len());
                    content.extend_from_slice(&rest[..n]);
                    *left -= n as u64;
                    at += n;
                    if *left == 0 {
                        let is_chunk = matches!(self.state, State::Chunk(_));
                        self.state = if is_chunk { State::Behind(2) } else { State::Done };
                    }
                }
                State::Size(line) => {
                    at += 1;
                    match rest[0] {
                        b'\n' => {
                            let size = size_of(line)?;
                            self.state = if size == 0 { State::Trailer(0, 0) } else { State::Chunk(size) };
                        }
                        _ if line.len() >= MAX_SIZE_LINE => return Err(odd("a chunk's size that is too long")),
                        byte => line.push(byte),
                    }
                }
                State::Behind(left) => {
                    if rest[0] != if *left == 2 { b'\r' } else { b'\n' } {
                        return Err(odd("a chunk that does not end where it should"));
                    }
                    at += 1;
                    *left -= 1;
                    if *left == 0 {
                        self.state = State::Size(Vec::new());
                    }
                }
                State::Trailer(length, all) => {
                    at += 1;
                    *all += 1;
                    match rest[0] {
                        b'\n' if *length == 0 => self.state = State::Done,
                        b'\n' => *length = 0,
                        b'\r' => {}
                        _ if *all > MAX_HEAD => return Err(odd("a trailer that is too long")),
                        _ => *length += 1,
                    }
                }
            }
        }
        Ok(at)
    }
}

fn size_of(line: &[u8]) -> io::Result<u64> {
    let text = std::str::from_utf8(line).map_err(|_| odd("a chunk without a size"))?;
    let size = text.split(';').next().unwrap_or_default().trim();
    let digits = !size.is_empty() && size.bytes().all(|b| b.is_ascii_hexdigit());
    match u64::from_str_radix(size, 16) {
        Ok(size) if digits => Ok(size),
        _ => Err(odd("a chunk without a size")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(length: Length, bytes: &[u8], cut: usize) -> (Vec<u8>, bool, usize) {
        let (mut body, mut content, mut used) = (Body::new(length), Vec::new(), 0);
        for piece in bytes.chunks(cut) {
            used += body.feed(piece, &mut content).unwrap();
        }
        (content, body.is_done(), used)
    }

    #[test]
    fn a_head_is_taken_apart_and_what_follows_is_kept() {
        let text: &[u8] = b"POST /v1/responses HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc";
        let (head, behind) = Head::read(&mut &*text).unwrap().unwrap();
        assert_eq!(
            (head.line.as_str(), head.get("host"), behind.as_slice()),
            ("POST /v1/responses HTTP/1.1", Some("x"), &b"abc"[..])
        );
        assert_eq!(head.length().unwrap(), Some(Length::Known(3)));
        assert!(Head::read(&mut &b""[..]).unwrap().is_none());
        for odd in
            [&b"GET / HTTP/1.1\r\nno colon\r\n\r\n"[..], b"GET / HTTP/1.1\r\na b: c\r\n\r\n", b"GET / HTTP/1.1\r\n"]
        {
            assert!(Head::read(&mut &*odd).is_err());
        }
    }

    #[test]
    fn two_lengths_are_none() {
        let length = |fields: &[(&str, &str)]| {
            let fields = fields.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
            Head { line: String::new(), fields }.length().map_err(|_| ())
        };
        assert_eq!(length(&[("transfer-encoding", "chunked")]), Ok(Some(Length::Chunked)));
        assert_eq!(length(&[("content-length", "3"), ("transfer-encoding", "chunked")]), Err(()));
        assert_eq!(length(&[("content-length", "3"), ("content-length", "4")]), Err(()));
        assert_eq!(length(&[("content-length", "+3")]), Err(()));
        assert_eq!(length(&[("transfer-encoding", "gzip, chunked")]), Err(()));
    }

    #[test]
    fn a_body_ends_where_it_says_wherever_it_is_cut() {
        let chunked = b"3\r\nabc\r\n5;x=y\r\ndefgh\r\n0\r\nTrailer: x\r\n\r\nNEXT";
        for cut in 1..chunked.len() {
            let (told, done, used) = content(Length::Chunked, chunked, cut);
            assert_eq!((told.as_slice(), done, used), (&b"abcdefgh"[..], true, chunked.len() - 4), "{cut}");
            assert_eq!(content(Length::Known(4), b"abcdNEXT", cut), (b"abcd".to_vec(), true, 4));
        }
        assert_eq!(content(Length::UntilClosed, b"abc", 2), (b"abc".to_vec(), false, 3));
        for odd in [&b"x\r\n"[..], b"\r\n", b"-1\r\n", b"1\r\nab\r\n", b"fffffffffffffffff\r\n"] {
            assert!(Body::new(Length::Chunked).feed(odd, &mut Vec::new()).is_err());
        }
    }
}
