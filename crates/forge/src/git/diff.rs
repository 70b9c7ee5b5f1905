//! What differs between two commits.

use super::error::GitError;
use super::mirror::Mirror;
use super::types::ObjectId;

/// The changes between two commits, and the text of them as far as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diff {
    pub changes: Vec<Change>,
    /// The patch as git prints it. It holds a stranger's bytes: clean it before it is shown.
    pub patch: String,
    /// Whether the patch was cut off.
    pub truncated: bool,
}

/// One changed file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub kind: ChangeKind,
    /// The path, with whatever cannot be shown written as an escape.
    pub path: String,
    /// Where the file was before, if it was renamed or copied.
    pub old_path: Option<String>,
    /// Lines added and deleted; absent for binary files.
    pub lines: Option<(u64, u64)>,
    /// The file's mode afterwards, `0` when it is gone: 0o100644, 0o100755, 0o120000 (a link), 0o160000 (a submodule).
    pub mode: u32,
}

/// What happened to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    Added,
    Modified,
    Deleted,
    Renamed,
    Copied,
    /// A file became a link, or the like.
    TypeChanged,
}

impl ChangeKind {
    /// Git's letter for it.
    pub fn letter(self) -> char {
        match self {
            Self::Added => 'A',
            Self::Modified => 'M',
            Self::Deleted => 'D',
            Self::Renamed => 'R',
            Self::Copied => 'C',
            Self::TypeChanged => 'T',
        }
    }
}

impl Diff {
    /// Lines added and deleted over all files.
    pub fn lines(&self) -> (u64, u64) {
        self.changes.iter().filter_map(|change| change.lines).fold((0, 0), |(a, d), (x, y)| (a + x, d + y))
    }
}

/// How every diff is asked for: nothing runs, nothing depends on anybody's configuration.
pub(super) const OPTIONS: [&str; 10] = [
    "-r",
    "-z",
    "-M",
    "--raw",
    "--numstat",
    "--no-abbrev",
    "--no-ext-diff",
    "--no-textconv",
    "--no-color",
    "--ignore-submodules=none",
];

impl Mirror {
    /// The changes from `old` to `new`, with at most `patch_limit` bytes of patch (0: none).
    pub async fn diff(&self, old: &ObjectId, new: &ObjectId, patch_limit: usize) -> Result<Diff, GitError> {
        let mut call = self.call("diff-tree").args(OPTIONS);
        if patch_limit > 0 {
            // The lists come first; only they have to be whole.
            let whole = self.git.limits().output;
            call = call.arg("--patch").cut_at(whole.max(patch_limit));
        }
        let call = call.arg("--end-of-options").args([old.as_str(), new.as_str()]);
        let answer = self.git.run(call).await?;
        if answer.stderr.contains("bad object") {
            return Err(GitError::NoSuchObject { object: format!("{old} or {new}") });
        }
        let answer = answer.succeeded()?;
        let (changes, rest) = parse(&answer.stdout).ok_or_else(|| answer.unexpected(&answer.stdout))?;
        let patch = &rest[..rest.len().min(patch_limit)];
        Ok(Diff {
            changes,
            patch: String::from_utf8_lossy(patch).into_owned(),
            truncated: answer.cut || rest.len() > patch_limit,
        })
    }

    /// The changes from `old` to `new` without their text.
    pub async fn changes(&self, old: &ObjectId, new: &ObjectId) -> Result<Vec<Change>, GitError> {
        Ok(self.diff(old, new, 0).await?.changes)
    }
}

