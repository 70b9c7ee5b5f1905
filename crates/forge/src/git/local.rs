//! Repositories on this machine that somebody else works in.
//!
//! We only ever talk to them as to a remote: their checkout and their configuration are never worked in.

use super::error::GitError;
use std::path::{Path, PathBuf};

const POINTER_CAP: u64 = 4096;

/// Which repositories on this machine a project may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LocalPolicy {
    /// None.
    Nothing,
    /// Those whose directories belong to this uid, wherever they lie.
    OwnedBy(u32),
    /// Those that lie in one of these directories.
    Beneath(Vec<PathBuf>),
}

/// A repository on this machine that the policy allows, as an absolute path without links.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalRepo {
    path: PathBuf,
    git_dir: PathBuf,
}

impl LocalRepo {
    /// Finds the repository in a directory and checks it and its git directories against the policy.
    pub fn open(path: &Path, policy: &LocalPolicy) -> Result<Self, GitError> {
        let refused = |why| GitError::RefusedRepository { path: path.to_owned(), why };
        if !path.is_absolute() {
            return Err(refused("its path is not absolute"));
        }
        if path.as_os_str().as_encoded_bytes().iter().any(u8::is_ascii_control) {
            return Err(refused("its path has a control character in it"));
        }
        let missing = || GitError::NotARepository { path: path.to_owned() };
        let path = host::fs::canonicalize(path).map_err(|_| missing())?;
        let git_dir = find_git_dir(&path).ok_or_else(missing)?;
        let git_dir = host::fs::canonicalize(&git_dir).map_err(|_| missing())?;
        let mut dirs = vec![path.clone(), git_dir.clone()];
        if let Some(common) = find_common_dir(&git_dir) {
            dirs.push(host::fs::canonicalize(&common).map_err(|_| missing())?);
        }
        // What git stores in a repository may itself be reached through a link: its target counts too.
        let inner: Vec<PathBuf> =
            dirs[1..].iter().flat_map(|dir| ["objects", "refs"].map(|name| dir.join(name))).collect();
        for dir in inner.into_iter().filter(|dir| host::fs::is_dir(dir)) {
            dirs.push(host::fs::canonicalize(&dir)?);
        }
        for dir in &dirs {
            policy.check(dir).map_err(refused)?;
        }
        Ok(Self { path, git_dir })
    }

    /// The directory that people know: the checkout, or the bare repository itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn git_dir(&self) -> &Path {
        &self.git_dir
    }
}

impl LocalPolicy {
    fn check(&self, dir: &Path) -> Result<(), &'static str> {
        match self {
            Self::Nothing => Err("local repositories are not allowed here"),
            Self::OwnedBy(uid) => match host::fs::owner_uid(dir) {
                Ok(owner) if owner == *uid => Ok(()),
                Ok(_) => Err("it belongs to another user"),
                Err(_) => Err("its owner cannot be determined"),
            },
            Self::Beneath(roots) => {
                let allowed =
                    roots.iter().filter_map(|root| host::fs::canonicalize(root).ok()).any(|root| dir.starts_with(root));
                if allowed { Ok(()) } else { Err("it lies outside the allowed directories") }
            }
        }
    }
}

fn find_git_dir(path: &Path) -> Option<PathBuf> {
    let dot_git = path.join(".git");
    if host::fs::is_dir(&dot_git) {
        return looks_like_git_dir(&dot_git).then_some(dot_git);
    }
    // A linked worktree or a submodule: a file that names the directory.
    if let Ok(pointer) = host::fs::read_text(&dot_git, POINTER_CAP) {
        let target = path.join(pointer.strip_prefix("gitdir: ")?.trim_end_matches(['\n', '\r']));
        return looks_like_git_dir(&target).then_some(target);
    }
    looks_like_git_dir(path).then(|| path.to_owned())
}

fn find_common_dir(git_dir: &Path) -> Option<PathBuf> {
    let pointer = host::fs::read_text(&git_dir.join("commondir"), POINTER_CAP).ok()?;
    Some(git_dir.join(pointer.trim_end_matches(['\n', '\r'])))
}

fn looks_like_git_dir(dir: &Path) -> bool {
    let root = find_common_dir(dir).unwrap_or_else(|| dir.to_owned());
    host::fs::exists(&dir.join("HEAD"))
        && host::fs::is_dir(&root.join("objects"))
        && host::fs::is_dir(&root.join("refs"))
}

impl super::program::Git {
    /// Whether a repository's configuration names hook commands of its own.
    pub(super) async fn configures_hooks(&self, repo: &LocalRepo) -> Result<bool, GitError> {
        let git_dir = repo.git_dir();
        let common = find_common_dir(git_dir).unwrap_or_else(|| git_dir.to_owned());
        for file in
            [common.join("config"), git_dir.join("config.worktree")].iter().filter(|file| host::fs::exists(file))
        {
            let call = super::call::Call::new("config").arg("--file").arg(file).args([
                "--includes",
                "--name-only",
                "--get-regexp",
                "^hook\\.",
            ]);
            let answer = self.run(call).await?;
            match answer.exit_code() {
                Some(0) => return Ok(true),
                Some(1) => {}
                _ => return Err(answer.failure()),
            }
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::super::program::{Git, GitConfig};
    use super::*;

    #[tokio::test]
    async fn hook_commands_are_found_wherever_the_configuration_takes_them_from() {
        let dir = tempfile::tempdir().unwrap();
        let git = Git::find(GitConfig::beneath(dir.path())).await.unwrap();
        let git_dir = dir.path().join("repo");
        for name in ["objects", "refs"] {
            std::fs::create_dir_all(git_dir.join(name)).unwrap();
        }
        std::fs::write(git_dir.join("HEAD"), "ref: refs/heads/main\n").unwrap();
        std::fs::write(dir.path().join("included"), "[hook \"x\"]\n\tcommand = touch x\n\tevent = pre-receive\n")
            .unwrap();
        let repo = LocalRepo::open(&git_dir, &LocalPolicy::Beneath(vec![dir.path().to_owned()])).unwrap();
        let mut found = Vec::new();
        for config in
            ["[core]\n\tbare = true\n", "[Hook \"x\"]\n\tevent = update\n", "[include]\n\tpath = ../included\n"]
        {
            std::fs::write(git_dir.join("config"), config).unwrap();
            found.push(git.configures_hooks(&repo).await.unwrap());
        }
        assert_eq!(found, [false, true, true]);
    }
}
