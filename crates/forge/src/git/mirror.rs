//! The bare repository of ours that stands for a project: the only git directory we ever work with.

use super::call::{Answer, Call};
use super::error::GitError;
use super::program::Git;
use super::remote::Remote;
use super::types::{BranchName, ObjectId, RefName};
use host::fs::{Kind, Step};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, MutexGuard};

/// What tools leave behind in a worktree and nobody means to commit, besides what the repository itself ignores.
const DROPPINGS: &str = "\
.DS_Store
Thumbs.db
*.swp
.nfs*
__pycache__/
.pytest_cache/
node_modules/
.venv/
.pilothouse/
.claude/settings.local.json
";

/// When it was last written, the mirror was last tidied.
const TIDIED: &str = "pilothouse-tidied";

/// A lock file this much older than any call may live belongs to nobody.
const STALE_AFTER: u32 = 2;

/// A project's mirror. Clones, and mirrors opened again, share their locks.
#[derive(Debug, Clone)]
pub struct Mirror {
    pub(super) git: Git,
    dir: PathBuf,
    /// For whatever changes refs of ours: short.
    refs: Arc<Mutex<()>>,
    /// For fetches, which may take long and change no ref of ours.
    fetches: Arc<Mutex<()>>,
}

/// How a repository names its objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ObjectFormat {
    #[default]
    Sha1,
    Sha256,
}

impl ObjectFormat {
    /// The format that an object id belongs to.
    pub fn of(id: &ObjectId) -> Self {
        if id.as_str().len() == 64 { Self::Sha256 } else { Self::Sha1 }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
        }
    }
}

