//! `up`, `serve`, `work`: a process that runs until it is told to stop.

use tokio::signal::unix::{SignalKind, signal};

use crate::{
    cli::NodeArgs,
    config::{Settings, layers::Layer},
    failure::{Failure, Result},
    log,
    node::{self, Roles},
    telemetry,
};

/// The most threads for work that blocks: files, names of hosts, a write that has to wait for its disk. What asks beyond
/// that waits. On a busy machine the runtime takes another for each piece of work that arrives before the last thread it
/// woke has run, however short they are, and each keeps the memory that it once asked for.
const BLOCKING_THREADS: usize = 16;

pub(super) fn flags(flags: Layer, args: &NodeArgs) -> Result<Layer> {
    Ok(flags
        .flag("--listen", "server.listen", args.listen.as_deref())?
        .flag("--database-url", "database_url", args.database_url.as_deref())?
        .flag("--jobs", "jobs", args.jobs.as_deref())?
        .flag("--dev-channel", "dev_channel", args.dev_channel.then_some("true"))?)
}

pub(super) fn up(settings: &Settings) -> Result {
    run(settings, Roles { serves: true, works: true })
}

pub(super) fn serve(settings: &Settings) -> Result {
    run(settings, Roles { serves: true, works: false })
}

pub(super) fn work(settings: &Settings) -> Result {
    run(settings, Roles { serves: false, works: true })
}

fn run(settings: &Settings, roles: Roles) -> Result {
    log::start(settings.log_filter(), settings.log_json())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .max_blocking_threads(BLOCKING_THREADS)
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("cannot start: {error}")))?;
    let telemetry = telemetry::start(settings, runtime.handle())?;
    let ended = runtime.block_on(until_told(settings, roles));
    telemetry.stop();
    // Nothing that still runs here may hold the end up: what matters was drained.
    runtime.shutdown_background();
    ended
}

async fn until_told(settings: &Settings, roles: Roles) -> Result {
    let cannot = |error: std::io::Error| Failure::failed(format!("cannot listen for signals: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(cannot)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(cannot)?;
    let node = tokio::select! {
        node = node::start(settings, roles) => node?,
        // Nothing is served yet: there is nothing to drain.
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("Stopping; a second signal stops at once");
    tokio::select! {
        () = node.stop() => Ok(()),
        _ = terminate.recv() => Err(Failure::failed("stopped at once, without waiting for work under way")),
        _ = interrupt.recv() => Err(Failure::failed("stopped at once, without waiting for work under way")),
    }
}
