//! Repositories as a worker holds them: one mirror for each project, one worktree for each attempt.
//!
//! The mirror and the worktrees are caches below the data directory; the branch is the truth. Nothing here moves a
//! branch. A repository on this machine is used only when the worker's policy allows it.

use std::path::{Path, PathBuf};

use domain::{
    attempt::Attempt,
    ids::ProjectId,
    project::Project,
    protocol::Protocol,
    step::{DiffStat, Step},
};
use forge::git::{
    Change, CommitInfo, Git, GitConfig, GitError, LocalRepo, Mirror, ObjectFormat, Person, Remote,
    conventions::commit_subject,
    types::{BranchName, GitUrl, ObjectId, RepoPath},
};

use crate::{Worker, failure::Failure};

/// How many lines of a diff stat are kept.
const MAX_STAT_LINES: usize = 40;
/// The protocol's own files, all of them together.
const MAX_FOLDER: usize = 8 << 20;

/// Says in an attempt's directory that its worktree is not to be removed yet.
const KEPT: &str = "worktree-kept";

/// A project's mirror and where it comes from.
#[derive(Clone, Debug)]
pub(crate) struct Repository {
    pub(crate) mirror: Mirror,
    pub(crate) remote: Remote,
}

impl Worker {
    pub(crate) async fn git(&self) -> Result<&Git, GitError> {
        self.git.get_or_try_init(|| Git::find(GitConfig::beneath(&self.config.data_dir))).await
    }

    /// The project's mirror, made when there is none yet.
    pub(crate) async fn repository(&self, project: &Project) -> Result<Repository, GitError> {
        let git = self.git().await?;
        let remote = self.remote_of(project)?;
        let dir = self.mirror_dir(project.id);
        let format = if host::fs::exists(&dir) {
            ObjectFormat::Sha1
        } else {
            git.remote_refs(&remote).await?.format.unwrap_or(ObjectFormat::Sha1)
        };
        Ok(Repository { mirror: Mirror::open_or_create(git, &dir, format).await?, remote })
    }

    fn remote_of(&self, project: &Project) -> Result<Remote, GitError> {
        if project.git_url.starts_with('/') {
            let repo = LocalRepo::open(Path::new(&project.git_url), &self.config.local_repositories)?;
            return Ok(Remote::Local(repo));
        }
        Ok(Remote::Url(GitUrl::parse(&project.git_url)?))
    }

    pub(crate) fn mirrors_dir(&self) -> PathBuf {
        self.config.data_dir.join("mirrors")
    }

    pub(crate) fn mirror_dir(&self, project: ProjectId) -> PathBuf {
        self.mirrors_dir().join(format!("{project}.git"))
    }

    pub(crate) fn worktrees_dir(&self) -> PathBuf {
        self.config.data_dir.join("worktrees")
    }

    pub(crate) fn worktree_dir(&self, attempt: &Attempt) -> PathBuf {
        self.worktrees_dir().join(attempt.id.as_str())
    }

    /// Removes what an attempt worked in, unless it is kept for people. What cannot be removed now is only disk space.
    pub(crate) fn forget_worktree(&self, attempt: &Attempt) {
        if self.is_kept(attempt.id.as_str()) {
            return;
        }
        if let Err(error) = host::fs::remove_foreign_dir(&self.worktree_dir(attempt)) {
            tracing::warn!(%error, attempt = %attempt.id, "Could not remove the worktree of attempt {}", attempt.id);
        }
    }

    /// Keeps what an attempt worked in as it is, for people to look at, and says so. Written down before anybody is told:
    /// whoever tells it after a crash finds it kept.
    pub(crate) fn keep_worktree(&self, attempt: &Attempt, said: &str) -> Result<String, Failure> {
        let worktree = self.worktree_dir(attempt);
        if !host::fs::is_dir(&worktree) {
            return Ok(said.to_owned());
        }
        host::fs::write_atomic(&self.attempt_dir(attempt).join(KEPT), b"").map_err(Failure::retry)?;
        Ok(format!("{said}; its worktree is kept as it was left, at {}", worktree.display()))
    }

    /// Whether what this attempt worked in is kept for people.
    pub(crate) fn is_kept(&self, attempt: &str) -> bool {
        host::fs::exists(&self.config.attempts_dir().join(attempt).join(KEPT))
    }

    /// Removes what attempts before this one worked in, should it have been kept: this one begins anew.
    pub(crate) fn forget_kept(&self, attempt: &Attempt) {
        let Some((prefix, _)) = attempt.id.as_str().rsplit_once('-') else { return };
        for earlier in (1..attempt.number).map(|number| format!("{prefix}-{number}")).filter(|id| self.is_kept(id)) {
            let removed = host::fs::remove_foreign_dir(&self.worktrees_dir().join(&earlier))
                .and_then(|()| host::fs::remove_file(&self.config.attempts_dir().join(&earlier).join(KEPT)));
            if let Err(error) = removed {
                tracing::warn!(%error, "Could not remove the kept worktree of attempt {earlier}");
            }
        }
    }
}

