//! One process of Pilothouse: ledger, worker and listener, started in that order and stopped in the other.
//!
//! Everything that can be refused is refused before anything is written: addresses, the catalog, who holds the ledger.
//! Start at [`start`].

pub(crate) mod bootstrap;
pub(crate) mod catalog;
pub(crate) mod endpoint;
pub(crate) mod ledger;
pub(crate) mod registry;

use std::path::{Path, PathBuf};

use control::{Clock, Control};
use forge::git::LocalPolicy;
use server::{Server, ServerConfig};
use store::{Store, StoreConfig};

use self::endpoint::Endpoint;
use crate::{
    config::Settings,
    failure::{Failure, Result},
};

/// What a process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Roles {
    pub(crate) serves: bool,
    pub(crate) works: bool,
}

/// A process at work.
#[derive(Debug)]
pub(crate) struct Node {
    store: Store,
    worker: Option<worker::Handle>,
    server: Option<Server>,
    endpoint: Option<Endpoint>,
    data_dir: PathBuf,
}

/// Starts a process; once this returns it serves.
pub(crate) async fn start(settings: &Settings, roles: Roles) -> Result<Node> {
    let data_dir = prepare(settings)?;
    if settings.dev_channel() && !settings.listen().ip().is_loopback() {
        return Err(Failure::usage(format!(
            "the dev channel lets anybody speak as anybody; {} is not loopback",
            settings.listen()
        ))
        .remedy("Listen on 127.0.0.1, or leave --dev-channel out."));
    }
    if roles.works && !roles.serves && settings.database_url().is_none() {
        return Err(Failure::usage("a worker on its own needs a database that it can share")
            .remedy("Use `pilothouse up` for SQLite, or name a PostgreSQL with --database-url."));
    }
    let catalog = if roles.serves { catalog::read(settings.jobs(), &data_dir, settings.dev_channel())? } else { None };
    let store = ledger::open(&settings.store(&data_dir)).await?;
    host::failpoint!("node.ledger.opened");
    let started = start_with(settings, roles, &data_dir, store.clone(), catalog).await;
    if started.is_err() {
        store.close().await;
    }
    started
}

async fn start_with(
    settings: &Settings,
    roles: Roles,
    data_dir: &Path,
    store: Store,
    catalog: Option<catalog::CatalogFile>,
) -> Result<Node> {
    let exe = host::process::current_exe()
        .map_err(|error| Failure::failed(format!("cannot find this program's own file: {error}")))?;
    let mut worker_config = settings.worker(data_dir.to_owned(), exe);
    worker_config.engines = settings.engines_with_keys();
    worker_config.engine_path = crate::config::search_path();
    let said = settings.get("repos.allow_local").is_some();
    if roles.serves && roles.works && settings.listen().ip().is_loopback() && !said {
        // Whoever runs this may use their own repositories; nobody else can ask.
        worker_config.local_repositories = LocalPolicy::OwnedBy(host::process::effective_uid());
    }
    let control = Control::new(store.clone(), Clock::default()).with_attempts_dir(worker_config.attempts_dir());
    let mut node = Node { store, worker: None, server: None, endpoint: None, data_dir: data_dir.to_owned() };
    let token_file = if roles.serves { Some(bootstrap::bootstrap(&control, data_dir).await?) } else { None };
    host::failpoint!("node.token.counted");
    if let Some(catalog) = &catalog {
        catalog::load(&control, catalog).await?;
    }
    let attempts_dir = worker_config.attempts_dir();
    let engines = registry::for_server(worker_config.engines.clone(), worker_config.engine_path.clone());
    if roles.works {
        let started = worker::start(worker_config, control.clone()).await;
        node.worker = Some(started.map_err(|error| Failure::failed(crate::failure::chain(&error)))?);
    }
    let config = ServerConfig {
        listen: settings.listen(),
        metrics_listen: settings.metrics_listen(),
        allowed_hosts: settings.allowed_hosts(),
        dev_channel: settings.dev_channel(),
        limits: settings.limits(),
        data_dir: data_dir.to_owned(),
        attempts_dir,
        engines,
    };
    let server = match (&token_file, config.metrics_listen) {
        (Some(_), _) => Some(Server::start(config, control).await),
        (None, Some(address)) => Some(Server::start_metrics(address, &config, control).await),
        (None, None) => None,
    };
    match server {
        Some(Ok(server)) => {
            let address = server.address();
            node.server = Some(server);
            host::failpoint!("node.server.listening");
            if let Some(token_file) = token_file {
                node.endpoint = Some(endpoint::write(data_dir, address, &token_file)?);
                host::failpoint!("node.endpoint.written");
                tracing::info!("listening on {}, data in {}", endpoint::url_of(address), data_dir.display());
            }
        }
        Some(Err(error)) => {
            let failure = Failure::failed(crate::failure::chain(&error))
                .remedy("Choose another address, or stop whoever listens there.");
            node.stop().await;
            return Err(failure);
        }
        None => {}
    }
    Ok(node)
}

impl Node {
    /// Where it listens.
    pub(crate) fn url(&self) -> Option<&str> {
        self.endpoint.as_ref().map(|endpoint| endpoint.url.as_str())
    }

    /// Drains: claims nothing more, ends streams, waits for what is under way, gives the ledger back.
    pub(crate) async fn stop(self) {
        if let Some(endpoint) = &self.endpoint {
            endpoint::remove(&self.data_dir, endpoint);
        }
        let worker = async {
            if let Some(worker) = self.worker {
                worker.drain().await;
            }
        };
        let server = async {
            if let Some(server) = self.server {
                server.stop().await;
            }
        };
        tokio::join!(worker, server);
        self.store.close().await;
    }
}

/// The data directory, made when it is missing.
pub(crate) fn prepare(settings: &Settings) -> Result<PathBuf> {
    let dir = settings.data_dir().ok_or_else(no_data_dir)?;
    host::fs::create_private_dir(&dir)?;
    Ok(host::fs::canonicalize(&dir)?)
}

/// The data directory of a command that only looks.
pub(crate) fn find_data_dir(settings: &Settings) -> Result<PathBuf> {
    settings.data_dir().ok_or_else(no_data_dir)
}

fn no_data_dir() -> Failure {
    Failure::usage("there is no home directory to keep data in").remedy("Name a directory with --data-dir DIR.")
}

/// Whether the ledger is one file on this machine.
pub(crate) fn sqlite_path(config: &StoreConfig) -> Option<&Path> {
    match config {
        StoreConfig::Sqlite { path } => Some(path),
        StoreConfig::Postgres { .. } => None,
    }
}
