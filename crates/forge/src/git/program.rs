//! The git program on this machine.

use super::call::Call;
use super::error::GitError;
use super::version::{MINIMUM, Version};
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Where else git is commonly installed; a machine's own `PATH` is searched first.
const USUAL_PATH: &str = "/usr/local/bin:/usr/bin:/bin:/opt/homebrew/bin";

/// How to find and hold git.
#[derive(Debug, Clone)]
pub struct GitConfig {
    /// The program, by absolute path; without it git is looked for.
    pub program: Option<PathBuf>,
    /// A directory that is git's home and stays empty; made when missing.
    pub home: PathBuf,
    pub limits: Limits,
}

impl GitConfig {
    /// Any git of at least [`MINIMUM`], with the usual limits and an empty home below the data directory.
    pub fn beneath(data_dir: &Path) -> Self {
        Self { program: None, home: data_dir.join("git-home"), limits: Limits::default() }
    }
}

/// How long and how much one git process may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// For a call that stays on this machine.
    pub local: Duration,
    /// For a fetch, a push, or a look at a remote.
    pub remote: Duration,
    /// Bytes of output where all of it is needed.
    pub output: usize,
    /// Entries of a worktree.
    pub files: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { local: Duration::from_secs(120), remote: Duration::from_secs(600), output: 64 << 20, files: 2_000_000 }
    }
}

/// A git program that was found and is new enough. Clones share their locks.
#[derive(Debug, Clone)]
pub struct Git {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    program: PathBuf,
    home: PathBuf,
    limits: Limits,
    version: Version,
    locks: Mutex<HashMap<PathBuf, Arc<tokio::sync::Mutex<()>>>>,
    started: AtomicU64,
}

impl Git {
    /// Finds git and asks for its version.
    pub async fn find(config: GitConfig) -> Result<Self, GitError> {
        let program = find_program(config.program.as_deref())?;
        host::fs::create_private_dir(&config.home)?;
        let home = host::fs::canonicalize(&config.home)?;
        let unknown = Version { major: 0, minor: 0, patch: 0 };
        let mut inner = Inner {
            program,
            home,
            limits: config.limits,
            version: unknown,
            locks: Mutex::default(),
            started: AtomicU64::new(0),
        };
        let answer = Call::new("version").run_by(&inner.program, &inner.home, &inner.limits).await?.succeeded()?;
        let text = String::from_utf8_lossy(&answer.stdout).into_owned();
        let Some(version) = Version::parse(&text) else {
            return Err(GitError::Unexpected { subcommand: "version", what: host::text::one_line(text, 200) });
        };
        if version < MINIMUM {
            return Err(GitError::TooOld { found: version.to_string(), minimum: MINIMUM.to_string() });
        }
        inner.version = version;
        Ok(Self { inner: Arc::new(inner) })
    }

    pub fn version(&self) -> Version {
        self.inner.version
    }

    pub fn program(&self) -> &Path {
        &self.inner.program
    }

    pub fn limits(&self) -> &Limits {
        &self.inner.limits
    }

    /// How many git processes were started so far: what an operation costs, for tests and metrics.
    pub fn n_started(&self) -> u64 {
        self.inner.started.load(Ordering::Relaxed)
    }

    pub(super) async fn run(&self, call: Call) -> Result<super::call::Answer, GitError> {
        self.inner.started.fetch_add(1, Ordering::Relaxed);
        call.run_by(&self.inner.program, &self.inner.home, &self.inner.limits).await
    }

    /// The lock that belongs to a place, the same for everybody in this process.
    pub(super) fn lock_of(&self, place: &Path) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = self.inner.locks.lock().unwrap_or_else(PoisonError::into_inner);
        locks.entry(place.to_owned()).or_default().clone()
    }
}

fn find_program(configured: Option<&Path>) -> Result<PathBuf, GitError> {
    let missing = |looked_for: &Path| GitError::Missing { looked_for: looked_for.display().to_string() };
    if let Some(program) = configured {
        let found = host::process::find_program(program.as_os_str(), None, None).filter(|_| program.is_absolute());
        return found.ok_or_else(|| missing(program));
    }
    let path = match host::env::var("PATH") {
        Some(path) => OsString::from(format!("{path}:{USUAL_PATH}")),
        None => OsString::from(USUAL_PATH),
    };
    host::process::find_program(OsStr::new("git"), Some(&path), None)
        .ok_or_else(|| missing(Path::new(&format!("git in {}", path.to_string_lossy()))))
}
