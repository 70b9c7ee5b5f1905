//! The inherited names: protocols `NNNN-slug`, their files, and the subjects of their commits.

use super::types::{BranchName, PathError, RepoPath};
use std::fmt;
use std::str::FromStr;

const MAX_SLUG: usize = 60;
const MAX_SUBJECT: usize = 120;

/// The directory of all protocols' files in a repository.
pub const PROTOCOLS_DIR: &str = ".protocols";

/// A protocol's name, `NNNN-slug`, which is also its branch.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProtocolName {
    number: u16,
    slug: String,
}

/// Why a text is no protocol's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolNameError {
    #[error("a protocol's name starts with four digits and a hyphen")]
    Number,
    #[error("a protocol's name ends with words of a-z and 0-9 joined by single hyphens")]
    Slug,
    #[error("a protocol's name is at most {} characters long", MAX_SLUG + 5)]
    TooLong,
}

impl ProtocolName {
    /// A name for a number and any text.
    pub fn new(number: u16, title: &str) -> Result<Self, ProtocolNameError> {
        Self::parse(&format!("{number:04}-{}", slugify(title)))
    }

    pub fn parse(text: &str) -> Result<Self, ProtocolNameError> {
        let (digits, slug) = text.split_once('-').ok_or(ProtocolNameError::Number)?;
        if digits.len() != 4 || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(ProtocolNameError::Number);
        }
        let is_word =
            |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        if !slug.split('-').all(is_word) {
            return Err(ProtocolNameError::Slug);
        }
        // The name is a branch, a directory and part of refs; one that is taken over is at least as bounded as ours.
        if slug.len() > MAX_SLUG * 3 {
            return Err(ProtocolNameError::TooLong);
        }
        Ok(Self { number: digits.parse().map_err(|_| ProtocolNameError::Number)?, slug: slug.to_owned() })
    }

    pub fn number(&self) -> u16 {
        self.number
    }

    pub fn slug(&self) -> &str {
        &self.slug
    }

    /// The branch of the protocol.
    pub fn branch(&self) -> BranchName {
        BranchName::parse(&self.to_string()).expect("digits, letters and single hyphens are a branch name")
    }

    /// The path of one of the protocol's files.
    pub fn file(&self, name: &str) -> Result<RepoPath, PathError> {
        RepoPath::parse(&format!("{PROTOCOLS_DIR}/{self}/{name}"))
    }
}

impl fmt::Display for ProtocolName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{}", self.number, self.slug)
    }
}

impl FromStr for ProtocolName {
    type Err = ProtocolNameError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

/// Words of a-z and 0-9 joined by single hyphens, at most 60 characters, cut between words; never empty.
pub fn slugify(text: &str) -> String {
    let lower = text.to_lowercase();
    let mut slug = String::new();
    for word in lower.split(|c: char| !c.is_ascii_lowercase() && !c.is_ascii_digit()).filter(|word| !word.is_empty()) {
        let word = &word[..word.len().min(MAX_SLUG)];
        if !slug.is_empty() && slug.len() + 1 + word.len() > MAX_SLUG {
            break;
        }
        if !slug.is_empty() {
            slug.push('-');
        }
        slug.push_str(word);
    }
    if slug.is_empty() { "task".to_owned() } else { slug }
}

/// The number after the greatest that names of branches and directories start with, or `None` after 9999.
pub fn next_number<'a>(names: impl IntoIterator<Item = &'a str>) -> Option<u16> {
    let numbers = names.into_iter().filter_map(|name| {
        let (digits, _) = name.split_once('-')?;
        if digits.len() == 4 && digits.bytes().all(|b| b.is_ascii_digit()) { digits.parse::<u16>().ok() } else { None }
    });
    let next = numbers.max().unwrap_or(0) + 1;
    (next <= 9999).then_some(next)
}

/// A commit's subject: `type(scope): subject [protocol-NNNN/XX]`, in one line of bounded length.
pub fn commit_subject(kind: &str, scope: &str, subject: &str, number: u16, step: &str) -> String {
    let word = |text: &str, fallback: &str| {
        let text: String =
            text.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/')).collect();
        if text.is_empty() { fallback.to_owned() } else { host::text::cut(&text, 40) }
    };
    let subject = host::text::one_line(subject, MAX_SUBJECT);
    let subject = if subject.is_empty() { "update".to_owned() } else { subject };
    format!(
        "{}({}): {subject} [protocol-{number:04}/{}]",
        word(kind, "chore"),
        word(scope, "protocol"),
        word(step, "00")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_read_and_written_alike() {
        let name = ProtocolName::parse("0042-make-it-2x").unwrap();
        assert_eq!((name.number(), name.slug(), name.to_string().as_str()), (42, "make-it-2x", "0042-make-it-2x"));
        assert_eq!(name.branch().as_str(), "0042-make-it-2x");
        assert_eq!(name.file("plan.md").unwrap().as_str(), ".protocols/0042-make-it-2x/plan.md");
        assert!(name.file("../x").is_err());
    }

    #[test]
    fn names_are_refused_by_reason() {
        for text in ["", "42-x", "00042-x", "abcd-x", "0042", "-x", "٠٠٤٢-x"] {
            assert_eq!(ProtocolName::parse(text), Err(ProtocolNameError::Number), "{text:?}");
        }
        for text in ["0042-", "0042--x", "0042-x-", "0042-X", "0042-a--b", "0042-a b", "0042-a/b", "0042-..", "0042-ü"]
        {
            assert_eq!(ProtocolName::parse(text), Err(ProtocolNameError::Slug), "{text:?}");
        }
        assert_eq!(ProtocolName::parse(&format!("0042-{}", "a".repeat(181))), Err(ProtocolNameError::TooLong));
    }

    #[test]
    fn any_title_becomes_a_slug() {
        let cases = [
            ("Make the test pass", "make-the-test-pass"),
            ("  Fix #12: a -- b!  ", "fix-12-a-b"),
            ("Größe", "gr-e"),
            ("日本", "task"),
            ("", "task"),
            ("--upload-pack=x ../..", "upload-pack-x"),
        ];
        for (title, slug) in cases {
            assert_eq!(slugify(title), slug, "{title:?}");
        }
    }

    #[test]
    fn the_next_number_follows_the_greatest_one_that_is_taken() {
        assert_eq!(next_number([]), Some(1));
        assert_eq!(next_number(["main", "0003-a", "0010-b", "12-c", "00099-x", "v0100-x"]), Some(11));
        assert_eq!(next_number(["9999-last"]), None);
    }

    #[test]
    fn a_commit_subject_is_one_line_in_the_inherited_form() {
        assert_eq!(
            commit_subject("feat", "protocol", "add plan for 0001-x", 1, "00"),
            "feat(protocol): add plan for 0001-x [protocol-0001/00]"
        );
        assert_eq!(
            commit_subject("fe\nat", "", "a\nb\u{202e}\x1b[31m", 7, "02"),
            "feat(protocol): a b [protocol-0007/02]"
        );
    }

    proptest! {
        #[test]
        fn every_slug_makes_a_name(title in any::<String>(), number in 0u16..10_000) {
            let name = ProtocolName::new(number, &title).unwrap();
            prop_assert_eq!(&ProtocolName::parse(&name.to_string()).unwrap(), &name);
            prop_assert!(name.slug().len() <= MAX_SLUG);
            prop_assert_eq!(name.branch().to_string(), name.to_string());
        }

        #[test]
        fn every_subject_is_one_line(subject in any::<String>()) {
            let line = commit_subject("feat", "x", &subject, 1, "01");
            prop_assert!(!line.chars().any(char::is_control));
        }
    }
}
