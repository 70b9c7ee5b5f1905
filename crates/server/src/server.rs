//! The listener: connections within limits, and an orderly end.
//!
//! Connections are served by hyper directly, because the limits on headers, connections and time that a server needs
//! against strangers are set there.

use std::{
    collections::HashMap,
    convert::Infallible,
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{body::Body, http::Request};
use control::Control;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::{GracefulShutdown, Watcher},
};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use crate::{
    app::App,
    config::{Limits, ServerConfig},
    edge::{Edge, no_place},
    host_rule::HostRule,
    routes,
};

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error("cannot listen on {address}")]
    Listen { address: SocketAddr, source: io::Error },
}

/// A server that is listening.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stopping: CancellationToken,
    accepting: Vec<JoinHandle<()>>,
}

impl Server {
    /// Listens and serves until it is stopped. When this returns, connections are accepted.
    pub async fn start(config: ServerConfig, control: Control) -> Result<Self, ServerError> {
        let (listener, address) = bind(config.listen).await?;
        let metrics = match config.metrics_listen {
            Some(address) => Some(bind(address).await?),
            None => None,
        };
        let stopping = CancellationToken::new();
        let app = App::new(control, &config, stopping.clone());
        let rule = HostRule::new(address, &config.allowed_hosts);
        let edge = Edge { router: routes::router(&app), rule, app: app.clone() };
        let door = Door::new(config.limits.clone());
        let mut accepting = vec![host::task::spawn("http listener", door.serve(listener, edge, stopping.clone()))];
        accepting.extend(metrics.map(|(listener, at)| serve_metrics(listener, at, app, config.limits, &stopping)));
        Ok(Self { address, stopping, accepting })
    }

    /// Listens on `config.metrics_listen` alone, for a process that serves nothing else.
    pub async fn start_metrics(at: SocketAddr, config: &ServerConfig, control: Control) -> Result<Self, ServerError> {
        let (listener, address) = bind(at).await?;
        let stopping = CancellationToken::new();
        let app = App::new(control, config, stopping.clone());
        let accepting = vec![serve_metrics(listener, address, app, config.limits.clone(), &stopping)];
        Ok(Self { address, stopping, accepting })
    }

    /// Where it listens; the port is the one that was given out when none was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:8010`
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Begins the end: no new connections, streams end, requests under way complete. Safe to call from a signal.
    pub fn stopper(&self) -> CancellationToken {
        self.stopping.clone()
    }

    /// Stops, and returns when every request was answered or the time for that is over.
    pub async fn stop(self) {
        self.stopping.cancel();
        self.join().await;
    }

    /// Returns when the server has stopped.
    pub async fn join(self) {
        for accepting in self.accepting {
            if let Err(error) = accepting.await {
                tracing::error!(%error, "A listener ended by itself: {error}");
            }
        }
    }
}

async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), ServerError> {
    let failed = |source| ServerError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

fn serve_metrics(
    listener: TcpListener,
    address: SocketAddr,
    app: App,
    limits: Limits,
    stopping: &CancellationToken,
) -> JoinHandle<()> {
    tracing::info!("metrics on http://{address}/metrics");
    let edge = Edge { router: routes::open_metrics(&app), rule: HostRule::whatever(), app };
    host::task::spawn("metrics listener", Door::new(limits).serve(listener, edge, stopping.clone()))
}

/// Who is let in, and on which terms.
struct Door {
    limits: Limits,
    places: Arc<Semaphore>,
    peers: Peers,
}

impl Door {
    fn new(limits: Limits) -> Self {
        let places = Arc::new(Semaphore::new(limits.max_connections));
        let peers = Peers { max: limits.max_connections_per_peer, open: Arc::default() };
        Self { limits, places, peers }
    }

    async fn serve(self, listener: TcpListener, edge: Edge, stopping: CancellationToken) {
        let edge = Arc::new(edge);
        let graceful = GracefulShutdown::new();
        // What is still served after the deadline is cut off with this.
        let cut_off = CancellationToken::new();
        loop {
            let (stream, peer) = tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        // Out of descriptors, mostly: they come back when connections end.
                        tracing::warn!(%error, "Could not accept a connection: {error}");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        continue;
                    }
                },
                () = stopping.cancelled() => break,
            };
            match self.enter(peer.ip()) {
                Some(place) => {
                    let served = serve_connection(stream, peer, Arc::clone(&edge), &self.limits, graceful.watcher());
                    let cut_off = cut_off.clone();
                    host::task::spawn("http connection", async move {
                        tokio::select! {
                            () = served => {}
                            () = cut_off.cancelled() => {}
                        }
                        drop(place);
                    });
                }
                None => {
                    host::task::spawn("http refusal", refuse(stream));
                }
            }
        }
        drop(listener);
        let n_open = self.limits.max_connections - self.places.available_permits();
        tracing::info!(connections = n_open, "Stopping the HTTP server with {n_open} connections open");
        if tokio::time::timeout(self.limits.shutdown, graceful.shutdown()).await.is_err() {
            tracing::warn!("Cutting off requests that did not end in time");
        }
        cut_off.cancel();
    }

    fn enter(&self, peer: IpAddr) -> Option<Admitted> {
        let permit = Arc::clone(&self.places).try_acquire_owned().ok()?;
        Some(Admitted { _permit: permit, _place: self.peers.enter(peer)? })
    }
}

/// A connection's place, given back when it is dropped.
struct Admitted {
    _permit: OwnedSemaphorePermit,
    _place: PeerPlace,
}

#[derive(Clone)]
struct Peers {
    max: usize,
    open: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

struct PeerPlace {
    peers: Peers,
    peer: IpAddr,
}

impl Peers {
    fn enter(&self, peer: IpAddr) -> Option<PeerPlace> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(peer).or_default();
        if *count >= self.max {
            return None;
        }
        *count += 1;
        Some(PeerPlace { peers: self.clone(), peer })
    }
}

impl Drop for PeerPlace {
    fn drop(&mut self) {
        let mut open = self.peers.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.peer) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                open.remove(&self.peer);
            }
        }
    }
}

fn serve_connection(
    stream: TcpStream,
    peer: SocketAddr,
    edge: Arc<Edge>,
    limits: &Limits,
    watcher: Watcher,
) -> impl Future<Output = ()> + Send + use<> {
    // Small answers leave at once; that it cannot be set changes nothing else.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request: Request<Incoming>| {
        let edge = Arc::clone(&edge);
        async move { Ok::<_, Infallible>(edge.serve(peer, request.map(Body::new)).await) }
    });
    let mut builder = http1::Builder::new();
    // The exact limits are kept, and answered, by the edge; these bound what is read before it is asked.
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_read)
        .max_headers(limits.max_headers.saturating_mul(2))
        .max_buf_size((limits.max_header_bytes + limits.max_url_bytes).saturating_mul(2).max(8192));
    let connection = watcher.watch(builder.serve_connection(TokioIo::new(stream), service));
    async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "A connection ended with an error: {error}");
        }
    }
}

/// Says that there is no place, to whoever still listens.
async fn refuse(mut stream: TcpStream) {
    let said = async {
        stream.write_all(&no_place()).await?;
        stream.shutdown().await
    };
    let _ = tokio::time::timeout(Duration::from_secs(1), said).await;
}
