//! Who acts.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::PersonId;

/// Who gave a command. Only a person may decide a gate.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Actor {
    /// A person, through one of their accounts: `dev:alice`, or their name when they used an API token.
    Person { id: PersonId, account: String },
    /// A worker process, by its incarnation.
    Worker { id: String },
    /// A timer or a rule of Pilothouse itself.
    System,
}

impl fmt::Display for Actor {
    /// The inherited spelling: `user:<account>`, `worker:<id>`, `system`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Person { account, .. } => write!(f, "user:{account}"),
            Self::Worker { id } => write!(f, "worker:{id}"),
            Self::System => f.write_str("system"),
        }
    }
}
