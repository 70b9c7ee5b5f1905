//! Reading and writing files of commits without a worktree.

use super::commit::CommitInfo;
use super::diff::shown_path;
use super::error::GitError;
use super::mirror::Mirror;
use super::types::{ObjectId, RepoPath};
use std::collections::BTreeSet;

/// An entry of a commit's tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeEntry {
    pub kind: TreeKind,
    /// The path from the root, with whatever cannot be shown written as an escape.
    pub path: String,
    /// The same path where it is one that we would use ourselves.
    pub repo_path: Option<RepoPath>,
    pub object: ObjectId,
    /// Bytes, for files and links.
    pub size: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TreeKind {
    File,
    Executable,
    Link,
    Directory,
    /// Another repository's commit.
    Submodule,
}

impl Mirror {
    /// The content of one file of a commit, or `None` when there is no such file.
    pub async fn read_file(
        &self,
        commit: &ObjectId,
        path: &RepoPath,
        limit: usize,
    ) -> Result<Option<Vec<u8>>, GitError> {
        let mut files = self.read_files(commit, std::slice::from_ref(path), limit).await?;
        Ok(files.pop().flatten())
    }

    /// The contents of some files of a commit, in one go; `limit` is for all of them together.
    ///
    /// A link's content is its target; nobody follows it.
    pub async fn read_files(
        &self,
        commit: &ObjectId,
        paths: &[RepoPath],
        limit: usize,
    ) -> Result<Vec<Option<Vec<u8>>>, GitError> {
        // The commit is looked up as well, so that a missing commit is not taken for one without these files.
        let names = paths.iter().map(|path| format!("{commit}:{path}\n"));
        let questions: String = std::iter::once(format!("{commit}^{{commit}}\n")).chain(names).collect();
        const HEADERS: usize = 200;
        let cap = limit.saturating_add(HEADERS * (paths.len() + 1)).saturating_add(64 * 1024);
        let call = self.call("cat-file").arg("--batch").stdin(questions).cut_at(cap);
        let answer = self.git.run(call).await?;
        let shown = paths.first().map(ToString::to_string).unwrap_or_default();
        let too_large = || GitError::FileTooLarge { path: shown.clone(), limit };
        if answer.cut {
            return Err(too_large());
        }
        let answer = answer.succeeded()?;
        let mut rest = answer.stdout.as_slice();
        let mut next = || take_object(&mut rest);
        match next() {
            Some(Some((b"commit", _))) => {}
            Some(_) => return Err(GitError::NoSuchObject { object: commit.to_string() }),
            None => return Err(answer.unexpected(&answer.stdout)),
        }
        let mut files = Vec::with_capacity(paths.len());
        let mut total = 0;
        for _ in paths {
            let file = match next().ok_or_else(|| answer.unexpected("fewer answers than questions"))? {
                Some((b"blob", content)) => Some(content.to_vec()),
                // A directory or a submodule is no file.
                Some(_) | None => None,
            };
            total += file.as_ref().map_or(0, Vec::len);
            files.push(file);
        }
        if total > limit { Err(too_large()) } else { Ok(files) }
    }

    /// Everything below a directory of a commit (`None`: the root): its direct entries, or with `deep` all files.
    pub async fn list_tree(
        &self,
        commit: &ObjectId,
        beneath: Option<&RepoPath>,
        deep: bool,
    ) -> Result<Vec<TreeEntry>, GitError> {
        let call = self
            .call("ls-tree")
            .args(["-z", "-l", "--full-tree"])
            .args(deep.then_some("-r"))
            .args(["--end-of-options", commit.as_str()])
            // The slash asks for what is in the directory; literal, because a path may look like a pattern.
            .args(beneath.map(|path| format!("{path}/")))
            .env("GIT_LITERAL_PATHSPECS", "1");
        let answer = self.git.run(call).await?;
        if answer.stderr.contains("not a tree object") || answer.stderr.contains("Not a valid object name") {
            return Err(GitError::NoSuchObject { object: commit.to_string() });
        }
        let answer = answer.succeeded()?;
        let entries = answer.stdout.split(|&b| b == 0).filter(|entry| !entry.is_empty());
        entries.map(|entry| parse_entry(entry).ok_or_else(|| answer.unexpected(entry))).collect()
    }

