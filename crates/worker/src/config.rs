//! What a worker is configured with.

use std::{path::PathBuf, time::Duration};

use engines::{Profile, engine::EngineTable};
use forge::git::LocalPolicy;
use store::queue::Caps;

/// Before the name of the worker whose survey it is.
pub(crate) const SURVEY: &str = "survey-";

#[derive(Clone, Debug)]
pub struct WorkerConfig {
    /// The directory of this machine's attempts, worktrees and mirrors; 0700.
    pub data_dir: PathBuf,
    /// The binary whose `supervise` holds what is run.
    pub exe: PathBuf,
    /// The engines of this machine, with the keys of their models.
    pub engines: EngineTable,
    /// Where the programs of engines are looked up.
    pub engine_path: String,
    pub engine_limits: EngineLimits,
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
    pub sandbox: SandboxConfig,
    /// How often what is no longer kept on this machine is looked for.
    pub sweep: Duration,
}

/// How long one run of an engine may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineLimits {
    pub wall: Duration,
    /// How long it may say nothing at all.
    pub idle: Duration,
    /// How long it may only wait for its model.
    pub stall: Duration,
    /// How long to wait for what passes by itself, where nobody said.
    pub soon: Duration,
}

impl Default for EngineLimits {
    fn default() -> Self {
        Self {
            wall: Duration::from_secs(60 * 60),
            idle: Duration::from_secs(15 * 60),
            stall: Duration::from_secs(3 * 60),
            soon: Duration::from_secs(20),
        }
    }
}

/// How far what runs for a protocol is kept from this machine. Jobs are what an administrator wrote, and run as they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SandboxConfig {
    pub engines: SandboxPolicy,
    pub checks: SandboxPolicy,
    /// Whether engines and checks may reach the network; engines also reach it for their models.
    pub network: bool,
    /// Whether bubblewrap is used where it is found.
    pub bubblewrap: bool,
    /// What else of this machine may be read, such as the directories that tools are installed in.
    pub readable: Vec<PathBuf>,
    /// How much memory the processes of one attempt may hold together.
    pub memory: Option<u64>,
    /// How many processes and threads one attempt may have at once.
    pub processes: Option<u32>,
}

/// Which sandbox is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SandboxPolicy {
    /// `workspace` where this machine can do that, none where it cannot.
    Auto,
    /// This one; where it cannot be had nothing runs.
    Always(Profile),
    Off,
}

impl Default for SandboxConfig {
    fn default() -> Self {
        Self {
            engines: SandboxPolicy::Auto,
            checks: SandboxPolicy::Auto,
            network: true,
            bubblewrap: true,
            readable: Vec::new(),
            memory: None,
            processes: Some(4096),
        }
    }
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
            engines: EngineTable::default(),
            engine_path: host::process::DEFAULT_PATH.to_owned(),
            engine_limits: EngineLimits::default(),
            local_repositories: LocalPolicy::Nothing,
            fast_slots: 1536,
            engine_slots: 8,
            caps: Caps::default(),
            lease: domain::task::LEASE,
            outlive: Duration::from_secs(30),
            drain: Duration::from_secs(10),
            poll: Duration::from_secs(1),
            retention: RetentionConfig { dedup: DAY * 30, idempotency: DAY, tasks: DAY * 7, artifacts: DAY * 30 },
            sandbox: SandboxConfig::default(),
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

    /// Where a worker finds out what this machine can do; gone once it knows.
    pub(crate) fn survey_dir(&self, incarnation: &str) -> PathBuf {
        self.data_dir.join(format!("{SURVEY}{incarnation}"))
    }
}
