//! Why a handler did not finish its task, and what becomes of the task then.

use control::CommandError;
use domain::{protocol::ProtocolError, run::RunError, task::TaskFailure};

/// How a handler ended without having acknowledged its task.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The lease is gone: nothing of this attempt counts any more, and nothing may be written.
    Fenced,
    /// The process drains; the task stays leased for whoever comes next.
    Left,
    Task(TaskFailure),
}

impl Failure {
    pub(crate) fn retry(error: impl std::fmt::Display) -> Self {
        Self::Task(TaskFailure::Retry { after: None, error: error.to_string() })
    }

    pub(crate) fn give_up(error: impl std::fmt::Display) -> Self {
        Self::Task(TaskFailure::GiveUp { error: error.to_string() })
    }
}

impl From<CommandError> for Failure {
    fn from(error: CommandError) -> Self {
        match error {
            CommandError::Fenced
            | CommandError::Run(RunError::Fenced { .. })
            | CommandError::Protocol(ProtocolError::Fenced { .. }) => Self::Fenced,
            CommandError::Store(_) | CommandError::Contended => Self::retry(error),
            // The rules will refuse tomorrow what they refuse today.
            _ => Self::give_up(error),
        }
    }
}
