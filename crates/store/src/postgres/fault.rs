//! What an error of the driver means for the caller.

use std::error::Error as _;

use tokio_postgres::{
    Error,
    error::{Severity, SqlState},
};

use crate::StoreError;

/// What a failed statement says about what happens next.
#[derive(Clone, Debug)]
pub(super) enum Fault {
    /// The connection was lost: whether the statement was carried out is not known.
    Lost(StoreError),
    /// Rolled back because of others (deadlock, lock timeout, unique key taken meanwhile). Worth another try, alone.
    Contended(StoreError),
    /// Rolled back for good.
    Refused(StoreError),
}

impl Fault {
    pub(super) fn of(error: &Error) -> Self {
        let meaning = of(error);
        let Some(state) = error.code() else { return Self::Lost(meaning) };
        // Whoever ends a session, or the whole server, may do so between a commit and its answer.
        let is_the_end = error
            .as_db_error()
            .and_then(|error| error.parsed_severity())
            .is_some_and(|severity| matches!(severity, Severity::Fatal | Severity::Panic));
        if is_the_end
            || state == &SqlState::ADMIN_SHUTDOWN
            || state == &SqlState::CRASH_SHUTDOWN
            || state.code().starts_with("08")
        {
            Self::Lost(meaning)
        } else if [
            SqlState::T_R_DEADLOCK_DETECTED,
            SqlState::T_R_SERIALIZATION_FAILURE,
            SqlState::LOCK_NOT_AVAILABLE,
            SqlState::UNIQUE_VIOLATION,
        ]
        .contains(state)
        {
            Self::Contended(meaning)
        } else {
            Self::Refused(meaning)
        }
    }

    /// Nothing was heard in time.
    pub(super) fn silent() -> Self {
        Self::Lost(silent())
    }

    pub(super) fn into_error(self) -> StoreError {
        match self {
            Self::Lost(error) | Self::Contended(error) | Self::Refused(error) => error,
        }
    }
}

/// The store's error for a server that does not answer.
pub(super) fn silent() -> StoreError {
    StoreError::Unavailable { reason: "the server did not answer in time".to_owned() }
}

/// The store's error for an error of the driver.
pub(super) fn of(error: &Error) -> StoreError {
    let reason = text(error);
    let Some(state) = error.code() else { return StoreError::Unavailable { reason } };
    match state.code() {
        "53100" => StoreError::DiskFull,
        "23505" => {
            let constraint = error.as_db_error().and_then(|db| db.constraint()).unwrap_or("a unique key");
            StoreError::Rejected { reason: format!("what must be unique is taken ({constraint})") }
        }
        // The role may not, the object is missing, the statement is wrong: no retry helps, a person has to look.
        "28000" | "28P01" | "3D000" => StoreError::Unfit { reason },
        code if code.starts_with("42") => StoreError::Unfit { reason },
        // Constraints, bad values, a row named twice: the commit itself is at fault.
        code if code.starts_with("22") || code.starts_with("23") || code.starts_with("21") => {
            StoreError::Rejected { reason }
        }
        "54000" | "54001" | "54011" | "54023" => StoreError::Rejected { reason },
        _ => StoreError::Unavailable { reason },
    }
}

/// The driver's error with its causes, on one line; its own text often hides them.
pub(super) fn text(error: &Error) -> String {
    match (error.as_db_error(), error.source()) {
        (Some(db), _) => match db.constraint() {
            Some(constraint) => format!("{} ({}, {constraint})", db.message(), db.code().code()),
            None => format!("{} ({})", db.message(), db.code().code()),
        },
        (None, Some(source)) => format!("{error}: {source}"),
        (None, None) => error.to_string(),
    }
}

/// The store's error for a pool that has no connection to give.
pub(super) fn of_pool(error: &deadpool_postgres::PoolError) -> StoreError {
    match error {
        deadpool_postgres::PoolError::Backend(error) => of(error),
        deadpool_postgres::PoolError::Timeout(deadpool_postgres::TimeoutType::Wait) => StoreError::Overloaded,
        other => StoreError::Unavailable { reason: other.to_string() },
    }
}
