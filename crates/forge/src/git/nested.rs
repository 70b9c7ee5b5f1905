//! Looks for what somebody put into a worktree to lead git astray, before git gets there: repositories inside it, and
//! pipes under names that git opens.

use super::call::Call;
use super::error::GitError;
use super::program::Git;
use host::fs::{Kind, Step};
use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Files that git opens on its way through a worktree, whatever they are.
const READ_BY_GIT: [&str; 3] = [".gitignore", ".gitattributes", ".gitmodules"];

/// The directories in a worktree that hold something called `.git`, as relative paths.
///
/// A `.git` at the top is left out: git never looks at it, because it is told which git directory to use.
pub(super) fn find(root: &Path, limit: usize) -> Result<Vec<PathBuf>, GitError> {
    let (mut found, mut special) = (Vec::new(), None);
    let mut n_entries = 0;
    host::fs::walk(root, |path, kind| {
        n_entries += 1;
        if n_entries > limit {
            return Step::Stop;
        }
        let name = path.file_name().unwrap_or_default();
        // Git waits for ever at a pipe; a link under these names it leaves alone.
        if kind == Kind::Other && READ_BY_GIT.iter().any(|read| name == *read) && !host::fs::is_link(&root.join(path)) {
            special = Some(path.to_owned());
            return Step::Stop;
        }
        if !name.eq_ignore_ascii_case(".git") {
            return Step::Enter;
        }
        let dir = path.parent().unwrap_or(Path::new(""));
        if name != ".git" || !dir.as_os_str().is_empty() {
            found.push(dir.to_owned());
        }
        Step::Skip
    })?;
    if let Some(path) = special {
        return Err(GitError::SpecialFile { path });
    }
    if n_entries > limit { Err(GitError::TooManyFiles { path: root.to_owned(), limit }) } else { Ok(found) }
}

/// Refuses a worktree with a repository inside, unless it lies where the repository ignores everything anyway.
pub(super) async fn refuse(git: &Git, root: &Path, call: impl FnOnce() -> Call) -> Result<(), GitError> {
    let (walked, limit) = (root.to_owned(), git.limits().files);
    let joined = host::task::spawn_blocking("look for nested repositories", move || find(&walked, limit)).await;
    let found = joined.map_err(|error| GitError::Io {
        action: "examine",
        path: root.to_owned(),
        source: std::io::Error::other(error),
    })??;
    if found.is_empty() {
        return Ok(());
    }
    let question =
        found.iter().flat_map(|dir| [dir.as_os_str().as_bytes(), b"\0"]).flatten().copied().collect::<Vec<u8>>();
    let refused = |dir: &PathBuf| Err(GitError::NestedRepository { path: dir.clone() });
    // An empty relative path is the root itself, under a name that only looks like `.git`.
    if let Some(dir) = found.iter().find(|dir| dir.as_os_str().is_empty()) {
        return refused(dir);
    }
    let answer = git.run(call().args(["-z", "--stdin"]).stdin(question)).await?;
    if !matches!(answer.exit_code(), Some(0 | 1)) {
        return refused(&found[0]);
    }
    let ignored: HashSet<&OsStr> = answer.stdout.split(|&b| b == 0).map(OsStr::from_bytes).collect();
    match found.iter().find(|dir| !ignored.contains(dir.as_os_str())) {
        Some(dir) => refused(dir),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn repositories_are_found_wherever_they_lie_and_links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("tree");
        let odd = PathBuf::from(OsStr::from_bytes(b"\xff\xfe"));
        for path in [Path::new(".git/objects"), Path::new("a/b/.git"), Path::new("c"), Path::new("deep"), &odd] {
            std::fs::create_dir_all(root.join(path)).unwrap();
        }
        std::fs::write(root.join("c/.GIT"), "gitdir: /elsewhere").unwrap();
        std::fs::write(root.join(&odd).join(".git"), "gitdir: /elsewhere").unwrap();
        symlink(root.join("a"), root.join("deep/link")).unwrap();

        let mut found = find(&root, 100).unwrap();

        found.sort();
        assert_eq!(found, [PathBuf::from("a/b"), PathBuf::from("c"), odd]);
        assert!(matches!(find(&root, 3), Err(GitError::TooManyFiles { limit: 3, .. })));
    }
}
