//! What an error of SQLite means for the caller.

use rusqlite::{Error, ErrorCode, ffi};

use crate::StoreError;

/// What is corrupt when it is no row.
pub(super) const FILE: &str = "(file)";

/// The store's error for an error of SQLite.
#[expect(clippy::needless_pass_by_value, reason = "what `map_err` hands over")]
pub(super) fn of(error: Error) -> StoreError {
    let reason = error.to_string();
    if may_be_logged(&error) {
        return StoreError::DiskFull;
    }
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => StoreError::DiskFull,
        Some(ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch | ErrorCode::TooBig) => {
            StoreError::Rejected { reason }
        }
        Some(ErrorCode::DatabaseCorrupt) => StoreError::Corrupt { table: FILE, id: String::new(), reason },
        Some(ErrorCode::NotADatabase) => StoreError::Unfit { reason },
        _ => StoreError::Unavailable { reason },
    }
}

/// Whether the file can no longer be trusted to keep what it is given. What the kernel dropped after a failed sync is
/// not written by a later one that succeeds, so nothing may be accepted until the file was opened anew.
pub(super) fn is_fatal(error: &Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::SystemIoFailure | ErrorCode::DatabaseCorrupt))
        && !may_be_logged(error)
}

/// Whether there was space for a transaction in the log, and none for the log's index, which is made longer every 4,096
/// pages, after the transaction was written and synced. The index is made anew at every start, so nothing is wrong with
/// the file; but the next start would find the transaction.
pub(super) fn may_be_logged(error: &Error) -> bool {
    error.sqlite_error().is_some_and(|error| error.extended_code == ffi::SQLITE_IOERR_SHMSIZE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(code: i32) -> Error {
        Error::SqliteFailure(ffi::Error::new(code), None)
    }

    #[test]
    fn errors_keep_their_meaning() {
        assert!(matches!(of(error(ffi::SQLITE_FULL)), StoreError::DiskFull));
        assert!(matches!(of(error(ffi::SQLITE_IOERR_SHMSIZE)), StoreError::DiskFull));
        assert!(matches!(of(error(ffi::SQLITE_CONSTRAINT_UNIQUE)), StoreError::Rejected { .. }));
        assert!(matches!(of(error(ffi::SQLITE_BUSY)), StoreError::Unavailable { .. }));
        assert!(matches!(of(error(ffi::SQLITE_IOERR_WRITE)), StoreError::Unavailable { .. }));
        assert!(matches!(of(error(ffi::SQLITE_CORRUPT)), StoreError::Corrupt { .. }));
        assert!(matches!(of(error(ffi::SQLITE_NOTADB)), StoreError::Unfit { .. }));
    }

    #[test]
    fn only_a_failing_file_is_fatal() {
        assert!(is_fatal(&error(ffi::SQLITE_IOERR_FSYNC)));
        assert!(is_fatal(&error(ffi::SQLITE_CORRUPT)));
        assert!(!is_fatal(&error(ffi::SQLITE_FULL)));
        assert!(!is_fatal(&error(ffi::SQLITE_IOERR_SHMSIZE)));
        assert!(!is_fatal(&error(ffi::SQLITE_CONSTRAINT_CHECK)));
    }
}
