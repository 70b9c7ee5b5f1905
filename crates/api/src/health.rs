//! Whether the server can do its work.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct HealthView {
    /// `ok` or `degraded`; `alive` where only the process was asked
    pub status: String,
    /// `sqlite` or `postgres`
    pub database: String,
    pub version: String,
}

/// A backup that was written.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct BackupView {
    /// On the server's machine.
    pub path: String,
    pub bytes: u64,
    pub created_at: String,
}

/// The body of an action that needs none: nothing at all, or an empty object.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NoBody {}
