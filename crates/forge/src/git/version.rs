//! Which git this is, and whether it is known to lack security fixes.

use std::fmt;

/// The oldest git that works.
pub const MINIMUM: Version = Version { major: 2, minor: 39, patch: 0 };

/// The first patch of each minor version that holds the fixes of July 2025 (CVE-2025-48384 and its siblings).
const FIXED: [(u32, u32); 8] = [(43, 7), (44, 4), (45, 4), (46, 4), (47, 3), (48, 2), (49, 1), (50, 1)];

/// A version of git.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    pub major: u32,
    pub minor: u32,
    pub patch: u32,
}

impl Version {
    /// Reads what `git version` prints: `git version 2.39.5 (Apple Git-154)`.
    pub fn parse(text: &str) -> Option<Self> {
        let numbers = text.trim().strip_prefix("git version ")?;
        let mut parts = numbers.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().ok());
        let major = parts.next()??;
        let minor = parts.next()??;
        Some(Self { major, minor, patch: parts.next().flatten().unwrap_or(0) })
    }

    /// Whether this version, as its authors released it, holds the security fixes that we know of.
    pub fn has_known_fixes(self) -> bool {
        match (self.major, FIXED.iter().find(|(minor, _)| *minor == self.minor)) {
            (2, Some((_, patch))) => self.patch >= *patch,
            (2, None) => self.minor > FIXED[FIXED.len() - 1].0,
            (major, _) => major > 2,
        }
    }

    /// One sentence for the start and for `doctor` when fixes are missing; a distribution may have added them.
    pub fn warning(self) -> Option<String> {
        (!self.has_known_fixes()).then(|| {
            format!("git {self} was released without the security fixes of July 2025 (CVE-2025-48384), unless your distribution added them")
        })
    }

    /// Whether `merge-tree` takes a merge base.
    pub(crate) fn merges_with_base(self) -> bool {
        self >= Version { major: 2, minor: 40, patch: 0 }
    }

    /// Whether a repository's own configuration can name hook commands, which no path setting turns off.
    pub(crate) fn has_configured_hooks(self) -> bool {
        self >= Version { major: 2, minor: 53, patch: 0 }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version {
        Version::parse(&format!("git version {text}")).unwrap()
    }

    #[test]
    fn versions_are_read_as_vendors_print_them() {
        let cases = [
            ("2.39.5 (Apple Git-154)\n", (2, 39, 5)),
            ("2.47.3", (2, 47, 3)),
            ("2.50.0.rc1", (2, 50, 0)),
            ("2.44.0.windows.1", (2, 44, 0)),
            ("3.0", (3, 0, 0)),
        ];
        for (text, (major, minor, patch)) in cases {
            assert_eq!(version(text), Version { major, minor, patch });
        }
        for text in ["", "git version", "git version x.y", "hub version 2.14.2"] {
            assert_eq!(Version::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_version_without_known_fixes_is_a_warning() {
        for text in ["2.47.3", "2.43.7", "2.50.1", "2.51.0", "3.0.0"] {
            assert_eq!(version(text).warning(), None, "{text}");
        }
        for text in ["2.39.5", "2.42.9", "2.43.6", "2.47.2", "2.50.0"] {
            assert!(version(text).warning().is_some_and(|warning| warning.contains(text)), "{text}");
        }
    }
}
