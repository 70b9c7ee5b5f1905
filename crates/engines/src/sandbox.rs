//! How far a tree is kept from the machine: what it may see, change and reach.
//!
//! These are the words of a request. Who carries them out is the supervisor; what it cannot carry out it refuses, and
//! nothing ever runs wider than what was asked.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

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

/// How far that is, in one word.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reach {
    Off,
    Endpoints,
    /// Also of whoever did not say: nothing is claimed that is not known.
    #[default]
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
    /// Names at the top of the worktree that it neither sees nor makes.
    pub masked: Vec<String>,
    /// Where bubblewrap is; `None` does without, by Landlock and namespaces of our own.
    pub bubblewrap: Option<PathBuf>,
}

/// By what a sandbox was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Means {
    Bubblewrap,
    Landlock,
}

/// Settings from which agents take commands, tools or addresses, and what git would believe.
pub const SETTINGS: [&str; 12] = [
    ".git",
    ".claude",
    ".codex",
    ".gemini",
    ".opencode",
    ".cursor",
    ".agents",
    ".mcp.json",
    "opencode.json",
    "opencode.jsonc",
    ".aider.conf.yml",
    ".cursorrules",
];

/// Texts that agents take for instructions.
pub const INSTRUCTIONS: [&str; 5] = ["AGENTS.md", "AGENTS.override.md", "CLAUDE.md", "CLAUDE.local.md", "GEMINI.md"];

/// Those of them that are files. A mask on one that is missing is an empty directory, which some agents trip over.
const FILES: [&str; 5] = [".mcp.json", "opencode.json", "opencode.jsonc", ".aider.conf.yml", ".cursorrules"];

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
            masked: SETTINGS.iter().chain(&INSTRUCTIONS).map(|name| (*name).to_owned()).collect(),
            bubblewrap: None,
        }
    }

    /// The same for an agent that takes a directory in the place of a file for an error: files that are missing are not
    /// masked. One that it makes is masked the next time, so that it tells nobody anything.
    pub fn sparing_missing_files(mut self, worktree: &Path) -> Self {
        let is_file = |name: &str| FILES.contains(&name) || INSTRUCTIONS.contains(&name);
        self.masked.retain(|name| {
            let path = worktree.join(name);
            !is_file(name) || host::fs::exists(&path) || host::fs::is_link(&path)
        });
        self
    }

    /// The same for a check: no agent reads what it could be told there, so only git's directory is kept from it.
    pub fn for_check(mut self) -> Self {
        self.masked = vec![".git".to_owned()];
        self
    }
}

/// Removes the empty directories on which masks lay. Git keeps no empty directory, so none of them was anybody's.
pub fn remove_masks(worktree: &Path) {
    for name in SETTINGS.iter().chain(&INSTRUCTIONS) {
        host::fs::remove_empty_dir(&worktree.join(name));
    }
}

impl Network {
    pub fn reach(&self) -> Reach {
        match self {
            Self::Off => Reach::Off,
            Self::Endpoints(_) => Reach::Endpoints,
            Self::Open => Reach::Open,
        }
    }
}

impl Reach {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Endpoints => "endpoints",
            Self::Open => "open",
        }
    }
}

impl Means {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bubblewrap => "bubblewrap",
            Self::Landlock => "landlock",
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

/// A bubblewrap that can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bubblewrap {
    pub program: PathBuf,
    pub version: String,
}

/// Why there is no bubblewrap.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BubblewrapError {
    #[error("bubblewrap is not installed (looked for bwrap in {path})", path = host::process::DEFAULT_PATH)]
    Missing,
    #[error("the configuration says to do without bubblewrap")]
    NotWanted,
    #[error("{program} does not tell its version")]
    Silent { program: PathBuf },
    #[error("{program} is version {version}, and {OLDEST_MAJOR}.{OLDEST_MINOR} is needed")]
    Old { program: PathBuf, version: String },
}

const OLDEST_MAJOR: u32 = 0;
/// The first with `--ro-bind-try` and `--unshare-cgroup-try` as they are used here.
const OLDEST_MINOR: u32 = 4;

/// Looks for bubblewrap where the system keeps programs; never in a directory that somebody else may fill.
pub async fn find_bubblewrap() -> Result<Bubblewrap, BubblewrapError> {
    let program = host::process::find_program("bwrap".as_ref(), None, None).ok_or(BubblewrapError::Missing)?;
    let command = host::process::Command::new(&program).arg("--version").timeout(std::time::Duration::from_secs(10));
    let said = match host::process::run(command).await {
        Ok(output) if output.status.success() => host::text::one_line(output.stdout, 100),
        Ok(_) | Err(_) => return Err(BubblewrapError::Silent { program }),
    };
    let version = said.split_whitespace().next_back().unwrap_or_default().to_owned();
    let mut numbers = version.split('.').map(|number| number.parse::<u32>().ok());
    match (numbers.next().flatten(), numbers.next().flatten()) {
        (Some(major), Some(minor)) if (major, minor) >= (OLDEST_MAJOR, OLDEST_MINOR) => {
            Ok(Bubblewrap { program, version })
        }
        (Some(_), Some(_)) => Err(BubblewrapError::Old { program, version }),
        _ => Err(BubblewrapError::Silent { program }),
    }
}
