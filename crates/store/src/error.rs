//! Why the store could not tell, as opposed to what it refused: refusals are [`domain::commit::Committed`].

/// A failure of the database, or of what was asked of it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The database is away, starting or refusing connections. Worth another try.
    #[error("the database is not available: {reason}")]
    Unavailable { reason: String },
    /// The writer's queue is full. Worth another try after a moment.
    #[error("the database has more work waiting than it may hold")]
    Overloaded,
    /// No space left for the database. Reads go on; writes resume by themselves once there is space.
    #[error("the disk of the database is full")]
    DiskFull,
    /// The outcome of the commit is not known even after looking for it.
    #[error("the outcome of commit {commit} is unknown: {reason}")]
    UnknownOutcome { commit: String, reason: String },
    /// A stored row contradicts itself.
    #[error("row {id} of table {table} is corrupt: {reason}")]
    Corrupt { table: &'static str, id: String, reason: String },
    /// The SQLite file contradicts itself. It was left as it is.
    #[error("the ledger {path} is damaged: {findings}")]
    Damaged { path: String, findings: String },
    /// Another process owns the SQLite file.
    #[error("the database {path} is in use by another process")]
    InUse { path: String },
    /// The database's settings or version cannot keep the promises.
    #[error("the database cannot be used: {reason}")]
    Unfit { reason: String },
    /// The schema is newer than this binary.
    #[error("the database has schema {found}, this binary knows {known}; use a newer binary")]
    NewerSchema { found: i64, known: i64 },
    /// A cursor that this database never gave out.
    #[error("the cursor is not valid for this database")]
    BadCursor,
    /// A write that no rule allows, such as an id that is taken. A defect of the caller.
    #[error("the commit was rejected: {reason}")]
    Rejected { reason: String },
}

impl StoreError {
    /// Whether the same call may succeed later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unavailable { .. } | Self::Overloaded | Self::DiskFull | Self::UnknownOutcome { .. } => true,
            Self::Corrupt { .. }
            | Self::Damaged { .. }
            | Self::InUse { .. }
            | Self::Unfit { .. }
            | Self::NewerSchema { .. }
            | Self::BadCursor
            | Self::Rejected { .. } => false,
        }
    }
}
