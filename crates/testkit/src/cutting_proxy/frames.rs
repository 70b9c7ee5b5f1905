//! Where a request of PostgreSQL's protocol ends, and where the answer to it does.

use std::io;

use tokio::{io::AsyncReadExt, net::TcpStream};

/// What a client sends up to the point where it waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) bytes: Vec<u8>,
    /// Whether a statement is carried out, as opposed to prepared or closed.
    pub(super) executes: bool,
}

/// Reads requests.
#[derive(Debug, Default)]
pub(super) struct Requests {
    buffer: Vec<u8>,
    has_begun: bool,
}

impl Requests {
    /// The next request; `None` when the client hung up. May be given up and called again.
    pub(super) async fn next(&mut self, client: &mut TcpStream) -> io::Result<Option<Request>> {
        loop {
            if let Some(request) = self.take() {
                return Ok(Some(request));
            }
            if client.read_buf(&mut self.buffer).await? == 0 {
                return Ok(None);
            }
        }
    }

    fn take(&mut self) -> Option<Request> {
        if !self.has_begun {
            // The first message has no kind: it is the start of the session.
            let end = length(&self.buffer)?;
            let bytes = take_front(&mut self.buffer, end)?;
            self.has_begun = true;
            return Some(Request { bytes, executes: false });
        }
        let (mut end, mut executes) = (0, false);
        loop {
            let (kind, length) = message(self.buffer.get(end..)?)?;
            end += length;
            executes |= matches!(kind, b'E' | b'Q');
            // Sync, a simple query, a password, or the end: the client waits, or is gone.
            if matches!(kind, b'S' | b'Q' | b'p' | b'X') {
                return Some(Request { bytes: take_front(&mut self.buffer, end)?, executes });
            }
        }
    }
}

/// Reads answers.
#[derive(Debug, Default)]
pub(super) struct Answers {
    buffer: Vec<u8>,
}

impl Answers {
    /// Everything up to the server's readiness for the next request, or to its end.
    pub(super) async fn whole(mut self, server: &mut TcpStream) -> io::Result<Vec<u8>> {
        let mut end = 0;
        loop {
            while let Some((kind, length)) = self.buffer.get(end..).and_then(message) {
                end += length;
                if kind == b'Z' {
                    return Ok(self.buffer);
                }
            }
            if server.read_buf(&mut self.buffer).await? == 0 {
                return Ok(self.buffer);
            }
        }
    }
}

/// The first message's kind and its whole length, once all of it is there.
fn message(bytes: &[u8]) -> Option<(u8, usize)> {
    let kind = *bytes.first()?;
    let whole = length(bytes.get(1..)?)? + 1;
    (bytes.len() >= whole).then_some((kind, whole))
}

/// The length that a message begins with, which counts itself.
fn length(bytes: &[u8]) -> Option<usize> {
    let length: [u8; 4] = bytes.get(..4)?.try_into().ok()?;
    usize::try_from(u32::from_be_bytes(length)).ok()
}

fn take_front(buffer: &mut Vec<u8>, end: usize) -> Option<Vec<u8>> {
    if buffer.len() < end {
        return None;
    }
    let rest = buffer.split_off(end);
    Some(std::mem::replace(buffer, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap();
        [&[kind][..], &length.to_be_bytes(), body].concat()
    }

    #[test]
    fn requests_end_where_the_client_waits() {
        let start = [&12_u32.to_be_bytes()[..], b"startup!"].concat();
        let prepare = [framed(b'P', b"select"), framed(b'D', b""), framed(b'S', b"")].concat();
        let execute = [framed(b'B', b"S"), framed(b'E', b"Q"), framed(b'S', b"")].concat();
        let mut requests =
            Requests { buffer: [&start[..], &prepare, &execute, &execute[..7]].concat(), has_begun: false };

        for (bytes, executes) in [(start, false), (prepare, false), (execute, true)] {
            assert_eq!(requests.take(), Some(Request { bytes, executes }));
        }
        assert_eq!(requests.take(), None);
    }

    #[test]
    fn a_message_counts_once_it_is_whole() {
        let ready = framed(b'Z', b"I");

        assert_eq!(message(&ready), Some((b'Z', 6)));
        assert_eq!(message(&ready[..5]), None);
        assert_eq!(message(b""), None);
    }
}
