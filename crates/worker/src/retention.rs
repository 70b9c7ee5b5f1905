//! What finished attempts left on this machine, removed once it is no longer kept: their output and artifacts, worktrees
//! that nobody works in, commits that nothing asks for.
//!
//! The ledger says what is finished; the disk only says what is old enough to ask about. A directory is moved aside in
//! one step before it is emptied, so that whoever reads it finds all of it or nothing, and a sweep that was cut off is
//! finished by the next one. Several workers may sweep the same machine.

use std::{path::PathBuf, time::Duration};

use domain::{
    attempt::{Attempt, AttemptState},
    ids::ProjectId,
    protocol::{Protocol, ProtocolState},
    time::Timestamp,
};
use forge::git::{Git, GitError, Kept, Mirror, ObjectFormat};
use host::fs::FsError;
use store::StoreError;

use crate::Worker;

/// Directories looked at in one go, small enough to hold nobody up.
const SLICE: usize = 32;
/// Between two slices others have the disk and the ledger to themselves.
const PAUSE: Duration = Duration::from_millis(20);
/// The first sweep of a worker, so that one that never lives long also sweeps.
const FIRST: Duration = Duration::from_secs(60);
const TIDY_EVERY: Duration = Duration::from_secs(24 * 60 * 60);
/// What a checkout has just written is not taken for what one has left.
const YOUNG_INDEX: Duration = Duration::from_secs(60 * 60);
const PAGE: u32 = 100;

