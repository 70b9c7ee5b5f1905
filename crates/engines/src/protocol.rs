//! What a worker and a supervisor say to each other over the socket: one JSON document a line, each side proving first
//! that it knows the nonce.

use crate::exit::{Confined, LaunchFailure};
use host::contain::Containment;
use host::signature;
use serde::{Deserialize, Serialize};

/// The socket's name in the attempt's directory.
pub(crate) const SOCKET: &str = "control.sock";

/// The longest line that either side reads.
pub(crate) const MAX_LINE: usize = 64 * 1024;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Request {
    Hello {
        version: u32,
        challenge: String,
        proof: String,
    },
    Extend {
        until_boot_ms: u64,
    },
    Stop {
        reason: String,
        grace_ms: Option<u64>,
    },
    Status,
    /// Whether the tree waits for people: that time is not its own, and neither is its silence.
    Hold {
        held: bool,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reply {
    Welcome { proof: String, report: Report },
    Report(Report),
    Refused { message: String },
}

/// How a running tree stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    pub containment: Containment,
    #[serde(default)]
    pub sandbox: Option<Confined>,
    /// The supervisor's own process.
    pub supervisor_pid: u32,
    pub started_at: i64,
    pub deadline_boot_ms: Option<u64>,
    /// How much has been written to all streams.
    pub output_bytes: u64,
    /// Whether its end has begun.
    pub stopping: bool,
}

/// The one line that a supervisor writes to its stdout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Started {
    Ready {
        containment: Containment,
        #[serde(default)]
        sandbox: Option<Confined>,
        started_at: i64,
    },
    Failed(LaunchFailure),
}

/// Who proves that they know the nonce.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Side {
    Controller,
    Supervisor,
}

pub(crate) fn proof(nonce: &str, side: Side, challenge: &str) -> String {
    let side: &[u8] = match side {
        Side::Controller => b"pilothouse controller\0",
        Side::Supervisor => b"pilothouse supervisor\0",
    };
    signature::hmac_sha256_hex(nonce.as_bytes(), &[side, challenge.as_bytes()])
}

pub(crate) fn is_proven(nonce: &str, side: Side, challenge: &str, given: &str) -> bool {
    host::hash::constant_time_eq(proof(nonce, side, challenge).as_bytes(), given.as_bytes())
}
