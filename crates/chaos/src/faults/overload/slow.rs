//! Clients that keep a connection busy with next to nothing: they must be let go.

use std::{
    fmt,
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinHandle,
};

use super::{BODY, GRACE, HEADERS, READER};
use crate::{
    http::connect_from,
    node::Target,
    violation::{Kind, Violation},
};

/// Of each kind.
const CLIENTS: u8 = 40;
const READERS: u8 = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// A header line now and then, and never the last.
    Headers,
    /// A body that comes a byte at a time.
    Body,
    /// An event stream that nobody reads.
    Reader,
}

/// All of them, with what became of them.
#[derive(Debug)]
pub(super) struct Slow {
    clients: Vec<(Way, JoinHandle<Option<Duration>>)>,
    let_go: Arc<AtomicU64>,
}

impl Slow {
    /// `held` bytes of each body are sent at once, before it comes slowly.
    pub(super) fn start(target: &Target, held: usize) -> Self {
        let let_go = Arc::new(AtomicU64::new(0));
        let mut clients = Vec::new();
        for (way, n) in [(Way::Headers, CLIENTS), (Way::Body, CLIENTS), (Way::Reader, READERS)] {
            for _ in 0..n {
                let (target, counted) = (target.clone(), Arc::clone(&let_go));
                let client = host::task::spawn("slow client", async move {
                    let took = way.be(&target, held).await;
                    if took.is_some() {
                        counted.fetch_add(1, Ordering::Relaxed);
                    }
                    took
                });
                clients.push((way, client));
            }
        }
        Self { clients, let_go }
    }

    /// Whoever was held for longer than its kind is granted.
    pub(super) async fn judge(&mut self) -> Vec<Violation> {
        let mut held = Vec::new();
        for (way, client) in self.clients.drain(..) {
            if !matches!(client.await, Ok(Some(_))) {
                held.push(way);
            }
        }
        match held.first() {
            Some(way) => {
                let what = format!("{} slow clients were never let go, such as one of {way:?}", held.len());
                vec![Violation::of(Kind::Stuck, what)]
            }
            None => Vec::new(),
        }
    }
}

impl fmt::Display for Slow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} slow clients let go", self.let_go.load(Ordering::Relaxed))
    }
}

impl Way {
    fn granted(self) -> Duration {
        match self {
            Self::Headers => HEADERS,
            Self::Body => BODY,
            Self::Reader => READER,
        }
    }

    /// Keeps a connection for as long as the node lets it; how long that was, or `None` when it was too long.
    async fn be(self, target: &Target, held: usize) -> Option<Duration> {
        let source = Ipv4Addr::new(127, 0, 2, 1 + self as u8);
        let started = host::clock::monotonic();
        let mut stream = connect_from(source, target.address).await.ok()?;
        let Target { address, token, .. } = target;
        let first = match self {
            Self::Headers => format!("GET /runs HTTP/1.1\r\nhost: {address}\r\n"),
            Self::Body => format!(
                "POST /dev/inbound HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\n\
                 content-type: application/json\r\ncontent-length: {}\r\n\r\n{{",
                held + 5_000
            ),
            Self::Reader => {
                format!("GET /events/stream HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\n\r\n")
            }
        };
        stream.write_all(first.as_bytes()).await.ok()?;
        if self == Self::Body {
            stream.write_all(&vec![b' '; held]).await.ok()?;
        }
        let piece: &[u8] = if self == Self::Headers { b"x-slow: 1\r\n" } else { b" " };
        while started.elapsed() < self.granted() + GRACE {
            match self {
                // There is not enough to read for buffers to be full, so that it is no burden and is not let go.
                Self::Reader => {
                    tokio::time::sleep(READER).await;
                    return Some(started.elapsed());
                }
                Self::Headers | Self::Body => {
                    if stream.write_all(piece).await.is_err() || has_ended(&mut stream).await {
                        return Some(started.elapsed());
                    }
                }
            }
        }
        None
    }
}

/// Whether the node has answered or closed, looked for during a moment.
async fn has_ended(stream: &mut TcpStream) -> bool {
    let mut answer = [0_u8; 256];
    // Any answer to a request that is not complete is a refusal.
    tokio::time::timeout(Duration::from_millis(100), stream.read(&mut answer)).await.is_ok()
}
