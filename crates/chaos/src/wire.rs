//! A wire before a server that can be interrupted in either direction and goes on later where it stopped: what was held
//! back is delivered late, on the same connection, as a network does after a partition.
//!
//! It works on the loopback without any powers. The other way to end an interruption is to cut: what was held back is
//! lost, and both ends find their connection closed.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinHandle,
};

/// What passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passes {
    pub to_server: bool,
    pub to_client: bool,
}

/// By which a client of PostgreSQL asks for encryption, and is answered with one byte.
const MAY_I: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

pub const EVERYTHING: Passes = Passes { to_server: true, to_client: true };
pub const NOTHING: Passes = Passes { to_server: false, to_client: false };

#[derive(Clone, Copy, Debug)]
struct State {
    passes: Passes,
    /// Connections of an earlier generation are closed.
    generation: u64,
}

/// Listens until it is dropped.
#[derive(Debug)]
pub struct Wire {
    address: SocketAddr,
    server: String,
    state: watch::Sender<State>,
    listener: JoinHandle<()>,
}

impl Wire {
    /// Lies before the server that a `postgres://` address names.
    pub async fn lay(url: &str) -> io::Result<Self> {
        let (start, end) = server_in(url);
        let server = url[start..end].to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let state = watch::Sender::new(State { passes: EVERYTHING, generation: 0 });
        let (to, watched) = (server.clone(), state.clone());
        let listener = host::task::spawn("wire", async move {
            while let Ok((client, _)) = listener.accept().await {
                let (to, state) = (to.clone(), watched.subscribe());
                drop(host::task::spawn("wired connection", async move {
                    // Whichever side failed, both are closed.
                    let _ = converse(client, &to, state).await;
                }));
            }
        });
        Ok(Self { address, server, state, listener })
    }

    /// The same address by way of this wire.
    pub fn url(&self, url: &str) -> String {
        url.replacen(&self.server, &self.address.to_string(), 1)
    }

    /// Lets this much pass from now on; what was held back comes late.
    pub fn set(&self, passes: Passes) {
        self.state.send_modify(|state| state.passes = passes);
    }

    /// Whether a new connection is answered by the server in time.
    pub async fn reaches(&self, within: Duration) -> bool {
        let asked = async {
            let mut stream = TcpStream::connect(self.address).await?;
            stream.write_all(&MAY_I).await?;
            stream.read_exact(&mut [0]).await
        };
        matches!(tokio::time::timeout(within, asked).await, Ok(Ok(_)))
    }

    /// Closes every connection that is open; what was held back is lost.
    pub fn cut(&self) {
        self.state.send_modify(|state| state.generation += 1);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.listener.abort();
        self.cut();
    }
}

/// Where the server stands in an address.
fn server_in(url: &str) -> (usize, usize) {
    let scheme = url.find("://").map_or(0, |at| at + 3);
    let end = url[scheme..].find(['/', '?']).map_or(url.len(), |at| scheme + at);
    (url[scheme..end].rfind('@').map_or(scheme, |at| scheme + at + 1), end)
}

async fn converse(client: TcpStream, server: &str, state: watch::Receiver<State>) -> io::Result<()> {
    let mut opened = state.clone();
    // A connection that is begun during an interruption waits for its end, as one over a network would.
    let begun = |state: &State| state.passes == EVERYTHING;
    let Ok(generation) = opened.wait_for(begun).await.map(|state| state.generation) else { return Ok(()) };
    let server = TcpStream::connect(server).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let mut ends = state.clone();
    tokio::select! {
        passed = pass(from_client, to_server, state.clone(), |passes| passes.to_server) => passed,
        passed = pass(from_server, to_client, state, |passes| passes.to_client) => passed,
        _ = ends.wait_for(|state| state.generation != generation) => Ok(()),
    }
}

async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut state: watch::Receiver<State>,
    may: fn(Passes) -> bool,
) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let length = from.read(&mut buffer).await?;
        // An end, too, is only seen once it passes.
        if state.wait_for(|state| may(state.passes)).await.is_err() || length == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..length]).await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn echo() -> (SocketAddr, JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = host::task::spawn("echo", async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (mut from, mut to) = stream.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
            }
        });
        (address, serving)
    }

    #[tokio::test]
    async fn what_is_held_back_comes_late_on_the_same_connection() {
        let (address, _serving) = echo().await;
        let wire = Wire::lay(&format!("postgres://u:p@{address}/db")).await.unwrap();
        assert_eq!(wire.url(&format!("postgres://u:p@{address}/db")), format!("postgres://u:p@{}/db", wire.address));
        let mut client = TcpStream::connect(wire.address).await.unwrap();
        let mut answer = [0; 2];
        client.write_all(b"ab").await.unwrap();
        client.read_exact(&mut answer).await.unwrap();

        wire.set(Passes { to_server: false, to_client: true });
        client.write_all(b"cd").await.unwrap();
        let early = tokio::time::timeout(Duration::from_millis(50), client.read_exact(&mut answer)).await;
        wire.set(EVERYTHING);
        client.read_exact(&mut answer).await.unwrap();

        assert!(early.is_err());
        assert_eq!(&answer, b"cd");
    }

    #[tokio::test]
    async fn a_cut_loses_what_was_held_back_and_closes() {
        let (address, _serving) = echo().await;
        let wire = Wire::lay(&format!("postgres://{address}/db")).await.unwrap();
        let mut client = TcpStream::connect(wire.address).await.unwrap();
        let mut answer = [0; 2];
        client.write_all(b"ab").await.unwrap();
        client.read_exact(&mut answer).await.unwrap();

        wire.set(NOTHING);
        client.write_all(b"cd").await.unwrap();
        wire.cut();
        wire.set(EVERYTHING);

        assert!(matches!(client.read(&mut answer).await, Ok(0) | Err(_)));
    }
}
