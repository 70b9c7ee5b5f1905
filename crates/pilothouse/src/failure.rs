//! How a command ends when it does not end well: an exit code, one sentence, and what to do about it.

use api::ProblemBody;
use client::ClientError;
use store::StoreError;

pub(crate) use crate::causes::chain;

/// The documented exit codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Failed = 1,
    Usage = 2,
    NotFound = 3,
    Auth = 4,
    Conflict = 5,
    TimedOut = 6,
    Denied = 7,
    Unreachable = 9,
    Waiting = 10,
    Interrupted = 130,
}

impl Exit {
    const ALL: [Self; 10] = [
        Self::Failed,
        Self::Usage,
        Self::NotFound,
        Self::Auth,
        Self::Conflict,
        Self::TimedOut,
        Self::Denied,
        Self::Unreachable,
        Self::Waiting,
        Self::Interrupted,
    ];

    fn about(self) -> &'static str {
        match self {
            Self::Failed => "failed: the command, the run or the protocol ended badly",
            Self::Usage => "usage: arguments, configuration or catalog are wrong",
            Self::NotFound => "not found",
            Self::Auth => "not signed in, or the token lacks a scope",
            Self::Conflict => "conflict: it is in another state, or somebody was first",
            Self::TimedOut => "timed out",
            Self::Denied => "denied, by people or by a policy",
            Self::Unreachable => "the server cannot be reached, or cannot tell right now",
            Self::Waiting => "still waiting for an approval when the time of --wait was over",
            Self::Interrupted => "interrupted",
        }
    }
}

/// What `help exit-codes` prints.
pub(crate) fn exit_codes() -> String {
    let lines = Exit::ALL.into_iter().map(|exit| format!("{:>3}  {}\n", exit as u8, exit.about()));
    std::iter::once("  0  ok\n".to_owned()).chain(lines).collect()
}

/// Why a command failed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    pub(crate) message: String,
    pub(crate) remedy: Option<String>,
    /// What the server said, word for word.
    pub(crate) problem: Option<Box<ProblemBody>>,
}

pub(crate) type Result<T = ()> = std::result::Result<T, Failure>;

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), remedy: None, problem: None }
    }

    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::new(Exit::Failed, message)
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    #[must_use]
    pub(crate) fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// Tells people, or with `json` programs, on stderr.
    pub(crate) fn report(&self, json: bool) {
        if json {
            let problem = match &self.problem {
                Some(problem) => serde_json::to_value(problem).unwrap_or_default(),
                None => serde_json::json!({
                    "type": "about:blank",
                    "title": "Command Failed",
                    "code": self.code(),
                    "detail": self.message,
                    "hint": self.remedy,
                }),
            };
            return crate::output::say(&problem.to_string());
        }
        crate::output::say(&format!("error: {}", self.message));
        for line in self.problem.iter().flat_map(|problem| &problem.problems) {
            crate::output::say(&format!("  {line}"));
        }
        if let Some(remedy) = &self.remedy {
            crate::output::say(&format!("  {remedy}"));
        }
    }

    fn code(&self) -> &'static str {
        match self.exit {
            Exit::Failed => "failed",
            Exit::Usage => "usage",
            Exit::NotFound => "not_found",
            Exit::Auth => "auth",
            Exit::Conflict => "conflict",
            Exit::TimedOut => "timed_out",
            Exit::Denied => "denied",
            Exit::Unreachable => "unreachable",
            Exit::Waiting => "waiting",
            Exit::Interrupted => "interrupted",
        }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Problem(problem) => Self {
                exit: exit_of(&problem),
                message: problem.detail.clone(),
                remedy: Some(problem.hint.clone()).filter(|hint| !hint.is_empty()),
                problem: Some(problem),
            },
            ClientError::Unreachable { .. } => Self::new(Exit::Unreachable, chain(&error))
                .remedy("Start one with `pilothouse up`, or name one with --server URL."),
            ClientError::TimedOut { .. } => Self::new(Exit::TimedOut, chain(&error)),
            ClientError::Broken { .. } => Self::new(Exit::Unreachable, chain(&error)),
            ClientError::Address { .. } => Self::usage(chain(&error)),
            ClientError::Strange { .. } => Self::failed(chain(&error))
                .remedy("Is it a Pilothouse of this version? `pilothouse version` tells ours."),
            ClientError::Setup(_) => Self::failed(chain(&error)),
        }
    }
}

fn exit_of(problem: &ProblemBody) -> Exit {
    // A policy says no to somebody it knows; a missing right is about the token.
    const BY_POLICY: [&str; 4] = ["self_approval", "not_approver", "not_a_requester", "not_concerned"];
    match problem.status {
        403 if BY_POLICY.contains(&problem.code.as_str()) => Exit::Denied,
        401 | 403 => Exit::Auth,
        404 => Exit::NotFound,
        409 => Exit::Conflict,
        408 => Exit::TimedOut,
        503 if problem.code == "handler_timeout" => Exit::TimedOut,
        503 => Exit::Unreachable,
        400 | 413 | 414 | 415 | 421 | 422 | 431 => Exit::Usage,
        _ => Exit::Failed,
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        if let StoreError::Damaged { .. } = &error {
            return Self::failed(chain(&error))
                .remedy("It was left as it is. Restore a backup with `pilothouse db restore FILE --force`.");
        }
        let exit = match &error {
            StoreError::InUse { .. } => Exit::Conflict,
            StoreError::Unavailable { .. } | StoreError::Overloaded => Exit::Unreachable,
            _ => Exit::Failed,
        };
        Self::new(exit, chain(&error))
    }
}

impl From<control::CommandError> for Failure {
    fn from(error: control::CommandError) -> Self {
        match error {
            control::CommandError::Store(store) => store.0.into(),
            other => Self::failed(chain(&other)),
        }
    }
}

impl From<host::fs::FsError> for Failure {
    fn from(error: host::fs::FsError) -> Self {
        let exit = if error.is_not_found() { Exit::NotFound } else { Exit::Failed };
        Self::new(exit, chain(&error))
    }
}

impl From<crate::config::ConfigError> for Failure {
    fn from(error: crate::config::ConfigError) -> Self {
        Self::usage(error.to_string()).remedy("`pilothouse config show --origin` tells where each value comes from.")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(status: u16, code: &str) -> ProblemBody {
        ProblemBody {
            kind: String::new(),
            title: String::new(),
            status,
            code: code.to_owned(),
            detail: String::new(),
            hint: String::new(),
            request_id: String::new(),
            problems: Vec::new(),
        }
    }

    #[test]
    fn every_code_of_the_server_has_a_documented_exit_code() {
        for entry in api::CODES {
            let exit = exit_of(&problem(entry.status, entry.code));
            assert!(exit_codes().contains(&format!("{:>3}  {}", exit as u8, exit.about())), "{}", entry.code);
        }
        assert_eq!(exit_of(&problem(403, "self_approval")), Exit::Denied);
        assert_eq!(exit_of(&problem(403, "missing_scope")), Exit::Auth);
        assert_eq!(exit_of(&problem(404, "unknown_run")), Exit::NotFound);
        assert_eq!(exit_of(&problem(409, "gate_closed")), Exit::Conflict);
        assert_eq!(exit_of(&problem(503, "disk_full")), Exit::Unreachable);
    }
}
