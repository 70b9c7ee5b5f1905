//! One commit's change on top of another commit, without a worktree.

use super::commit::CommitInfo;
use super::error::GitError;
use super::mirror::Mirror;
use super::types::ObjectId;

/// What became of a replayed commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Replay {
    Clean(ObjectId),
    /// The paths that both sides changed, as they can be shown.
    Conflict(Vec<String>),
}

impl Mirror {
    /// Carries the change from `parent` to `commit` over to `tip`, as a commit described by `info`.
    ///
    /// The same arguments give the same commit, so that it can be done again after a crash.
    pub async fn replay(
        &self,
        commit: &ObjectId,
        parent: &ObjectId,
        tip: &ObjectId,
        info: &CommitInfo,
    ) -> Result<Replay, GitError> {
        if parent == tip {
            return Ok(Replay::Clean(commit.clone()));
        }
        let (ours, base) = if self.git.version().merges_with_base() {
            (tip.clone(), Some(parent))
        } else {
            // Older gits find the base themselves: a commit with the tip's tree right above the parent leaves only one.
            (self.commit_tree_expression(&format!("{tip}^{{tree}}"), parent, info).await?, None)
        };
        let call = self
            .call("merge-tree")
            .args(["--write-tree", "-z", "--name-only", "--no-messages"])
            .args(base.map(|base| format!("--merge-base={base}")))
            .args([ours.as_str(), commit.as_str()]);
        let answer = self.git.run(call).await?;
        if !matches!(answer.exit_code(), Some(0 | 1)) {
            return Err(answer.failure());
        }
        let mut parts = answer.stdout.split(|&b| b == 0).filter(|part| !part.is_empty());
        let tree = parts.next().and_then(|part| std::str::from_utf8(part).ok()).and_then(|id| ObjectId::parse(id).ok());
        let tree = tree.ok_or_else(|| answer.unexpected(&answer.stdout))?;
        if answer.status.success() {
            return Ok(Replay::Clean(self.commit_tree(&tree, tip, info).await?));
        }
        let mut paths: Vec<String> = parts.map(super::diff::shown_path).collect();
        paths.dedup();
        if paths.is_empty() { Err(answer.unexpected(&answer.stdout)) } else { Ok(Replay::Conflict(paths)) }
    }
}
