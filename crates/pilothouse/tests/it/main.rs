//! The real binary, driven from outside: as a user at a terminal, as a program over HTTP, and with `kill -9`.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

mod house;
mod node;

mod configuration;
mod demo;
mod frozen;
mod jobs;
mod ledger;
mod manifests;
mod nodes;
mod schemathesis;
mod several;
mod watching;
mod protocols;
#[cfg(target_os = "linux")]
mod real_agents;
