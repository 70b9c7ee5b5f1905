//! The scripted model server, proven with the real agent programs, each driven as it comes.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "helpers of tests may fail a test, too")]

mod real_agents;
