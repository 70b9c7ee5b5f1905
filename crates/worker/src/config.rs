//! What a worker is configured with.

use std::{path::PathBuf, time::Duration};

use forge::git::LocalPolicy;
use store::queue::Caps;

#[derive(Clone, Debug)]
pub struct WorkerConfig {
    /// The directory of this machine's attempts, worktrees and mirrors; 0700.
    pub data_dir: PathBuf,
    /// The binary whose `supervise` holds what is run.
    pub exe: PathBuf,
    /// Which repositories on this machine projects may use.
    pub local_repositories: LocalPolicy,
    /// How many tasks of the fast lane are carried out at once.
    pub fast_slots: usize,
    /// How many engines and jobs run at once in this process.
    pub engine_slots: usize,
    /// Caps over all nodes.
    pub caps: Caps,
    /// PostgreSQL: how long a lease lasts.
    pub lease: Duration,
    /// SQLite: how long a supervised tree outlives its worker.
    pub outlive: Duration,
    /// How long a drain waits for what is under way.
    pub drain: Duration,
    /// The poll behind the wake-ups.
    pub poll: Duration,
    pub retention: RetentionConfig,
    /// How often what is no longer kept on this machine is looked for.
    pub sweep: Duration,
}

/// How long finished things are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetentionConfig {
    pub dedup: Duration,
    pub idempotency: Duration,
    pub tasks: Duration,
    /// What finished attempts printed and left on this machine.
    pub artifacts: Duration,
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

impl WorkerConfig {
    pub fn new(data_dir: impl Into<PathBuf>, exe: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            exe: exe.into(),
            local_repositories: LocalPolicy::Nothing,
            fast_slots: 64,
            engine_slots: 8,
            caps: Caps::default(),
            lease: domain::task::LEASE,
            outlive: Duration::from_secs(30),
            drain: Duration::from_secs(10),
            poll: Duration::from_secs(1),
            retention: RetentionConfig { dedup: DAY * 30, idempotency: DAY, tasks: DAY * 7, artifacts: DAY * 30 },
            sweep: Duration::from_secs(10 * 60),
        }
    }

    /// One directory for each attempt: its spool, its supervisor's socket and result.
    pub fn attempts_dir(&self) -> PathBuf {
        self.data_dir.join("attempts")
    }

    pub(crate) fn workers_dir(&self) -> PathBuf {
        self.data_dir.join("workers")
    }
}