/// Reads `--raw --numstat -z` output: all raw entries, then all numbers, then a NUL and the patch, if any.
pub(super) fn parse(output: &[u8]) -> Option<(Vec<Change>, &[u8])> {
    let mut rest = output;
    let mut changes = Vec::new();
    while rest.first() == Some(&b':') {
        let mut fields = std::str::from_utf8(take(&mut rest)?).ok()?[1..].split(' ');
        let mode = u32::from_str_radix(fields.nth(1)?, 8).ok()?;
        let kind = match fields.nth(2)?.as_bytes().first()? {
            b'A' => ChangeKind::Added,
            b'M' => ChangeKind::Modified,
            b'D' => ChangeKind::Deleted,
            b'R' => ChangeKind::Renamed,
            b'C' => ChangeKind::Copied,
            b'T' => ChangeKind::TypeChanged,
            _ => return None,
        };
        let first = shown_path(take(&mut rest)?);
        let (path, old_path) = match kind {
            ChangeKind::Renamed | ChangeKind::Copied => (shown_path(take(&mut rest)?), Some(first)),
            ChangeKind::Added | ChangeKind::Modified | ChangeKind::Deleted | ChangeKind::TypeChanged => (first, None),
        };
        changes.push(Change { kind, path, old_path, lines: None, mode });
    }
    for change in &mut changes {
        let numbers = take(&mut rest)?;
        let mut fields = numbers.splitn(3, |&b| b == b'\t').map(|field| std::str::from_utf8(field).unwrap_or_default());
        let (added, deleted, path) = (fields.next()?, fields.next()?, fields.next()?);
        change.lines = added.parse().ok().zip(deleted.parse().ok());
        // A renamed file has an empty path here and both of its paths as entries of their own.
        if path.is_empty() && change.old_path.is_some() {
            take(&mut rest)?;
            take(&mut rest)?;
        }
    }
    Some((changes, rest.strip_prefix(b"\0").unwrap_or(rest)))
}

/// Takes everything up to the next NUL.
fn take<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let end = rest.iter().position(|&b| b == 0)?;
    let (taken, after) = rest.split_at(end);
    *rest = &after[1..];
    Some(taken)
}

/// A path as it can be shown anywhere: what is no plain text becomes an escape.
pub(super) fn shown_path(path: &[u8]) -> String {
    let mut out = String::with_capacity(path.len());
    for chunk in path.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() || host::text::is_invisible(c) || c == '\\' {
                out.extend(c.escape_default());
            } else {
                out.push(c);
            }
        }
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_are_read_with_renames_binaries_and_what_follows() {
        let id = "0".repeat(40);
        let raw = format!(
            ":000000 100644 {id} {id} A\0bin\0:100644 100755 {id} {id} M\0run.sh\0:100644 100644 {id} {id} R100\0a\0b\0"
        );
        let output = format!("{raw}-\t-\tbin\x003\t1\trun.sh\x000\t0\t\0a\0b\0\0diff --git");

        let (changes, patch) = parse(output.as_bytes()).unwrap();

        let change = |kind, path: &str, old: Option<&str>, lines, mode| Change {
            kind,
            path: path.to_owned(),
            old_path: old.map(str::to_owned),
            lines,
            mode,
        };
        assert_eq!(
            changes,
            [
                change(ChangeKind::Added, "bin", None, None, 0o100644),
                change(ChangeKind::Modified, "run.sh", None, Some((3, 1)), 0o100755),
                change(ChangeKind::Renamed, "b", Some("a"), Some((0, 0)), 0o100644),
            ]
        );
        assert_eq!(patch, b"diff --git");
        assert_eq!(parse(b""), Some((vec![], &b""[..])));
        assert_eq!(parse(b":100644 rubbish\0"), None);
    }

    #[test]
    fn a_path_that_cannot_be_shown_is_escaped() {
        assert_eq!(shown_path(b"src/main.rs"), "src/main.rs");
        assert_eq!(shown_path("ü b.txt".as_bytes()), "ü b.txt");
        assert_eq!(shown_path(b"a\n\x1b[31m\xff"), "a\\n\\u{1b}[31m\\xff");
        assert_eq!(shown_path("a\u{202e}b".as_bytes()), "a\\u{202e}b");
    }
}
