//! The directory an attempt works in: a plain tree of files, with no git directory in or above it.
//!
//! Git is told from outside which mirror and which index belong to it, so nothing an agent writes into the tree is
//! ever taken for configuration. The tree is a cache and may be removed at any time.

use super::commit::CommitInfo;
use super::diff::{self, Change};
use super::error::GitError;
use super::mirror::Mirror;
use super::nested;
use super::types::ObjectId;
use std::collections::HashSet;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where the indexes of worktrees are, in the mirror.
const INDEXES: &str = "worktree-indexes";

/// A checked-out commit, and whatever was done to it.
#[derive(Debug, Clone)]
pub struct Worktree {
    mirror: Mirror,
    dir: PathBuf,
    index: PathBuf,
}

/// A worktree as a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The new commit, or the parent when nothing was changed.
    pub commit: ObjectId,
    pub tree: ObjectId,
    pub changed: bool,
}

impl Mirror {
    /// Fills a directory with the files of a commit. Whatever was there before is removed.
    pub async fn checkout(&self, commit: &ObjectId, dir: &Path) -> Result<Worktree, GitError> {
        if let Some(parent) = dir.parent() {
            host::fs::create_private_dir(parent)?;
        }
        let worktree = self.place(dir)?;
        worktree.clear()?;
        host::fs::create_private_dir(&worktree.dir)?;
        host::failpoint!("forge.checkout.emptied");
        let call = worktree.call("read-tree").args(["--reset", "-u", "--no-recurse-submodules", commit.as_str()]);
        let answer = self.git.run(call).await?;
        if answer.stderr.contains("failed to unpack tree object") || answer.stderr.contains("Not a valid object name") {
            return Err(GitError::NoSuchObject { object: commit.to_string() });
        }
        answer.succeeded()?;
        host::failpoint!("forge.checkout.filled");
        Ok(worktree)
    }

    /// The worktree that was checked out at `dir` before.
    pub fn worktree(&self, dir: &Path) -> Result<Worktree, GitError> {
        let worktree = self.place(dir)?;
        worktree.check()?;
        Ok(worktree)
    }

    /// Removes what is remembered of worktrees below `parent` that are gone, unless it was written less than `age` ago.
    pub fn forget_worktrees(&self, parent: &Path, age: Duration) -> Result<usize, GitError> {
        let indexes = self.dir().join(INDEXES);
        if !host::fs::exists(&indexes) {
            return Ok(0);
        }
        let mut old = Vec::new();
        for name in host::fs::list_names(&indexes)? {
            let index = indexes.join(&name);
            if host::fs::age(&index).is_ok_and(|lived| lived >= age) {
                old.push((name, index));
            }
        }
        let worktrees = if host::fs::exists(parent) { host::fs::list_names(parent)? } else { Vec::new() };
        let parent = if host::fs::exists(parent) { host::fs::canonicalize(parent)? } else { parent.to_owned() };
        let kept: HashSet<String> = worktrees.iter().map(|name| index_name(&parent.join(name))).collect();
        old.retain(|(name, _)| !kept.contains(name.trim_end_matches(".lock")));
        old.iter().try_for_each(|(_, index)| host::fs::remove_file(index))?;
        Ok(old.len())
    }

    fn place(&self, dir: &Path) -> Result<Worktree, GitError> {
        let not_ours = || GitError::NotAWorktree { path: dir.to_owned() };
        let (parent, name) = (dir.parent().ok_or_else(not_ours)?, dir.file_name().ok_or_else(not_ours)?);
        // Only the last name may have been replaced by somebody else; the way to it is ours.
        let dir = host::fs::canonicalize(parent)?.join(name);
        let indexes = self.dir().join(INDEXES);
        host::fs::create_private_dir(&indexes)?;
        let index = indexes.join(index_name(&dir));
        Ok(Worktree { mirror: self.clone(), dir, index })
    }
}

fn index_name(dir: &Path) -> String {
    host::hash::sha256_hex(dir.as_os_str().as_bytes())[..32].to_owned()
}

impl Worktree {
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What differs from `parent` now, untracked files included and ignored ones not.
    pub async fn changes(&self, parent: &ObjectId) -> Result<Vec<Change>, GitError> {
        self.stage().await?;
        let call = self.call("diff-index").args(diff::OPTIONS).args(["--cached", "--end-of-options", parent.as_str()]);
        let answer = self.mirror.git.run(call).await?.succeeded()?;
        let (changes, _) = diff::parse(&answer.stdout).ok_or_else(|| answer.unexpected(&answer.stdout))?;
        Ok(changes)
    }

    /// Commits everything in the worktree on top of `parent`. No ref changes: keep the commit or lose it.
    pub async fn snapshot_commit(&self, parent: &ObjectId, info: &CommitInfo) -> Result<Snapshot, GitError> {
        let expressions = [format!("{parent}^{{tree}}")];
        // The parent's tree does not depend on the worktree, so it is looked up meanwhile.
        let (staged, parent_tree) = tokio::join!(self.stage(), self.mirror.look_up(&expressions));
        staged?;
        let Some(parent_tree) = parent_tree?.pop().flatten() else {
            return Err(GitError::NoSuchObject { object: parent.to_string() });
        };
        let answer = self.mirror.run_unlocking(|| self.call("write-tree")).await?.succeeded()?;
        let tree = answer.object_id()?;
        if tree == parent_tree {
            return Ok(Snapshot { commit: parent.clone(), tree, changed: false });
        }
        host::failpoint!("forge.snapshot.tree-written");
        let commit = self.mirror.commit_tree(&tree, parent, info).await?;
        host::failpoint!("forge.snapshot.committed");
        Ok(Snapshot { commit, tree, changed: true })
    }

    /// Removes the worktree. That it is gone already is fine.
    pub async fn remove(self) -> Result<(), GitError> {
        let path = self.dir.clone();
        let joined = host::task::spawn_blocking("remove a worktree", move || self.clear()).await;
        joined.map_err(|error| GitError::Io { action: "remove", path, source: std::io::Error::other(error) })?
    }

    /// Brings the index up to the files: refuses nested repositories, then adds everything that is not ignored.
    async fn stage(&self) -> Result<(), GitError> {
        self.check()?;
        nested::refuse(&self.mirror.git, &self.dir, || self.call("check-ignore")).await?;
        let answer = self.mirror.run_unlocking(|| self.call("add").args(["--all", "--", "."])).await?;
        answer.succeeded().map(drop)
    }

    fn call(&self, subcommand: &'static str) -> super::call::Call {
        self.mirror.call(subcommand).work_tree(&self.dir, &self.index)
    }

    /// The place has to be a directory of its own: an agent could have put a link there.
    fn check(&self) -> Result<(), GitError> {
        match host::fs::kind_of(&self.dir)? {
            Some(host::fs::Kind::Directory) => Ok(()),
            Some(_) | None => Err(GitError::NotAWorktree { path: self.dir.clone() }),
        }
    }

    fn clear(&self) -> Result<(), GitError> {
        host::fs::remove_file(&self.index)?;
        host::fs::remove_file(&self.index.with_extension("lock"))?;
        Ok(host::fs::remove_foreign_dir(&self.dir)?)
    }
}
