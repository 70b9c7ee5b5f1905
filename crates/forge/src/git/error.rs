//! Why something in git did not happen.

use super::commit::CommitInfoError;
use super::types::{BranchName, NameError, ObjectId, ObjectIdError, PathError, UrlError};
use std::path::PathBuf;
use std::time::Duration;

/// Why git did not do what was asked. Texts of git itself are cleaned and cut before they get here.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    #[error("git is not installed (looked for {looked_for})")]
    Missing { looked_for: String },
    #[error("git {found} is too old; {minimum} or newer is needed")]
    TooOld { found: String, minimum: String },
    #[error("git {subcommand} did not end within {after:?}")]
    TimedOut { subcommand: &'static str, after: Duration },
    #[error("git {subcommand} wrote more than {limit} bytes")]
    TooMuchOutput { subcommand: &'static str, limit: usize },
    #[error("{path} is not a git repository")]
    NotARepository { path: PathBuf },
    #[error("the local repository {path} may not be used: {why}")]
    RefusedRepository { path: PathBuf, why: &'static str },
    #[error("the repository has no branch {branch}")]
    NoSuchBranch { branch: BranchName },
    #[error("the repository has no object {object}")]
    NoSuchObject { object: String },
    #[error("branch {branch} is at {} and not at {}", shown(.found.as_ref()), shown(.expected.as_ref()))]
    Moved { branch: BranchName, expected: Option<ObjectId>, found: Option<ObjectId> },
    #[error("branch {branch} is checked out in the repository that it would be pushed to")]
    CheckedOut { branch: BranchName },
    #[error("the repository refused branch {branch}: {reason}")]
    Rejected { branch: BranchName, reason: String },
    #[error("{path} is a git repository inside the worktree")]
    NestedRepository { path: PathBuf },
    #[error("{path} is a pipe, a socket or a device where git expects a file")]
    SpecialFile { path: PathBuf },
    #[error("{path} is not a worktree of ours")]
    NotAWorktree { path: PathBuf },
    #[error("the worktree {path} has more than {limit} entries")]
    TooManyFiles { path: PathBuf, limit: usize },
    #[error("{path} cannot be written: {why}")]
    PathInTheWay { path: String, why: &'static str },
    #[error("{path} is larger than {limit} bytes")]
    FileTooLarge { path: String, limit: usize },
    #[error("refused the name")]
    Name(#[from] NameError),
    #[error("refused the address")]
    Url(#[from] UrlError),
    #[error("refused the path")]
    Path(#[from] PathError),
    #[error("refused the object id")]
    ObjectId(#[from] ObjectIdError),
    #[error("refused the commit")]
    CommitInfo(#[from] CommitInfoError),
    #[error("git {subcommand} failed with {status}: {stderr}")]
    Failed { subcommand: &'static str, status: String, stderr: String },
    #[error("git {subcommand} answered something unexpected: {what}")]
    Unexpected { subcommand: &'static str, what: String },
    #[error("git {subcommand} did not run")]
    Process { subcommand: &'static str, source: host::process::ProcessError },
    #[error("cannot use the files of a repository")]
    Files(#[from] host::fs::FsError),
    #[error("cannot {action} {path}")]
    Io { action: &'static str, path: PathBuf, source: std::io::Error },
}

fn shown(object: Option<&ObjectId>) -> String {
    object.map_or_else(|| "nothing".to_owned(), |object| object.short().to_owned())
}

impl GitError {
    /// A stable word for the kind of failure: for logs, problems and tests.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Missing { .. } => "git_missing",
            Self::TooOld { .. } => "git_too_old",
            Self::TimedOut { .. } => "git_timed_out",
            Self::TooMuchOutput { .. } => "git_too_much_output",
            Self::NotARepository { .. } => "not_a_repository",
            Self::RefusedRepository { .. } => "repository_refused",
            Self::NoSuchBranch { .. } => "branch_missing",
            Self::NoSuchObject { .. } => "object_missing",
            Self::Moved { .. } => "branch_moved",
            Self::CheckedOut { .. } => "branch_checked_out",
            Self::Rejected { .. } => "push_rejected",
            Self::NestedRepository { .. } => "nested_repository",
            Self::SpecialFile { .. } => "special_file",
            Self::NotAWorktree { .. } => "not_a_worktree",
            Self::TooManyFiles { .. } => "too_many_files",
            Self::PathInTheWay { .. } => "path_in_the_way",
            Self::FileTooLarge { .. } => "file_too_large",
            Self::Name(_) => "name_refused",
            Self::Url(_) => "url_refused",
            Self::Path(_) => "path_refused",
            Self::ObjectId(_) => "object_id_refused",
            Self::CommitInfo(_) => "commit_refused",
            Self::Failed { .. } => "git_failed",
            Self::Unexpected { .. } => "git_unexpected",
            Self::Process { .. } => "git_not_run",
            Self::Files(_) | Self::Io { .. } => "files",
        }
    }

    /// Whether the same call may well succeed a little later: the outside was slow, or the disk or process table full.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::TimedOut { .. } | Self::Process { .. } | Self::Files(_) | Self::Io { .. })
    }
}
