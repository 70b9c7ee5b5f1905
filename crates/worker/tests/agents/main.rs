//! Protocols carried out by a real worker, real supervisors and the real agent programs; only the models are scripted.
//!
//! On SQLite: what an agent does to a protocol does not depend on the database, and each start of one costs seconds.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

mod real_agents;
