//! Why a command did not happen.

use domain::{
    commit::{Guard, StoredAnswer, SubjectKind},
    ids::{ProjectId, StepId},
    project::ProjectError,
    protocol::ProtocolError,
    run::RunError,
};
use store::StoreError;

/// Refusals are the caller's to fix; `Store` means that we could not tell.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum CommandError {
    #[error("there is no {} {id}", kind.as_str())]
    NotFound { kind: SubjectKind, id: String },
    #[error("there is no step {step}")]
    NoSuchStep { step: StepId },
    #[error(transparent)]
    Run(#[from] RunError),
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
    #[error(transparent)]
    Project(#[from] ProjectError),
    #[error("project {project} already has a protocol {name}")]
    NameTaken { project: ProjectId, name: String },
    /// The same command was carried out before; this was answered.
    #[error("the command was carried out before")]
    Repeated(StoredAnswer),
    #[error("{guard:?} is taken: {current}")]
    Refused { guard: Guard, current: String },
    /// The task this was done for was taken over: write nothing more, stop.
    #[error("the task was taken over")]
    Fenced,
    /// Others kept changing the subject until the time was up.
    #[error("the subject is changing too fast")]
    Contended,
    /// What was asked for does not fit its rules; each line says one thing, with its remedy.
    #[error("{}", problems.join("; "))]
    Invalid { code: &'static str, problems: Vec<String> },
    #[error("{message}")]
    Forbidden { code: &'static str, message: String },
    #[error(transparent)]
    Store(#[from] StoreFailure),
}

/// A store error that can be compared, so that command errors can.
#[derive(Debug, Clone, thiserror::Error)]
#[error(transparent)]
pub struct StoreFailure(#[from] pub StoreError);

impl PartialEq for StoreFailure {
    fn eq(&self, other: &Self) -> bool {
        self.0.to_string() == other.0.to_string()
    }
}

impl From<StoreError> for CommandError {
    fn from(error: StoreError) -> Self {
        Self::Store(StoreFailure(error))
    }
}
