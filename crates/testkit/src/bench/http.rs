//! A load of HTTP requests that leaves as much of the machine as it can to the server: one thread, sockets that are kept
//! open, requests that are bytes already, and answers of which only status and length are read.

use std::{
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::bench::{
    load,
    node::Endpoint,
    series::{milliseconds, quantile},
};

/// What came of a load.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answered {
    pub per_second: f64,
    pub p99_ms: f64,
}

/// A connection that is kept open.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    read: Vec<u8>,
}

/// A request as it travels.
pub fn request(endpoint: &Endpoint, method: &str, path: &str, body: &str) -> Vec<u8> {
    let Endpoint { address, token } = endpoint;
    let length = body.len();
    format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\n\
         content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// Keeps so many connections busy for a while, each with its next request once the last was answered; `next` is given
/// the connection and the place of the request on it. Anything but 200 ends the load with the answer's words. Blocks.
pub fn load(
    address: SocketAddr,
    connections: usize,
    span: Duration,
    next: impl Fn(usize, usize) -> Vec<u8> + Clone + 'static,
) -> Result<Answered, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let all = tokio::task::LocalSet::new();
    let latencies = all.block_on(&runtime, async {
        let mut open = Vec::new();
        for _ in 0..connections {
            open.push(Connection::open(address).await.map_err(|error| error.to_string())?);
        }
        let start = host::clock::monotonic();
        // A run-up, so that what is measured is steady.
        let (from, until) = (start + span / 5, start + span + span / 5);
        let callers: Vec<_> = open
            .into_iter()
            .enumerate()
            .map(|(caller, connection)| {
                let next = next.clone();
                tokio::task::spawn_local(one_caller(connection, move |n| next(caller, n), from, until))
            })
            .collect();
        let mut latencies = Vec::new();
        for caller in callers {
            latencies.extend(caller.await.map_err(|error| error.to_string())??);
        }
        Ok::<_, String>(latencies)
    })?;
    let mut ms: Vec<f64> = latencies.iter().map(|latency| milliseconds(*latency)).collect();
    let p99_ms = quantile(&mut ms, 0.99).ok_or("nothing was answered")?;
    Ok(Answered { per_second: load::per_second(latencies.len(), span), p99_ms })
}

async fn one_caller(
    mut connection: Connection,
    next: impl Fn(usize) -> Vec<u8>,
    from: Instant,
    until: Instant,
) -> Result<Vec<Duration>, String> {
    let mut latencies = Vec::new();
    for n in 0.. {
        let request = next(n);
        let begun = host::clock::monotonic();
        let (status, body) = connection.exchange(&request).await.map_err(|error| error.to_string())?;
        let ended = host::clock::monotonic();
        if status != 200 {
            return Err(format!("answered with {status}: {}", String::from_utf8_lossy(body)));
        }
        if ended >= until {
            break;
        }
        if ended >= from {
            latencies.push(ended - begun);
        }
    }
    Ok(latencies)
}

impl Connection {
    pub async fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, read: Vec::with_capacity(16 * 1024) })
    }

    /// Sends one request; the status and the body of its answer, which has to say its length.
    pub async fn exchange(&mut self, request: &[u8]) -> io::Result<(u16, &[u8])> {
        self.stream.write_all(request).await?;
        self.read.clear();
        let mut head = None;
        loop {
            if let Some(Head { status, start, length }) = head
                && self.read.len() >= start + length
            {
                return Ok((status, &self.read[start..start + length]));
            }
            if self.stream.read_buf(&mut self.read).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if head.is_none() {
                head = Head::of(&self.read)?;
            }
        }
    }

    /// The socket, for what answers without an end.
    pub fn into_stream(self) -> TcpStream {
        self.stream
    }
}

/// The beginning of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    status: u16,
    start: usize,
    length: usize,
}

impl Head {
    /// None while there is not enough of it.
    fn of(read: &[u8]) -> io::Result<Option<Self>> {
        let Some(end) = read.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { return Ok(None) };
        let text = std::str::from_utf8(&read[..end]).map_err(|_| io::ErrorKind::InvalidData)?;
        let mut lines = text.split("\r\n");
        let status = lines.next().and_then(|first| first.split(' ').nth(1)?.parse().ok());
        let length = lines.find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
        });
        match (status, length) {
            (Some(status), Some(length)) => Ok(Some(Self { status, start: end + 4, length })),
            (_, _) => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_without_a_length_is_none() {
        let head = Head::of(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();

        assert_eq!(head, Some(Head { status: 200, start: 38, length: 2 }));
        assert_eq!(Head::of(b"HTTP/1.1 200 OK\r\nconte").unwrap(), None);
        assert!(Head::of(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").is_err());
    }
}
