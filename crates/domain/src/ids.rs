//! Typed ids. The application draws every id before it decides, so that an answer can be rendered before the commit.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! integer_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub i64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub String);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.to_owned())
            }
        }
    };
}

integer_id!(
    /// A project. Below 2^53.
    ProjectId
);
integer_id!(
    /// A protocol. Below 2^53.
    ProtocolId
);
integer_id!(
    /// A step. Below 2^53.
    StepId
);
text_id!(
    /// A run's short reference: 7 Crockford base32 characters, upper case.
    RunId
);
text_id!(
    /// A gate's short reference, drawn like a run's.
    GateId
);
text_id!(
    /// `run-<run>-<n>` or `step-<step>-<n>`.
    AttemptId
);
text_id!(
    /// A UUIDv7 in text.
    PersonId
);
text_id!(
    /// The public part of an API token.
    TokenId
);
text_id!(
    /// A UUIDv7 in text.
    TaskId
);
text_id!(
    /// A UUIDv7 in text.
    MessageId
);
text_id!(
    /// A UUIDv7 in text; finds out whether a commit with an unknown outcome was applied.
    CommitId
);

impl AttemptId {
    pub fn of_run(run: &RunId, number: u32) -> Self {
        Self(format!("run-{run}-{number}"))
    }

    pub fn of_step(step: StepId, number: u32) -> Self {
        Self(format!("step-{step}-{number}"))
    }
}

/// The ever-growing number a claim is given. Never reused, never a time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fence(pub i64);

impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
