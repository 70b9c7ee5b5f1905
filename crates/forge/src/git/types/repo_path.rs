//! A path inside a repository's tree.

use host::path::{RelPath, RelPathError};
use std::fmt;
use std::str::FromStr;
use unicode_normalization::is_nfc;

/// A path of plain names in one spelling: what [`RelPath`] accepts, in Unicode's composed form, so that no two paths
/// that a file system takes for one file are different to us.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RepoPath(RelPath);

/// Why a path was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    #[error(transparent)]
    Path(#[from] RelPathError),
    #[error("the path is not in composed form (NFC)")]
    NotComposed,
}

impl PathError {
    pub fn code(&self) -> &'static str {
        match self {
            Self::Path(RelPathError::Empty) => "path_empty",
            Self::Path(RelPathError::Absolute) => "path_absolute",
            Self::Path(RelPathError::Leaves) => "path_leaves",
            Self::Path(RelPathError::EmptyName) => "path_empty_name",
            Self::Path(RelPathError::GitDirectory) => "path_git_directory",
            Self::Path(RelPathError::Invisible) => "path_invisible",
            Self::Path(RelPathError::TooLong) => "path_too_long",
            Self::NotComposed => "path_not_composed",
        }
    }
}

impl RepoPath {
    pub fn parse(text: &str) -> Result<Self, PathError> {
        let path = RelPath::parse(text)?;
        if !is_nfc(text) {
            return Err(PathError::NotComposed);
        }
        Ok(Self(path))
    }

    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    pub fn as_rel(&self) -> &RelPath {
        &self.0
    }

    /// The directories that have to exist for this path, outermost first.
    pub(crate) fn parents(&self) -> impl Iterator<Item = &str> {
        let text = self.as_str();
        text.match_indices('/').map(|(at, _)| &text[..at])
    }
}

impl fmt::Display for RepoPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for RepoPath {
    type Err = PathError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}
