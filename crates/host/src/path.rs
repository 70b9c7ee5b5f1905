//! Relative paths that came from somebody else: parsed once, harmless afterwards.
//!
//! A [`RelPath`] is only names, one below the other: nothing absolute, no `..`, nothing that any file system would
//! take for `.git`. Following links is refused where the path is opened, in [`crate::fs::Beneath`].

use std::fmt;
use std::path::Path;

const MAX_DEPTH: usize = 16;
const MAX_NAME: usize = 255;

/// A relative path of plain names.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RelPath(String);

/// Why a relative path was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RelPathError {
    #[error("the path is empty")]
    Empty,
    #[error("the path is absolute")]
    Absolute,
    #[error("the path leaves its directory")]
    Leaves,
    #[error("the path has an empty name or a `.` in it")]
    EmptyName,
    #[error("the path names a git directory")]
    GitDirectory,
    #[error("the path has a control or invisible character in it")]
    Invisible,
    #[error("the path is deeper than {MAX_DEPTH} or a name in it longer than {MAX_NAME} bytes")]
    TooLong,
}

impl RelPath {
    /// Reads a path written with `/`.
    pub fn parse(text: &str) -> Result<Self, RelPathError> {
        if text.is_empty() {
            return Err(RelPathError::Empty);
        }
        if text.starts_with('/') {
            return Err(RelPathError::Absolute);
        }
        if text.chars().any(|c| c.is_control() || crate::text::is_invisible(c)) {
            return Err(RelPathError::Invisible);
        }
        let names: Vec<&str> = text.split('/').collect();
        if names.len() > MAX_DEPTH || names.iter().any(|name| name.len() > MAX_NAME) {
            return Err(RelPathError::TooLong);
        }
        for name in names {
            match name {
                ".." => return Err(RelPathError::Leaves),
                "" | "." => return Err(RelPathError::EmptyName),
                name if looks_like_git(name) => return Err(RelPathError::GitDirectory),
                _ => {}
            }
        }
        Ok(Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn as_path(&self) -> &Path {
        Path::new(&self.0)
    }

    /// The last name.
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }

    /// The path of the directory it lies in, unless that is the root.
    pub fn parent(&self) -> Option<RelPath> {
        self.0.rsplit_once('/').map(|(parent, _)| RelPath(parent.to_owned()))
    }

    /// A path below this one.
    pub fn join(&self, rest: &str) -> Result<RelPath, RelPathError> {
        Self::parse(&format!("{}/{rest}", self.0))
    }
}

impl fmt::Display for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for RelPath {
    type Err = RelPathError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

/// Whether some file system would open `.git` under this name: case folding (HFS+, NTFS), short names and trailing
/// dots or blanks and streams (NTFS), backslashes as separators.
fn looks_like_git(name: &str) -> bool {
    name.split(['\\', ':']).any(|part| {
        let part = part.trim_end_matches(['.', ' ']).to_ascii_lowercase();
        part == ".git" || part.strip_prefix("git~").is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_paths_are_kept_as_they_are() {
        for text in ["a", "src/main.rs", ".protocols/0001-x/plan.md", ".gitignore", ".github/x.yml", "a b/ü.txt", "..a"]
        {
            assert_eq!(RelPath::parse(text).unwrap().as_str(), text);
        }
    }

    #[test]
    fn hostile_paths_are_refused_by_reason() {
        let deep = "a/".repeat(MAX_DEPTH) + "a";
        let long = "n".repeat(MAX_NAME + 1);
        let cases = [
            ("", RelPathError::Empty),
            ("/etc/passwd", RelPathError::Absolute),
            ("..", RelPathError::Leaves),
            ("a/../../b", RelPathError::Leaves),
            ("a//b", RelPathError::EmptyName),
            ("a/", RelPathError::EmptyName),
            ("./a", RelPathError::EmptyName),
            (".git/hooks/x", RelPathError::GitDirectory),
            ("sub/.GIT/config", RelPathError::GitDirectory),
            ("git~1/config", RelPathError::GitDirectory),
            (".git. /config", RelPathError::GitDirectory),
            (".git::$INDEX_ALLOCATION/config", RelPathError::GitDirectory),
            ("a\\.git\\config", RelPathError::GitDirectory),
            (".g\u{200c}it/config", RelPathError::Invisible),
            ("a\0b", RelPathError::Invisible),
            ("a\u{202e}b", RelPathError::Invisible),
            (deep.as_str(), RelPathError::TooLong),
            (long.as_str(), RelPathError::TooLong),
        ];
        for (text, reason) in cases {
            assert_eq!(RelPath::parse(text), Err(reason), "{text:?}");
        }
    }

    #[test]
    fn a_path_knows_its_parent_and_its_name() {
        let path = RelPath::parse("a/b/c.txt").unwrap();
        assert_eq!(path.name(), "c.txt");
        assert_eq!(path.parent(), Some(RelPath::parse("a/b").unwrap()));
        assert_eq!(RelPath::parse("a").unwrap().parent(), None);
        assert_eq!(RelPath::parse("a").unwrap().join("../b"), Err(RelPathError::Leaves));
    }
}
