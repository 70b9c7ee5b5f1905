//! How things stand.

use serde::Serialize;

use super::{Context, runs};
use crate::{failure::Result, output::fields};

#[derive(Debug, Serialize)]
struct Overview {
    server: String,
    version: String,
    database: String,
    health: String,
    /// Open gates, newest first, at most 50.
    gates: Vec<api::gates::GateView>,
    /// Runs that are not over, newest first, at most 50.
    runs: Vec<api::runs::RunView>,
    queue: api::queue::QueueStats,
}

pub(super) async fn run(context: &Context, reference: Option<String>) -> Result {
    let client = context.client()?;
    if let Some(reference) = reference {
        let run = match client.get_run_details(&reference).await {
            Err(error) if error.status() == Some(404) => {
                // It may be a gate's reference, which stands for what waits at it.
                let gate = client.get_gate(&reference).await.map_err(|_| error)?;
                return context.output.one("gate", &gate, || super::gates::describe(&gate));
            }
            found => found?,
        };
        return context.output.one("run", &run, || runs::describe(&run));
    }
    let health = client.get_health().await?;
    let gates = client.list_gates(Some("open"), None, Some(50)).await?.items;
    let under_way = client.list_runs(Some("AwaitingApproval,Dispatching,Running,Blocked"), None, Some(50)).await?.items;
    let queue = client.get_queue().await?;
    let overview = Overview {
        server: client.address().to_owned(),
        version: health.version,
        database: health.database,
        health: health.status,
        gates,
        runs: under_way,
        queue: queue.default,
    };
    context.output.one("status", &overview, || tell(&overview))
}

fn tell(overview: &Overview) -> String {
    let queue = &overview.queue;
    let mut text = fields([
        ("server", Some(format!("{} ({})", overview.server, overview.health))),
        ("version", Some(overview.version.clone())),
        ("database", Some(overview.database.clone())),
        ("queue", Some(format!("{} queued, {} started, {} failed", queue.queued, queue.started, queue.failed))),
    ]);
    if overview.gates.is_empty() {
        text.push_str("nothing waits for people\n");
    } else {
        text.push_str("waits for people:\n");
    }
    for gate in &overview.gates {
        text.push_str(&format!("  {}  {}  by {}\n", gate.id, gate.title, gate.requester));
    }
    for run in overview.runs.iter().filter(|run| run.gate_id.is_none()) {
        let why = run.summary.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        text.push_str(&format!("  {}  {}  {}{why}\n", run.id, run.job, run.status));
    }
    text
}
