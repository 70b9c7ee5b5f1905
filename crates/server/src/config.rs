//! What a server is told at its start, and the limits it keeps.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use crate::engines::EngineRegistry;

/// Where and for whom a server listens.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    pub listen: SocketAddr,
    /// Where besides that metrics and health are answered, to everybody.
    pub metrics_listen: Option<SocketAddr>,
    /// Names besides those of loopback that requests may be addressed to: `name` with any port, or `name:port`.
    pub allowed_hosts: Vec<String>,
    /// Whether messages of the development channel are taken, on loopback.
    pub dev_channel: bool,
    pub limits: Limits,
    /// Backups are written to `backups` in here.
    pub data_dir: PathBuf,
    /// Where each attempt has a directory with what it wrote, by its id.
    pub attempts_dir: PathBuf,
    /// What is known of the engines of this node.
    pub engines: EngineRegistry,
}

/// Every limit is a configuration key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    pub header_read: Duration,
    pub max_headers: usize,
    pub max_header_bytes: usize,
    pub max_url_bytes: usize,
    pub max_body_bytes: usize,
    pub max_json_depth: usize,
    pub body_read: Duration,
    pub handler: Duration,
    pub max_connections: usize,
    pub max_connections_per_peer: usize,
    /// Event streams and followed logs.
    pub max_streams_per_person: usize,
    pub stream_heartbeat: Duration,
    /// A stream whose reader takes nothing for this long is ended; it may come back with its last event id.
    pub stream_idle: Duration,
    /// `None`: off on loopback listeners, [`Limits::REMOTE_RATE`] elsewhere. `Some(0)`: off.
    pub requests_per_minute_per_token: Option<u32>,
    /// How long requests under way may take when the server stops.
    pub shutdown: Duration,
}

impl Limits {
    /// Requests in a minute, for each token, on listeners that are not loopback.
    pub const REMOTE_RATE: u32 = 600;

    /// The rate in force; `None` is no limit.
    pub(crate) fn rate(&self, loopback: bool) -> Option<u32> {
        match self.requests_per_minute_per_token {
            Some(0) => None,
            Some(rate) => Some(rate),
            None if loopback => None,
            None => Some(Self::REMOTE_RATE),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_read: Duration::from_secs(5),
            max_headers: 64,
            max_header_bytes: 32 * 1024,
            max_url_bytes: 8 * 1024,
            max_body_bytes: 1024 * 1024,
            max_json_depth: 64,
            body_read: Duration::from_secs(30),
            handler: Duration::from_secs(30),
            max_connections: 1024,
            max_connections_per_peer: 64,
            max_streams_per_person: 4,
            stream_heartbeat: Duration::from_secs(15),
            stream_idle: Duration::from_secs(60),
            requests_per_minute_per_token: None,
            shutdown: Duration::from_secs(10),
        }
    }
}

impl ServerConfig {
    /// Listening on `listen` with everything else at its default.
    pub fn new(listen: SocketAddr, data_dir: PathBuf) -> Self {
        Self {
            listen,
            metrics_listen: None,
            allowed_hosts: Vec::new(),
            dev_channel: false,
            limits: Limits::default(),
            attempts_dir: data_dir.join("attempts"),
            engines: EngineRegistry::none(),
            data_dir,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_off_on_loopback_and_on_elsewhere_unless_it_is_said() {
        let with = |rate| Limits { requests_per_minute_per_token: rate, ..Limits::default() };

        assert_eq!((with(None).rate(true), with(None).rate(false)), (None, Some(600)));
        assert_eq!((with(Some(5)).rate(true), with(Some(5)).rate(false)), (Some(5), Some(5)));
        assert_eq!((with(Some(0)).rate(true), with(Some(0)).rate(false)), (None, None));
    }
}
