//! How an attempt's tree ended, and the sealed file that says so after its supervisor is gone.
//!
//! The file lies where the tree could write too, so it carries a seal that only the holders of the nonce can make.

use crate::sandbox::{Means, Profile, Reach};
use crate::spec::Stream;
use host::contain::Containment;
use host::fs::FsError;
use host::process::Status;
use host::signature;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::path::Path;

/// The file's name in the attempt's directory.
pub const FILE: &str = "result.json";

const MAX_FILE: u64 = 1 << 20;

/// The end of one tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    pub outcome: Outcome,
    /// How the program itself ended, where that could be learnt.
    pub status: Option<Status>,
    pub containment: Containment,
    /// The sandbox it ran in; `None` is none.
    #[serde(default)]
    pub sandbox: Option<Confined>,
    /// What kept its shared limits, where it had any.
    #[serde(default)]
    pub limited: Option<Limited>,
    pub started_at: i64,
    pub ended_at: i64,
    /// Whether it took SIGKILL.
    pub killed: bool,
    /// Whether nothing of the tree was left at the end.
    pub all_gone: bool,
    /// Whether something of it was killed because its memory was used up.
    #[serde(default)]
    pub out_of_memory: bool,
    pub outputs: Vec<OutputEnd>,
}

/// The sandbox that a tree ran in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confined {
    pub profile: Profile,
    pub means: Means,
    #[serde(default)]
    pub reach: Reach,
}

/// What keeps the limits that a tree shares, strongest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limited {
    CgroupV2,
    CgroupV1,
    /// Each process has the limit for itself; only their number is counted together.
    Rlimits,
}

impl Limited {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CgroupV2 => "cgroup_v2",
            Self::CgroupV1 => "cgroup_v1",
            Self::Rlimits => "rlimits",
        }
    }
}

/// Why a tree ended. What the program answered counts only when nobody ended it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Exited {
        code: i32,
    },
    Signaled {
        signal: i32,
    },
    TimedOut {
        limit: TimeLimit,
    },
    OutputLimit,
    Stopped {
        reason: String,
    },
    /// The deadline was not moved in time.
    DeadlinePassed,
    /// No worker was connected for too long.
    ControllerLost,
    LaunchFailed(LaunchFailure),
}

impl Outcome {
    pub fn success(&self) -> bool {
        matches!(self, Self::Exited { code: 0 })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimeLimit {
    Wall,
    Idle,
}

/// Why a program did not start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct LaunchFailure {
    pub kind: LaunchFailureKind,
    pub message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LaunchFailureKind {
    ProgramNotFound,
    ProgramRefused,
    DirectoryNotFound,
    /// The sandbox or the limits that were asked for cannot be had here; nothing ran in less.
    SandboxUnavailable,
    Other,
}

/// What became of one stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputEnd {
    pub stream: Stream,
    /// How much was written.
    pub bytes: u64,
    /// How much of it is in the file.
    pub kept: u64,
    pub truncated: bool,
    /// Over all that was written.
    pub sha256: String,
}

#[derive(Serialize, Deserialize)]
struct Sealed {
    version: u32,
    exit: Box<RawValue>,
    seal: String,
}

/// Why there is no usable result.
#[derive(Debug, thiserror::Error)]
pub enum ResultError {
    #[error("there is no result")]
    Missing,
    #[error("the result was not written by our supervisor")]
    Forged,
    #[error("cannot read the result")]
    Unreadable(#[source] FsError),
    #[error("the result is not understood")]
    Malformed(#[source] serde_json::Error),
}

/// Writes the result, sealed, so that it is there as a whole or not at all.
pub(crate) fn write(dir: &Path, nonce: &str, exit: &Exit) -> Result<(), FsError> {
    let exit = serde_json::value::to_raw_value(exit).expect("an exit has only plain fields");
    let seal = seal(nonce, exit.get());
    let sealed = Sealed { version: crate::spec::VERSION, exit, seal };
    let bytes = serde_json::to_vec(&sealed).expect("a sealed exit has only plain fields");
    host::fs::write_atomic(&dir.join(FILE), &bytes)
}

/// Reads the result that the supervisor with this nonce wrote.
pub fn read(dir: &Path, nonce: &str) -> Result<Exit, ResultError> {
    let bytes = host::fs::read(&dir.join(FILE), MAX_FILE).map_err(|error| match error {
        error if error.is_not_found() => ResultError::Missing,
        error => ResultError::Unreadable(error),
    })?;
    let sealed: Sealed = serde_json::from_slice(&bytes).map_err(ResultError::Malformed)?;
    if !host::hash::constant_time_eq(seal(nonce, sealed.exit.get()).as_bytes(), sealed.seal.as_bytes()) {
        return Err(ResultError::Forged);
    }
    serde_json::from_str(sealed.exit.get()).map_err(ResultError::Malformed)
}

fn seal(nonce: &str, exit: &str) -> String {
    signature::hmac_sha256_hex(nonce.as_bytes(), &[b"pilothouse result\0", exit.as_bytes()])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit() -> Exit {
        Exit {
            outcome: Outcome::Stopped { reason: "canceled by bob".into() },
            status: Some(Status::Signaled(15)),
            containment: Containment::PidNamespace,
            sandbox: Some(Confined { profile: Profile::Workspace, means: Means::Bubblewrap, reach: Reach::Endpoints }),
            limited: Some(Limited::CgroupV1),
            started_at: 1,
            ended_at: 2,
            killed: false,
            all_gone: true,
            out_of_memory: false,
            outputs: vec![OutputEnd {
                stream: Stream::Output,
                bytes: 10,
                kept: 4,
                truncated: true,
                sha256: host::hash::sha256_hex(b"0123456789"),
            }],
        }
    }

    #[test]
    fn a_result_is_read_back_by_who_knows_the_nonce() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(read(dir.path(), "nonce"), Err(ResultError::Missing)));
        write(dir.path(), "nonce", &exit()).unwrap();
        assert_eq!(read(dir.path(), "nonce").unwrap(), exit());
        assert!(matches!(read(dir.path(), "other"), Err(ResultError::Forged)));
    }

    #[test]
    fn a_changed_result_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "nonce", &exit()).unwrap();
        let path = dir.path().join(FILE);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace("15", "0")).unwrap();
        assert!(matches!(read(dir.path(), "nonce"), Err(ResultError::Forged)));
        std::fs::write(&path, "{}").unwrap();
        assert!(matches!(read(dir.path(), "nonce"), Err(ResultError::Malformed(_))));
    }
}