impl Mirror {
    /// Opens the mirror at `dir`, creating it when there is none. An existing mirror keeps its object format.
    pub async fn open_or_create(git: &Git, dir: &Path, format: ObjectFormat) -> Result<Self, GitError> {
        if !is_mirror(dir) {
            create(git, dir, format).await?;
        }
        let dir = host::fs::canonicalize(dir)?;
        write_droppings(&dir)?;
        Ok(Self { git: git.clone(), refs: git.lock_of(&dir), fetches: git.lock_of(&dir.join("fetches")), dir })
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn git(&self) -> &Git {
        &self.git
    }

    /// Fetches one branch with its history and says where it is. The result lives under `refs/remotes/origin/`.
    pub async fn fetch(&self, source: &Remote, base: &BranchName) -> Result<ObjectId, GitError> {
        let fetched = base.to_fetched_ref();
        let _held = self.fetches.lock().await;
        let answer = self
            .run_unlocking(|| {
                self.call("fetch")
                    .reach(source.reach())
                    .args(["--quiet", "--force", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules"])
                    .arg("--no-auto-maintenance")
                    .args(source.upload_pack(&self.git))
                    .arg("--end-of-options")
                    .arg(source.argument())
                    .arg(format!("+{}:{fetched}", base.to_ref()))
            })
            .await?;
        if !answer.status.success() {
            let missing = answer.stderr.contains("couldn't find remote ref");
            return Err(if missing { GitError::NoSuchBranch { branch: base.clone() } } else { answer.failure() });
        }
        host::failpoint!("forge.fetch.done");
        let tip = self.resolve(&fetched).await?;
        tip.ok_or_else(|| GitError::NoSuchBranch { branch: base.clone() })
    }

    /// The commit that a ref of the mirror names.
    pub async fn resolve(&self, name: &RefName) -> Result<Option<ObjectId>, GitError> {
        let mut found = self.look_up(&[format!("{name}^{{commit}}")]).await?;
        Ok(found.pop().flatten())
    }

    /// The commit that a branch of the mirror is at.
    pub async fn branch_tip(&self, branch: &BranchName) -> Result<Option<ObjectId>, GitError> {
        self.resolve(&branch.to_ref()).await
    }

    /// All branches of the mirror and where they are.
    pub async fn branches(&self) -> Result<Vec<(BranchName, ObjectId)>, GitError> {
        let call = self.call("for-each-ref").args(["--format=%(objectname) %(refname)", "refs/heads/"]);
        let answer = self.git.run(call).await?.succeeded()?;
        let mut branches = Vec::new();
        for line in String::from_utf8_lossy(&answer.stdout).lines() {
            let parsed =
                line.split_once(" refs/heads/").map(|(id, name)| (BranchName::parse(name), ObjectId::parse(id)));
            match parsed {
                Some((Ok(branch), Ok(tip))) => branches.push((branch, tip)),
                // We make no other branches, so this one is not ours to report.
                Some((Err(_), Ok(_))) => {}
                _ => return Err(answer.unexpected(line)),
            }
        }
        Ok(branches)
    }

    /// Object ids for expressions made of object ids, full refs and parsed paths; one process for all of them.
    pub(super) async fn look_up(&self, expressions: &[String]) -> Result<Vec<Option<ObjectId>>, GitError> {
        let call = self.call("cat-file").arg("--batch-check=%(objectname)").stdin(expressions.join("\n") + "\n");
        let answer = self.git.run(call).await?.succeeded()?;
        let text = String::from_utf8_lossy(&answer.stdout);
        let found: Vec<Option<ObjectId>> = text.lines().map(|line| ObjectId::parse(line).ok()).collect();
        if found.len() == expressions.len() { Ok(found) } else { Err(answer.unexpected(&answer.stdout)) }
    }

    /// Packs what accumulated, and drops objects that nothing has referred to for two weeks. For a quiet hour: it
    /// may take long in a large repository.
    pub async fn tidy(&self) -> Result<(), GitError> {
        // Objects that no ref reaches stay as they are here: an attempt may be about to keep them.
        self.git.run(self.call("repack").args(["-d", "-l", "-q"])).await?.succeeded()?;
        self.git.run(self.call("prune").arg("--expire=2.weeks.ago")).await?.succeeded()?;
        Ok(())
    }

    /// Tidies, unless somebody did or tried so less than `every` ago.
    pub async fn tidy_every(&self, every: Duration) -> Result<bool, GitError> {
        let mark = self.dir.join(TIDIED);
        // A mirror that was never tidied is as old as what it was made with.
        let since = if host::fs::exists(&mark) { &mark } else { &self.dir.join("HEAD") };
        if host::fs::age(since)? < every {
            return Ok(false);
        }
        // Marked first, so that a mirror that cannot be tidied is not tried all the time.
        host::fs::write_atomic(&mark, b"")?;
        self.tidy().await?;
        Ok(true)
    }

    /// A call on this mirror.
    pub(super) fn call(&self, subcommand: &'static str) -> Call {
        Call::new(subcommand).git_dir(&self.dir)
    }

    /// Waits for everybody else in this process who changes refs of this mirror.
    pub(super) async fn hold(&self) -> MutexGuard<'_, ()> {
        self.refs.lock().await
    }

    /// Runs a call that writes refs or an index; when a lock file of a process that died is in the way, once more.
    pub(super) async fn run_unlocking(&self, call: impl Fn() -> Call) -> Result<Answer, GitError> {
        let answer = self.git.run(call()).await?;
        let in_the_way = !answer.status.success() && answer.stderr.contains(".lock': File exists");
        if in_the_way && self.remove_stale_locks()? > 0 {
            return self.git.run(call()).await;
        }
        Ok(answer)
    }

    /// Removes lock files that are older than any git process of ours can be. Git itself never does.
    pub fn remove_stale_locks(&self) -> Result<usize, GitError> {
        let limits = self.git.limits();
        let age = limits.local.max(limits.remote) * STALE_AFTER;
        let (mut locks, mut removed) = (Vec::new(), 0);
        host::fs::walk(&self.dir, |path, kind| {
            if kind == Kind::File && path.as_os_str().as_encoded_bytes().ends_with(b".lock") {
                locks.push(self.dir.join(path));
            }
            if path == Path::new("objects") { Step::Skip } else { Step::Enter }
        })?;
        for lock in locks {
            if host::fs::age(&lock).is_ok_and(|lived| lived > age) {
                host::fs::remove_file(&lock)?;
                removed += 1;
            }
        }
        Ok(removed)
    }
}

fn is_mirror(dir: &Path) -> bool {
    host::fs::exists(&dir.join("HEAD")) && host::fs::is_dir(&dir.join("objects")) && host::fs::is_dir(&dir.join("refs"))
}

/// Creates a mirror beside its place and moves it there, so that a crash leaves all of it or nothing.
async fn create(git: &Git, dir: &Path, format: ObjectFormat) -> Result<(), GitError> {
    let parent = dir.parent().unwrap_or(dir);
    host::fs::create_private_dir(parent)?;
    let made = host::fs::create_temporary_dir(parent, ".new-mirror-")?;
    let call = Call::new("init")
        .args(["--quiet", "--bare", "--template=", "--initial-branch=main"])
        .arg(format!("--object-format={}", format.as_str()))
        .arg("--end-of-options")
        .arg(&made);
    let created = match git.run(call).await {
        Ok(answer) => answer.succeeded().map(drop),
        Err(error) => Err(error),
    };
    host::failpoint!("forge.mirror.made");
    let moved = created.and_then(|()| match host::fs::rename(&made, dir) {
        // Somebody else was faster.
        Err(_) if is_mirror(dir) => Ok(()),
        other => Ok(other?),
    });
    host::failpoint!("forge.mirror.moved");
    // Best effort: after a successful move there is nothing left here.
    let _ = host::fs::remove_dir_all(&made);
    moved
}

fn write_droppings(dir: &Path) -> Result<(), GitError> {
    let path = dir.join("info/exclude");
    if host::fs::read(&path, 64 * 1024).is_ok_and(|current| current == DROPPINGS.as_bytes()) {
        return Ok(());
    }
    host::fs::create_private_dir(&dir.join("info"))?;
    Ok(host::fs::write_atomic(&path, DROPPINGS.as_bytes())?)
}
