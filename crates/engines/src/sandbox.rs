//! How far a tree is kept from the machine: what it may see, change and reach.
//!
//! These are the words of a request. Who carries them out is the supervisor; what it cannot carry out it refuses, and
//! nothing ever runs wider than what was asked.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

/// What a tree may see and change, narrowest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    /// Reads the system's programs and its worktree; writes only to its own home and temporary directory.
    ReadOnly,
    /// The same, and writes to its worktree.
    Workspace,
    /// Reads and writes what its user may, but nothing of Pilothouse.
    Full,
}

/// Whom a tree may reach.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Network {
    /// Nobody, and nothing of this machine either.
    #[default]
    Off,
    /// These addresses of this machine's loopback, each at the same address inside, and nothing else.
    Endpoints(Vec<SocketAddr>),
    /// Whomever the machine reaches.
    Open,
}

/// One tree's sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sandbox {
    pub profile: Profile,
    pub network: Network,
    /// The tree's own home, the only place besides the worktree that outlives it; always writable.
    pub home: PathBuf,
    /// What else it may read, such as the directory that an engine is installed in.
    pub readable: Vec<PathBuf>,
    /// What else it may write.
    pub writable: Vec<PathBuf>,
    /// What it must not see under any profile: the data directory, above all.
    pub hidden: Vec<PathBuf>,
}

impl Sandbox {
    /// A sandbox without network, without anything besides the worktree and `home`.
    pub fn new(profile: Profile, home: impl Into<PathBuf>) -> Self {
        Self {
            profile,
            network: Network::Off,
            home: home.into(),
            readable: Vec::new(),
            writable: Vec::new(),
            hidden: Vec::new(),
        }
    }
}

impl Profile {
    pub const ALL: [Self; 3] = [Self::ReadOnly, Self::Workspace, Self::Full];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::ReadOnly => "read-only",
            Self::Workspace => "workspace",
            Self::Full => "full",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|profile| profile.as_str() == text)
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