/// Why a sweep did not get through. The next one tries again.
#[derive(Debug, thiserror::Error)]
enum SweepError {
    #[error("the disk")]
    Disk(#[from] FsError),
    #[error("the ledger")]
    Ledger(#[from] StoreError),
    #[error("a mirror")]
    Mirror(#[from] GitError),
    #[error("a thread was lost")]
    Thread,
}

/// Directories below one root, each named by its attempt.
struct Shelf {
    root: PathBuf,
    /// How long ago their attempt must have ended.
    kept: Duration,
    /// How long nobody may have added anything to them, where that is known to say something.
    untouched: Duration,
}

impl Worker {
    pub(crate) async fn sweep(self) {
        let mut pause = self.config.sweep.min(FIRST);
        loop {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.draining.cancelled() => return,
            }
            pause = self.config.sweep;
            if let Err(error) = self.sweep_once().await {
                let why = crate::project_setup::full(&error);
                tracing::warn!(why, "What is no longer kept could not all be removed: {why}");
            }
        }
    }

    async fn sweep_once(&self) -> Result<(), SweepError> {
        self.empty_trash().await?;
        let kept = self.config.retention.artifacts;
        self.clear_shelf(&Shelf { root: self.config.attempts_dir(), kept, untouched: kept }).await?;
        // Past its lease and its supervisor's patience, nothing of an attempt runs in its worktree.
        let gone = kept.min(self.config.lease + self.config.outlive);
        self.clear_shelf(&Shelf { root: self.worktrees_dir(), kept: gone, untouched: Duration::ZERO }).await?;
        self.sweep_mirrors().await
    }

    /// Removes the directories of attempts that ended long enough ago, a slice at a time.
    async fn clear_shelf(&self, shelf: &Shelf) -> Result<(), SweepError> {
        let root = shelf.root.clone();
        let names = blocking(move || names_of(&root)).await?;
        for slice in names.chunks(SLICE) {
            for name in slice {
                let (dir, untouched) = (shelf.root.join(name), shelf.untouched);
                let Ok(age) = blocking(move || host::fs::age(&dir)).await else { continue };
                // What is kept for people is kept as long as what else an attempt left.
                let kept = if self.is_kept(name) { self.config.retention.artifacts } else { shelf.kept };
                if age >= untouched && self.is_over(name, age, kept).await? {
                    self.throw_away(&shelf.root, name).await?;
                }
            }
            tokio::time::sleep(PAUSE).await;
            if self.draining.is_cancelled() {
                break;
            }
        }
        Ok(())
    }

    /// Whether an attempt ended at least this long ago. One that the ledger does not know was lost with a ledger that
    /// was replaced by a backup: then its directory's age is all there is.
    async fn is_over(&self, attempt: &str, age: Duration, kept: Duration) -> Result<bool, SweepError> {
        let before = self.control.clock().now().before(kept);
        Ok(match self.control.store().find_attempt(attempt).await? {
            Some(Attempt { state: AttemptState::Running, .. }) => false,
            Some(Attempt { state: AttemptState::Ended { at, .. }, .. }) => at <= before,
            None => age >= self.config.retention.artifacts,
        })
    }

    /// Moves a directory aside and removes it there.
    async fn throw_away(&self, root: &std::path::Path, name: &str) -> Result<(), SweepError> {
        let (dir, trash) = (root.join(name), self.trash_dir());
        let aside = trash.join(format!("{name}.{}", host::random::base62(8)));
        blocking(move || {
            host::fs::create_private_dir(&trash)?;
            match host::fs::rename(&dir, &aside) {
                Ok(()) => host::fs::remove_foreign_dir(&aside),
                // Another worker was faster, or whoever worked in it does not let it be moved.
                Err(_) => host::fs::remove_foreign_dir(&dir),
            }
        })
        .await
    }

    /// Removes what an earlier sweep moved aside and did not live to remove.
    async fn empty_trash(&self) -> Result<(), SweepError> {
        let trash = self.trash_dir();
        blocking(move || {
            for name in names_of(&trash)? {
                if let Err(error) = host::fs::remove_foreign_dir(&trash.join(name)) {
                    // Another worker of this machine may be removing it.
                    tracing::debug!(%error, "Could not remove what was thrown away");
                }
            }
            Ok(())
        })
        .await
    }

    fn trash_dir(&self) -> PathBuf {
        self.config.data_dir.join("trash")
    }

    async fn sweep_mirrors(&self) -> Result<(), SweepError> {
        let mirrors = self.mirrors_dir();
        let names = blocking(move || names_of(&mirrors)).await?;
        for name in names {
            let Some(project) = name.strip_suffix(".git").and_then(|id| id.parse().ok()).map(ProjectId) else {
                continue;
            };
            if self.draining.is_cancelled() {
                break;
            }
            let git = self.git().await?;
            self.sweep_mirror(git, project).await?;
        }
        Ok(())
    }

    async fn sweep_mirror(&self, git: &Git, project: ProjectId) -> Result<(), SweepError> {
        let mirror = Mirror::open_or_create(git, &self.mirror_dir(project), ObjectFormat::Sha1).await?;
        let (here, worktrees) = (mirror.clone(), self.worktrees_dir());
        let forgotten =
            host::task::spawn_blocking("forget worktrees", move || here.forget_worktrees(&worktrees, YOUNG_INDEX));
        forgotten.await.map_err(|_| SweepError::Thread)??;
        self.drop_commits(&mirror, project).await?;
        if mirror.tidy_every(TIDY_EVERY).await? {
            tracing::info!(%project, "Tidied the mirror of project {project}");
        }
        Ok(())
    }

    /// Lets go of old commits that no unfinished protocol of the project names.
    async fn drop_commits(&self, mirror: &Mirror, project: ProjectId) -> Result<(), SweepError> {
        let before = self.control.clock().now().before(self.config.retention.artifacts);
        let is_old = |kept: &Kept| Timestamp::from_micros(kept.committed_at.saturating_mul(1_000_000)) < before;
        // What is kept is asked first: whatever is then neither under way nor named in the ledger will never be.
        let mut old: Vec<Kept> = mirror.kept_attempts().await?.into_iter().filter(is_old).collect();
        if old.is_empty() {
            return Ok(());
        }
        let unfinished: Vec<String> = ProtocolState::NAMES
            .into_iter()
            .filter(|name| !["completed", "cancelled"].contains(name))
            .map(str::to_owned)
            .collect();
        let mut after = None;
        loop {
            let page = self.control.store().list_protocols(Some(project.0), &unfinished, after, PAGE).await?;
            for listed in &page {
                if let Some(found) = self.control.store().find::<Protocol>(&listed.protocol.id.to_string()).await? {
                    old.retain(|kept| !asks_for(&found.subject, kept));
                }
            }
            let Some(last) = page.last().filter(|_| page.len() == PAGE as usize) else { break };
            after = Some((last.protocol.id.0, last.protocol.id.to_string()));
        }
        for kept in old {
            mirror.drop_attempt(kept.fence).await?;
        }
        Ok(())
    }
}

/// Whether a protocol names a commit anywhere, or may be about to: its attempt is still under way.
fn asks_for(protocol: &Protocol, kept: &Kept) -> bool {
    let attempts = protocol.steps.iter().filter_map(|step| step.attempt.as_ref()).chain(&protocol.attempt);
    let under_way = |attempt: &Attempt| attempt.is_running() && u64::try_from(attempt.fence.0) == Ok(kept.fence);
    // Wherever in its state a commit is named, it is in the text of it; what cannot be written is not read, either.
    let names = |text: serde_json::Result<String>| text.map_or(true, |text| text.contains(kept.commit.as_str()));
    attempts.into_iter().any(under_way)
        || names(serde_json::to_string(protocol))
        || protocol.steps.iter().any(|step| names(serde_json::to_string(step)))
}

/// The directories of attempts below a root, in order; none while there is no root.
fn names_of(root: &std::path::Path) -> Result<Vec<String>, FsError> {
    if !host::fs::exists(root) {
        return Ok(Vec::new());
    }
    host::fs::list_names(root)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, FsError> + Send + 'static,
) -> Result<T, SweepError> {
    Ok(host::task::spawn_blocking("sweep", work).await.map_err(|_| SweepError::Thread)??)
}