impl Repository {
    /// Where the protocol's next attempt begins: the branch tip of the ledger, else the base branch.
    pub(crate) async fn start_of(&self, protocol: &Protocol) -> Result<ObjectId, GitError> {
        let Some(tip) = &protocol.branch.tip else {
            return self.mirror.fetch(&self.remote, &BranchName::parse(&protocol.base_branch)?).await;
        };
        let tip = ObjectId::parse(tip)?;
        if !self.has(&tip).await? {
            // Another machine made it, or this mirror is new: the branch was pushed when the ledger accepted it.
            self.mirror.fetch(&self.remote, &BranchName::parse(&protocol.name)?).await?;
        }
        if self.has(&tip).await? { Ok(tip) } else { Err(GitError::NoSuchObject { object: tip.to_string() }) }
    }

    pub(crate) async fn has(&self, commit: &ObjectId) -> Result<bool, GitError> {
        match self.mirror.list_tree(commit, None, false).await {
            Ok(_) => Ok(true),
            Err(GitError::NoSuchObject { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// What differs between two commits, without the protocol's own files.
    pub(crate) async fn stat(&self, old: &ObjectId, new: &ObjectId, folder: &str) -> Result<DiffStat, GitError> {
        Ok(stat_of(&self.mirror.changes(old, new).await?, folder))
    }

    /// The protocol's own files as a commit has them.
    pub(crate) async fn folder(
        &self,
        commit: &ObjectId,
        protocol: &Protocol,
    ) -> Result<Vec<(RepoPath, Vec<u8>)>, GitError> {
        let folder = RepoPath::parse(&protocol.folder())?;
        let entries = self.mirror.list_tree(commit, Some(&folder), true).await?;
        let paths: Vec<RepoPath> = entries.into_iter().filter_map(|entry| entry.repo_path).collect();
        let contents = self.mirror.read_files(commit, &paths, MAX_FOLDER).await?;
        Ok(paths.into_iter().zip(contents).filter_map(|(path, content)| Some((path, content?))).collect())
    }
}

pub(crate) fn stat_of(changes: &[Change], folder: &str) -> DiffStat {
    let own = format!("{folder}/");
    let others: Vec<&Change> = changes.iter().filter(|change| !change.path.starts_with(&own)).collect();
    let (insertions, deletions) =
        others.iter().filter_map(|change| change.lines).fold((0, 0), |(a, d), (x, y)| (a + x, d + y));
    let line = |change: &&Change| {
        let path = host::text::one_line(&change.path, 200);
        match change.lines {
            Some((added, deleted)) => format!("{} {path} +{added} -{deleted}", change.kind.letter()),
            None => format!("{} {path} (binary)", change.kind.letter()),
        }
    };
    DiffStat {
        files: u32::try_from(others.len()).unwrap_or(u32::MAX),
        insertions,
        deletions,
        lines: others.iter().take(MAX_STAT_LINES).map(line).collect(),
    }
}

/// Puts the protocol's own files back as they were: what an engine did to them is no contract.
pub(crate) fn restore_folder(
    worktree: &Path,
    protocol: &Protocol,
    files: &[(RepoPath, Vec<u8>)],
) -> Result<(), host::fs::FsError> {
    let above = worktree.join(".protocols");
    match host::fs::kind_of(&above)? {
        Some(host::fs::Kind::Directory) => {
            let folder = above.join(&protocol.name);
            match host::fs::kind_of(&folder)? {
                Some(host::fs::Kind::Directory) => host::fs::remove_foreign_dir(&folder)?,
                Some(_) => host::fs::remove_file(&folder)?,
                None => {}
            }
        }
        // A link there could lead anywhere.
        Some(_) => host::fs::remove_file(&above)?,
        None => {}
    }
    let beneath = host::fs::Beneath::open(worktree)?;
    files.iter().try_for_each(|(path, content)| beneath.write(path.as_rel(), content))
}

/// A commit of Pilothouse for an attempt: the same attempt gives the same commit, however often it is made.
pub(crate) fn commit_info(
    protocol: &Protocol,
    attempt: &Attempt,
    kind: &str,
    scope: &str,
    subject: &str,
    place: &str,
) -> Result<CommitInfo, GitError> {
    let number = protocol.number().parse().unwrap_or(0);
    let message = commit_subject(kind, scope, subject, number, place);
    let by = Person::new("Pilothouse", "pilothouse@localhost")?;
    Ok(CommitInfo::new(&message, by, attempt.started_at.as_micros().div_euclid(1_000_000))?)
}

/// `XX` of a step's commits.
pub(crate) fn place_of(step: &Step) -> String {
    format!("{:02}", step.index)
}

/// A fence as the name of a kept commit.
pub(crate) fn kept_under(attempt: &Attempt) -> u64 {
    u64::try_from(attempt.fence.0).unwrap_or_default()
}
