//! Why a call did not bring what was asked for.

use api::ProblemBody;

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody answered there.
    #[error("no server answers at {url}")]
    Unreachable {
        url: String,
        #[source]
        source: Option<reqwest::Error>,
    },
    /// The answer took too long; what was asked for may have happened.
    #[error("the server at {url} did not answer in time")]
    TimedOut { url: String },
    /// The server refused, and says why.
    #[error("{}", .0.detail)]
    Problem(Box<ProblemBody>),
    /// Somebody answered who is not a Pilothouse, or a newer one.
    #[error("the answer to {what} is not understood (status {status})")]
    Strange { what: String, status: u16 },
    #[error("the connection to {url} broke off")]
    Broken {
        url: String,
        #[source]
        source: reqwest::Error,
    },
    #[error("{address} is not an address of a server: {reason}")]
    Address { address: String, reason: &'static str },
    #[error("cannot prepare HTTP")]
    Setup(#[source] reqwest::Error),
}

impl ClientError {
    /// The stable code of the server's problem.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Problem(problem) => Some(&problem.code),
            _ => None,
        }
    }

    /// The status of the server's answer.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Problem(problem) => Some(problem.status),
            Self::Strange { status, .. } => Some(*status),
            _ => None,
        }
    }
}
