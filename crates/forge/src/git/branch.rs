//! Refs: kept attempts, and branches that move only from where the ledger says they are.

use super::error::GitError;
use super::mirror::Mirror;
use super::remote::Remote;
use super::types::{BranchName, ObjectId, RefName};

/// How a branch came to be where it was wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advance {
    Moved,
    /// Somebody had done it before: the same move again.
    AlreadyThere,
}

/// A commit that is kept alive for an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    pub fence: u64,
    pub commit: ObjectId,
    /// In seconds since 1970.
    pub committed_at: i64,
}

impl Mirror {
    /// Keeps an attempt's commit alive. Doing it again is fine.
    pub async fn keep_attempt(&self, fence: u64, commit: &ObjectId) -> Result<(), GitError> {
        let name = RefName::of_attempt(fence);
        let _held = self.hold().await;
        self.run_unlocking(|| self.call("update-ref").args([name.as_str(), commit.as_str()])).await?.succeeded()?;
        host::failpoint!("forge.attempt.kept");
        Ok(())
    }

    /// Lets go of an attempt's commit. That it was not kept is fine.
    pub async fn drop_attempt(&self, fence: u64) -> Result<(), GitError> {
        let name = RefName::of_attempt(fence);
        let _held = self.hold().await;
        self.run_unlocking(|| self.call("update-ref").args(["-d", name.as_str()])).await?.succeeded()?;
        Ok(())
    }

    /// Every commit that is kept alive for an attempt.
    pub async fn kept_attempts(&self) -> Result<Vec<Kept>, GitError> {
        let format = "--format=%(objectname) %(committerdate:unix) %(refname:lstrip=3)";
        let call = self.call("for-each-ref").args([format, "refs/pilothouse/attempts/"]);
        let answer = self.git.run(call).await?.succeeded()?;
        let parse = |line: &str| {
            let mut fields = line.split(' ');
            let commit = ObjectId::parse(fields.next()?).ok()?;
            let committed_at = fields.next()?.parse().ok()?;
            Some(Kept { fence: fields.next()?.parse().ok()?, commit, committed_at })
        };
        let text = String::from_utf8_lossy(&answer.stdout).into_owned();
        text.lines().map(|line| parse(line).ok_or_else(|| answer.unexpected(line))).collect()
    }

    /// Moves a branch of the mirror from `old` (`None`: it must not exist) to `new`.
    pub async fn advance_branch(
        &self,
        branch: &BranchName,
        old: Option<&ObjectId>,
        new: &ObjectId,
    ) -> Result<Advance, GitError> {
        let name = branch.to_ref();
        let expected = old.map_or_else(|| new.zero(), ToString::to_string);
        let _held = self.hold().await;
        // Git reads an old value of zeros as "must not exist", and otherwise compares under the ref's own lock.
        let answer = self
            .run_unlocking(|| self.call("update-ref").args([name.as_str(), new.as_str(), expected.as_str()]))
            .await?;
        host::failpoint!("forge.branch.moved");
        if answer.status.success() {
            return Ok(if old == Some(new) { Advance::AlreadyThere } else { Advance::Moved });
        }
        let found = self.resolve(&name).await?;
        if found.as_ref() == Some(new) {
            return Ok(Advance::AlreadyThere);
        }
        if found.as_ref() == old {
            // The branch is where it was believed to be, so something else went wrong.
            return Err(answer.failure());
        }
        Err(GitError::Moved { branch: branch.clone(), expected: old.cloned(), found })
    }

    /// Moves a branch of the remote from `old` (`None`: it must not exist) to `new`.
    ///
    /// The remote compares, so a worker that was overtaken changes nothing there. The checkout of a repository on
    /// this machine is not touched: a branch that is checked out there is refused.
    pub async fn push(
        &self,
        target: &Remote,
        branch: &BranchName,
        old: Option<&ObjectId>,
        new: &ObjectId,
    ) -> Result<Advance, GitError> {
        self.refuse_configured_hooks(target).await?;
        let name = branch.to_ref();
        let expected = old.map(ObjectId::as_str).unwrap_or_default();
        let call = self
            .call("push")
            .reach(target.reach())
            .args(["--porcelain", "--no-verify", "--no-follow-tags", "--no-recurse-submodules", "--no-signed"])
            .arg(format!("--force-with-lease={name}:{expected}"))
            .args(target.receive_pack(&self.git))
            .arg("--end-of-options")
            .arg(target.argument())
            .arg(format!("{new}:{name}"));
        let answer = self.git.run(call).await?;
        host::failpoint!("forge.push.done");
        let text = String::from_utf8_lossy(&answer.stdout).into_owned();
        let outcome = text.lines().find_map(|line| line.split_once(&format!("\t{new}:{name}\t")));
        let Some((flag, summary)) = outcome else { return Err(answer.failure()) };
        match flag {
            "=" => return Ok(Advance::AlreadyThere),
            " " | "+" | "*" if answer.status.success() => return Ok(Advance::Moved),
            _ => {}
        }
        if summary.contains("branch is currently checked out") {
            return Err(GitError::CheckedOut { branch: branch.clone() });
        }
        let found = self.git.remote_ref(target, &name).await?;
        if found.as_ref() == Some(new) {
            return Ok(Advance::AlreadyThere);
        }
        if found.as_ref() == old {
            return Err(GitError::Rejected { branch: branch.clone(), reason: host::text::one_line(summary, 300) });
        }
        Err(GitError::Moved { branch: branch.clone(), expected: old.cloned(), found })
    }

    /// Where a branch of the remote is.
    pub async fn remote_tip(&self, target: &Remote, branch: &BranchName) -> Result<Option<ObjectId>, GitError> {
        self.git.remote_ref(target, &branch.to_ref()).await
    }

    /// Newer gits run hook commands named in a repository's configuration, which no setting of ours turns off.
    async fn refuse_configured_hooks(&self, target: &Remote) -> Result<(), GitError> {
        match target {
            Remote::Local(repo) if self.git.version().has_configured_hooks() => {
                if self.git.configures_hooks(repo).await? {
                    let why = "its configuration defines hook commands";
                    return Err(GitError::RefusedRepository { path: repo.path().to_owned(), why });
                }
                Ok(())
            }
            Remote::Local(_) | Remote::Url(_) => Ok(()),
        }
    }
}
