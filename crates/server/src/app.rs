//! What every handler shares.

use std::{ops::Deref, path::PathBuf, sync::Arc};

use control::Control;
use tokio_util::sync::CancellationToken;

use crate::{
    config::{Limits, ServerConfig},
    engines::EngineRegistry,
    metrics::Metrics,
    perform::InFlight,
    rate::RateLimit,
    stream::Streams,
};

/// The state of the router. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct App(Arc<Shared>);

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) control: Control,
    pub(crate) limits: Limits,
    pub(crate) dev_channel: bool,
    pub(crate) data_dir: PathBuf,
    pub(crate) attempts_dir: PathBuf,
    pub(crate) engines: EngineRegistry,
    pub(crate) rate: RateLimit,
    pub(crate) streams: Streams,
    pub(crate) in_flight: InFlight,
    pub(crate) metrics: Metrics,
    /// Ends every stream.
    pub(crate) stopping: CancellationToken,
}

impl App {
    pub(crate) fn new(control: Control, config: &ServerConfig, stopping: CancellationToken) -> Self {
        let loopback = config.listen.ip().is_loopback();
        Self(Arc::new(Shared {
            metrics: Metrics::new(control.store().meter()),
            control,
            rate: RateLimit::new(config.limits.rate(loopback)),
            streams: Streams::new(config.limits.max_streams_per_person),
            limits: config.limits.clone(),
            // A listener that others can reach never takes messages on anybody's behalf.
            dev_channel: config.dev_channel && loopback,
            data_dir: config.data_dir.clone(),
            attempts_dir: config.attempts_dir.clone(),
            engines: config.engines.clone(),
            in_flight: InFlight::default(),
            stopping,
        }))
    }
}

impl Deref for App {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}