    /// A commit on top of `parent` with these files written or replaced, made without a worktree.
    ///
    /// One process writes it all; no ref changes. The same arguments give the same commit.
    pub async fn write_files(
        &self,
        parent: &ObjectId,
        files: &[(RepoPath, Vec<u8>)],
        info: &CommitInfo,
    ) -> Result<ObjectId, GitError> {
        let dirs: BTreeSet<&str> = files.iter().flat_map(|(path, _)| path.parents()).collect();
        // A path that is also a directory of another would silently replace it.
        if let Some((path, _)) = files.iter().find(|(path, _)| dirs.contains(path.as_str())) {
            return Err(GitError::PathInTheWay { path: path.to_string(), why: "it would be a file and a directory" });
        }
        let checks: Vec<(&str, bool)> =
            dirs.iter().map(|dir| (*dir, true)).chain(files.iter().map(|(path, _)| (path.as_str(), false))).collect();
        let answer = self
            .git
            .run(self.call("fast-import").args(["--quiet", "--done"]).stdin(stream(parent, &checks, files, info)))
            .await?;
        if !answer.status.success() {
            self.remove_crash_reports()?;
            let missing = ["Not a valid commit", "Not a commit", "object not found"];
            if missing.iter().any(|text| answer.stderr.contains(text)) {
                return Err(GitError::NoSuchObject { object: parent.to_string() });
            }
            return Err(answer.failure());
        }
        let text = String::from_utf8_lossy(&answer.stdout).into_owned();
        let mut lines = text.lines();
        for (path, is_dir) in checks {
            let found = lines.next().ok_or_else(|| answer.unexpected(&text))?;
            let (free, tree) = (found.starts_with("missing "), found.starts_with("040000 "));
            let submodule = found.starts_with("160000 ");
            if is_dir && !free && !tree {
                return Err(GitError::PathInTheWay { path: path.to_owned(), why: "it is a file in the repository" });
            }
            if !is_dir && (tree || submodule) {
                return Err(GitError::PathInTheWay {
                    path: path.to_owned(),
                    why: "it is a directory in the repository",
                });
            }
        }
        let id = lines.next().and_then(|line| ObjectId::parse(line).ok());
        id.ok_or_else(|| answer.unexpected(&text))
    }

    /// An import that fails writes a report beside the objects, with the beginning of what it was given.
    fn remove_crash_reports(&self) -> Result<(), GitError> {
        for name in host::fs::list_names(self.dir())?.iter().filter(|name| name.starts_with("fast_import_crash_")) {
            host::fs::remove_file(&self.dir().join(name))?;
        }
        Ok(())
    }
}

/// The import stream: what stands where we want to write, the commit, its id, and no ref left behind.
fn stream(parent: &ObjectId, checks: &[(&str, bool)], files: &[(RepoPath, Vec<u8>)], info: &CommitInfo) -> Vec<u8> {
    // The stream needs the name of a ref; it is deleted before the stream ends, so it is never written.
    let name = format!("refs/pilothouse/writing/{}", host::random::base62(16));
    let mut out = b"feature done\n".to_vec();
    for (path, _) in checks {
        out.extend_from_slice(format!("ls {parent} {}\n", quoted(path)).as_bytes());
    }
    out.extend_from_slice(format!("commit {name}\nmark :1\n{}from {parent}\n", info.stream_lines()).as_bytes());
    for (path, content) in files {
        out.extend_from_slice(
            format!("M 100644 inline {}\ndata {}\n", quoted(path.as_str()), content.len()).as_bytes(),
        );
        out.extend_from_slice(content);
        out.push(b'\n');
    }
    out.extend_from_slice(format!("\nget-mark :1\nreset {name}\nfrom {}\n\ndone\n", parent.zero()).as_bytes());
    out
}

/// A parsed path has no control characters, so that only these two need care.
fn quoted(path: &str) -> String {
    format!("\"{}\"", path.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Takes one answer of `cat-file --batch`: an object with its type, or `Some(None)` for a missing one.
fn take_object<'a>(rest: &mut &'a [u8]) -> Option<Option<(&'a [u8], &'a [u8])>> {
    let end = rest.iter().position(|&b| b == b'\n')?;
    let (header, after) = (&rest[..end], &rest[end + 1..]);
    if header.ends_with(b" missing") || header.ends_with(b" ambiguous") {
        *rest = after;
        return Some(None);
    }
    let mut fields = header.split(|&b| b == b' ').skip(1);
    let kind = fields.next()?;
    let size: usize = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let content = after.get(..size)?;
    *rest = after.get(size + 1..)?;
    Some(Some((kind, content)))
}

fn parse_entry(entry: &[u8]) -> Option<TreeEntry> {
    let tab = entry.iter().position(|&b| b == b'\t')?;
    let path = &entry[tab + 1..];
    let mut fields = std::str::from_utf8(&entry[..tab]).ok()?.split_ascii_whitespace();
    let kind = match fields.next()? {
        "100755" => TreeKind::Executable,
        "120000" => TreeKind::Link,
        "040000" => TreeKind::Directory,
        "160000" => TreeKind::Submodule,
        mode if mode.starts_with("100") => TreeKind::File,
        _ => return None,
    };
    let object = ObjectId::parse(fields.nth(1)?).ok()?;
    let size = fields.next()?.parse().ok();
    let repo_path = std::str::from_utf8(path).ok().and_then(|path| RepoPath::parse(path).ok());
    Some(TreeEntry { kind, path: shown_path(path), repo_path, object, size })
}
