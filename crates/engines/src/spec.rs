//! What a supervisor is told: a document in the attempt's directory, private, read once and removed.

use crate::broker::Broker;
use crate::sandbox::Sandbox;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

/// The version of the document and of the socket's protocol; a supervisor refuses any other.
pub const VERSION: u32 = 1;

/// The document's name in the attempt's directory.
pub const FILE: &str = "supervise.json";

/// One tree to start and hold.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    pub version: u32,
    /// The secret that the worker and this supervisor share, and nobody in the tree.
    pub nonce: String,
    pub argv: Vec<String>,
    pub cwd: PathBuf,
    /// All of the tree's environment.
    pub env: Vec<(String, String)>,
    /// What must not be found in what it prints.
    #[serde(default)]
    pub secrets: Vec<String>,
    pub limits: Limits,
    /// When everything is killed unless the worker moves it, in milliseconds since boot.
    pub deadline_boot_ms: Option<u64>,
    /// How long everything lives on without a connected worker.
    pub after_disconnect_ms: Option<u64>,
    /// Whether stdout and stderr go into one file, in the order they were written.
    pub merge_stderr: bool,
    pub isolation: Isolation,
    /// `None` keeps the tree together but not away from anything.
    pub sandbox: Option<Sandbox>,
    /// Stands between the tree and its model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broker: Option<Broker>,
}

/// How far the tree is kept apart from the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Isolation {
    /// The strongest containment that the machine allows.
    #[default]
    Strongest,
    /// Sees and may signal the other processes of its user; ended by walking its tree.
    SharedProcesses,
}

/// What a tree may use up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    pub wall_ms: Option<u64>,
    /// How long it may stay silent.
    pub idle_ms: Option<u64>,
    /// How much it may write in all before it is stopped.
    pub output_bytes: u64,
    /// How much of each stream is kept from its beginning; of the rest, the end.
    pub spool_bytes: u64,
    /// How long it has between SIGTERM and SIGKILL.
    pub kill_grace_ms: u64,
    /// How much memory all of it together may hold.
    pub memory_bytes: Option<u64>,
    /// How many processes and threads it may have at once.
    pub processes: Option<u32>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            wall_ms: None,
            idle_ms: None,
            output_bytes: 1 << 30,
            spool_bytes: 16 << 20,
            kill_grace_ms: 5_000,
            memory_bytes: None,
            processes: None,
        }
    }
}

impl Limits {
    pub fn wall(mut self, wall: Duration) -> Self {
        self.wall_ms = Some(millis(wall));
        self
    }

    pub fn idle(mut self, idle: Duration) -> Self {
        self.idle_ms = Some(millis(idle));
        self
    }

    pub fn output(mut self, bytes: u64) -> Self {
        self.output_bytes = bytes;
        self
    }

    pub fn spool(mut self, bytes: u64) -> Self {
        self.spool_bytes = bytes;
        self
    }

    pub fn kill_grace(mut self, grace: Duration) -> Self {
        self.kill_grace_ms = millis(grace);
        self
    }

    pub fn memory(mut self, bytes: u64) -> Self {
        self.memory_bytes = Some(bytes);
        self
    }

    pub fn processes(mut self, count: u32) -> Self {
        self.processes = Some(count);
        self
    }
}

/// The streams that a tree writes, each a file in the attempt's directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    Stdout,
    Stderr,
    /// Both, in the order they were written.
    Output,
}

impl Stream {
    pub fn file_name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::Output => "output",
        }
    }
}

pub(crate) fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

impl std::fmt::Debug for Spec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The nonce and the environment may hold secrets.
        f.debug_struct("Spec").field("argv", &self.argv).field("cwd", &self.cwd).finish_non_exhaustive()
    }
}
