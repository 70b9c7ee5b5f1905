//! Supervision of real processes, through the binary in `examples/supervise.rs`. On Linux: `/proc` says who is alive.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "helpers of tests may fail a test, too")]

mod adoption;
mod containment;
mod limits;
mod machine;
mod probes;
mod sandbox;
mod scripted;
mod spawn;
mod told;
mod transcripts;
mod hostile;
