//! Commits as values: who, when and what for are given, never looked up, so that the same input is the same commit.

use super::call::Call;
use super::error::GitError;
use super::mirror::Mirror;
use super::types::ObjectId;

const MAX_NAME: usize = 200;
const MAX_MESSAGE: usize = 64 * 1024;

/// Who wrote or made a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    name: String,
    email: String,
}

/// Everything about a commit but its tree and its parent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitInfo {
    message: String,
    author: Person,
    committer: Person,
    at: i64,
}

/// Why a commit cannot be described so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CommitInfoError {
    #[error("a name or an e-mail address is empty or longer than {MAX_NAME} characters")]
    PersonLength,
    #[error("a name or an e-mail address has a control character, `<` or `>` in it")]
    PersonCharacter,
    #[error("the message is empty or longer than {MAX_MESSAGE} bytes")]
    MessageLength,
    #[error("the message has a control character in it")]
    MessageCharacter,
    #[error("the time is before 1970 or after 2099")]
    Time,
}

impl Person {
    /// A person, with what git would strip from both ends of a name taken away.
    pub fn new(name: &str, email: &str) -> Result<Self, CommitInfoError> {
        let crud = |c: char| c.is_whitespace() || matches!(c, '.' | ',' | ':' | ';' | '"' | '\\' | '\'');
        let (name, email) = (name.trim_matches(crud), email.trim_matches(crud));
        for text in [name, email] {
            if text.is_empty() || text.chars().count() > MAX_NAME {
                return Err(CommitInfoError::PersonLength);
            }
            if text.chars().any(|c| c.is_control() || matches!(c, '<' | '>') || host::text::is_invisible(c)) {
                return Err(CommitInfoError::PersonCharacter);
            }
        }
        Ok(Self { name: name.to_owned(), email: email.to_owned() })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn email(&self) -> &str {
        &self.email
    }
}

impl CommitInfo {
    /// A commit by one person at a time in seconds since 1970.
    pub fn new(message: &str, by: Person, at: i64) -> Result<Self, CommitInfoError> {
        let message = message.trim_end();
        if message.trim().is_empty() || message.len() > MAX_MESSAGE {
            return Err(CommitInfoError::MessageLength);
        }
        if message.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\t')) {
            return Err(CommitInfoError::MessageCharacter);
        }
        if !(0..4_102_444_800).contains(&at) {
            return Err(CommitInfoError::Time);
        }
        Ok(Self { message: format!("{message}\n"), author: by.clone(), committer: by, at })
    }

    /// The same commit, put into the repository by somebody else than its author.
    pub fn committed_by(mut self, committer: Person) -> Self {
        self.committer = committer;
        self
    }

    pub fn message(&self) -> &str {
        &self.message
    }

    /// The lines about people and time of an import stream.
    pub(super) fn stream_lines(&self) -> String {
        let line = |role: &str, who: &Person| format!("{role} {} <{}> {} +0000\n", who.name, who.email, self.at);
        let people = line("author", &self.author) + &line("committer", &self.committer);
        format!("{people}data {}\n{}\n", self.message.len(), self.message)
    }

    fn describe(&self, call: Call) -> Call {
        let date = format!("@{} +0000", self.at);
        call.env("GIT_AUTHOR_NAME", &self.author.name)
            .env("GIT_AUTHOR_EMAIL", &self.author.email)
            .env("GIT_AUTHOR_DATE", &date)
            .env("GIT_COMMITTER_NAME", &self.committer.name)
            .env("GIT_COMMITTER_EMAIL", &self.committer.email)
            .env("GIT_COMMITTER_DATE", &date)
            .stdin(self.message.as_bytes())
    }
}

impl Mirror {
    /// Commits a tree that is already there.
    pub(super) async fn commit_tree(
        &self,
        tree: &ObjectId,
        parent: &ObjectId,
        info: &CommitInfo,
    ) -> Result<ObjectId, GitError> {
        self.commit_tree_expression(tree.as_str(), parent, info).await
    }

    /// Like [`Mirror::commit_tree`], for a tree written as an expression over object ids.
    pub(super) async fn commit_tree_expression(
        &self,
        tree: &str,
        parent: &ObjectId,
        info: &CommitInfo,
    ) -> Result<ObjectId, GitError> {
        let call = self.call("commit-tree").args([tree, "-p", parent.as_str(), "-F", "-"]);
        self.git.run(info.describe(call)).await?.succeeded()?.object_id()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn person() -> Person {
        Person::new("Bob", "bob@example.org").unwrap()
    }

    #[test]
    fn a_person_cannot_end_the_line_or_the_address_they_stand_in() {
        for (name, email) in [("a\nauthor b", "x@y"), ("a <b>", "x@y"), ("a", "x> 0 +0000\n"), ("a\u{202e}b", "x@y")] {
            assert_eq!(Person::new(name, email), Err(CommitInfoError::PersonCharacter), "{name:?} {email:?}");
        }
        assert_eq!(Person::new(" .;, ", "x@y"), Err(CommitInfoError::PersonLength));
        assert_eq!(Person::new("Bob Jr.", "bob@example.org").unwrap().name(), "Bob Jr");
    }

    #[test]
    fn a_message_is_text_and_ends_with_one_line_break() {
        assert_eq!(CommitInfo::new("feat: x\n\nbody\n\n\n", person(), 0).unwrap().message(), "feat: x\n\nbody\n");
        assert_eq!(CommitInfo::new(" \n", person(), 0), Err(CommitInfoError::MessageLength));
        assert_eq!(CommitInfo::new("a\0b", person(), 0), Err(CommitInfoError::MessageCharacter));
        assert_eq!(CommitInfo::new("a\x1b[31m", person(), 0), Err(CommitInfoError::MessageCharacter));
        assert_eq!(CommitInfo::new("a", person(), -1), Err(CommitInfoError::Time));
    }
}
