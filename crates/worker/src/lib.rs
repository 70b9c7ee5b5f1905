//! Claims tasks and carries out their effects.
//!
//! A worker may die at any line: whatever it does for a task is guarded by the fence of its lease, and what it leaves
//! behind is found by the next claim. It decides nothing; it reports to `control`. Start at [`Worker::start`], then at
//! [`lease`] for what a handler holds, and `run_job` for the longest handler.

pub mod config;
pub mod lease;
mod advance_branch;
mod brokers;
mod claims;
mod acks;
mod check;
mod deliver;
mod engine_answer;
mod engine_ending;
mod engine_note;
mod engine_run;
mod engine_takeover;
mod execute_step;
mod expire;
mod facts;
mod fall_back;
mod failure;
mod handlers;
mod housekeeping;
mod papers;
mod passed_checks;
mod permission;
mod plan_protocol;
mod project_setup;
mod recovery;
mod retention;
mod review;
mod review_prompt;
mod run_job;
mod run_quality;
mod sandboxes;
mod tool_servers;
mod workspace;

use std::sync::Arc;

use control::Control;
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use crate::config::{SandboxConfig, SandboxPolicy, WorkerConfig};
use crate::{acks::Acks, lease::Leases};

/// What every handler of one worker process shares.
#[derive(Clone, Debug)]
pub(crate) struct Worker {
    pub(crate) control: Control,
    pub(crate) config: Arc<WorkerConfig>,
    /// The random name of this process, new at every start.
    pub(crate) incarnation: String,
    pub(crate) leases: Leases,
    /// The way to the loop that claims, which acknowledges as it does.
    pub(crate) acks: Acks,
    /// Room for quick tasks that run programs of git.
    pub(crate) git_slots: Arc<Semaphore>,
    pub(crate) tracker: TaskTracker,
    /// Found when it is first needed.
    pub(crate) git: Arc<tokio::sync::OnceCell<forge::git::Git>>,
    /// Taken when it is first needed.
    pub(crate) survey: Arc<tokio::sync::OnceCell<engines::survey::Survey>>,
    /// No new claims.
    pub(crate) draining: CancellationToken,
}

/// A started worker.
#[derive(Debug)]
pub struct Handle {
    worker: Worker,
    /// Held for as long as this process may hold leases: whoever can lock it knows that this worker is dead.
    _alive: host::fs::LockFile,
}

/// Why a worker did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot prepare the worker's directories")]
    Directory(#[source] host::fs::FsError),
    #[error("cannot mark the worker as alive: {0:?}")]
    Alive(host::fs::Held),
    #[error("cannot look for what an earlier worker left")]
    Recovery(#[source] store::StoreError),
}

impl Handle {
    /// The worker's name on timelines.
    pub fn incarnation(&self) -> &str {
        &self.worker.incarnation
    }

    /// Claims nothing more and waits, as long as configured, for what is under way. Processes that still run then live
    /// on under their supervisors, for the next worker to adopt.
    pub async fn drain(self) {
        self.worker.draining.cancel();
        self.worker.tracker.close();
        if tokio::time::timeout(self.worker.config.drain, self.worker.tracker.wait()).await.is_err() {
            tracing::warn!("Left work under its supervisors for the next worker");
        }
    }
}

pub use crate::claims::start;
