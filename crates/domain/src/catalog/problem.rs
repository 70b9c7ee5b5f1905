//! What is wrong with a catalog, or at least worth saying, and where.

use std::{fmt, ops::Range};

use serde::Serialize;

const MAX_PROBLEMS: usize = 200;
const MAX_WARNINGS: usize = 1000;

/// Everything that keeps a catalog from loading, in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
pub struct CatalogError {
    pub file: String,
    pub problems: Vec<Problem>,
}

/// One thing to put right.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    pub line: usize,
    /// The whole path of the offending key, as in `job.deploy.exec.argv`; empty when the file is no TOML.
    pub key: String,
    pub message: String,
    /// The known key or word that was probably meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nearest: Option<String>,
}

/// Something that loads but may not do what was meant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Warning {
    pub kind: WarningKind,
    pub line: usize,
    pub key: String,
    pub message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WarningKind {
    /// Names somebody on the dev channel: worth saying only while that channel is off.
    DevChannel,
    UnusedParameter,
    UselessDefault,
    /// Too few people are left once the requester is excluded.
    Unapprovable,
}

impl fmt::Display for CatalogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, problem) in self.problems.iter().enumerate() {
            if place > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{}:{problem}", self.file)?;
        }
        Ok(())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.line)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)?;
        match &self.nearest {
            Some(nearest) => write!(f, ", did you mean `{nearest}`?"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.line, self.key, self.message)
    }
}

/// A place in the file, in bytes.
pub(super) type Place = Range<usize>;

/// Collects what is found while one text is read.
#[derive(Debug)]
pub(super) struct Report<'t> {
    text: &'t str,
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<Warning>,
}

impl<'t> Report<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self { text, problems: Vec::new(), warnings: Vec::new() }
    }

    pub(super) fn problem(&mut self, place: &Place, key: &str, message: impl Into<String>) {
        self.nearest_problem(place, key, message, None);
    }

    pub(super) fn nearest_problem(
        &mut self,
        place: &Place,
        key: &str,
        message: impl Into<String>,
        nearest: Option<&str>,
    ) {
        if self.is_full() {
            return;
        }
        let (line, key) = (self.line(place), crate::text::printable(key));
        self.problems.push(Problem { line, key, message: message.into(), nearest: nearest.map(str::to_owned) });
    }

    pub(super) fn warning(&mut self, kind: WarningKind, place: &Place, key: &str, message: impl Into<String>) {
        if self.warnings.len() >= MAX_WARNINGS {
            return;
        }
        self.warnings.push(Warning { kind, line: self.line(place), key: key.to_owned(), message: message.into() });
    }

    /// Whether enough was found: nobody reads more, and a hostile file must not cost more.
    pub(super) fn is_full(&self) -> bool {
        self.problems.len() >= MAX_PROBLEMS
    }

    fn line(&self, place: &Place) -> usize {
        let before = self.text.as_bytes().get(..place.start).unwrap_or(self.text.as_bytes());
        before.iter().filter(|byte| **byte == b'\n').count() + 1
    }
}
