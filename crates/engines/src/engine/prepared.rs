//! What is to be started for a request, as a value: tests look at it, and nothing is half done when it is refused.

use super::EngineError;
use super::request::utf8;
use std::path::{Path, PathBuf};

/// Files to write and a command to start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Prepared {
    pub argv: Vec<String>,
    /// The engine's own variables.
    pub env: Vec<(String, String)>,
    /// Private files, written before the start, over whatever an earlier start left.
    pub files: Vec<PreparedFile>,
}

#[derive(Clone, PartialEq, Eq)]
pub struct PreparedFile {
    pub path: PathBuf,
    pub content: Vec<u8>,
}

/// Replaces itself with the command whose input is the file that is its name.
const WITH_INPUT: &str = r#"exec "$@" < "$0""#;

impl Prepared {
    pub(crate) fn command(argv: Vec<String>) -> Self {
        Self { argv, ..Self::default() }
    }

    pub(crate) fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.env.push((name.to_owned(), value.into()));
        self
    }

    pub(crate) fn file(mut self, path: PathBuf, content: impl Into<Vec<u8>>) -> Self {
        self.files.push(PreparedFile { path, content: content.into() });
        self
    }

    /// Lets the command read a text as its input and then see its end: as an argument it would be too long, and an input
    /// that stays open is waited for.
    pub(crate) fn input(mut self, path: PathBuf, text: &str) -> Result<Self, EngineError> {
        let mut argv = vec!["/bin/sh".to_owned(), "-c".to_owned(), WITH_INPUT.to_owned(), utf8(&path)?];
        argv.append(&mut self.argv);
        self.argv = argv;
        Ok(self.file(path, text))
    }

    /// Writes the files.
    pub(crate) fn write(&self) -> Result<(), EngineError> {
        let failed = |error: &dyn std::error::Error| {
            let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
            EngineError::Files { message: format!("{error}{cause}") }
        };
        for file in &self.files {
            let dir = file.path.parent().unwrap_or(Path::new("/"));
            host::fs::create_private_dir(dir).map_err(|error| failed(&error))?;
            host::fs::write_atomic(&file.path, &file.content).map_err(|error| failed(&error))?;
        }
        Ok(())
    }
}

impl std::fmt::Debug for PreparedFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // A configuration may hold a key.
        f.debug_struct("PreparedFile").field("path", &self.path).finish_non_exhaustive()
    }
}
