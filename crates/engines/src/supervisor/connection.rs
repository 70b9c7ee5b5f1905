//! One proven connection to a supervisor.

use crate::protocol::{self, MAX_LINE, Reply, Report, Request, SOCKET, Side};
use std::io;
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

/// How long a supervisor may take to answer: it has nothing else to do.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Connection {
    stream: BufReader<UnixStream>,
}

#[derive(Debug)]
pub(super) enum ConnectionError {
    /// Nobody listens there, or it closed the connection.
    Closed,
    NotOurs,
    Refused {
        message: String,
    },
    Silent(io::Error),
}

impl Connection {
    /// Connects and lets both sides prove the nonce.
    pub(super) async fn open(dir: &Path, nonce: &str) -> Result<(Self, Report), ConnectionError> {
        let stream = host::net::connect_in(dir, SOCKET).await.map_err(|error| match error.kind() {
            // A reset is what those get who still wait to be accepted when the listener closes.
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset => {
                ConnectionError::Closed
            }
            _ => ConnectionError::Silent(error),
        })?;
        let mut connection = Self { stream: BufReader::new(stream) };
        let challenge = host::random::base62(22);
        let hello = Request::Hello {
            version: crate::spec::VERSION,
            proof: protocol::proof(nonce, Side::Controller, &challenge),
            challenge: challenge.clone(),
        };
        match connection.exchange(&hello).await? {
            Reply::Welcome { proof, report } if protocol::is_proven(nonce, Side::Supervisor, &challenge, &proof) => {
                Ok((connection, report))
            }
            Reply::Welcome { .. } | Reply::Report(_) | Reply::Refused { .. } => Err(ConnectionError::NotOurs),
        }
    }

    pub(super) async fn ask(&mut self, request: &Request) -> Result<Report, ConnectionError> {
        match self.exchange(request).await? {
            Reply::Report(report) | Reply::Welcome { report, .. } => Ok(report),
            Reply::Refused { message } => Err(ConnectionError::Refused { message }),
        }
    }

    /// Waits until the supervisor closes the connection.
    pub(super) async fn closed(mut self) {
        let mut chunk = [0; 256];
        while matches!(self.stream.read(&mut chunk).await, Ok(n) if n > 0) {}
    }

    async fn exchange(&mut self, request: &Request) -> Result<Reply, ConnectionError> {
        let silent = || ConnectionError::Silent(io::ErrorKind::TimedOut.into());
        tokio::time::timeout(PATIENCE, self.exchange_patiently(request)).await.unwrap_or_else(|_| Err(silent()))
    }

    async fn exchange_patiently(&mut self, request: &Request) -> Result<Reply, ConnectionError> {
        let mut line = serde_json::to_vec(request).expect("a request has only plain fields");
        line.push(b'\n');
        self.stream.write_all(&line).await.map_err(|_| ConnectionError::Closed)?;
        line.clear();
        let limit = u64::try_from(MAX_LINE).unwrap_or(u64::MAX);
        let read = (&mut self.stream).take(limit).read_until(b'\n', &mut line).await;
        match read {
            Ok(0) | Err(_) => Err(ConnectionError::Closed),
            Ok(_) => serde_json::from_slice(&line).map_err(|_| ConnectionError::NotOurs),
        }
    }
}
