//! The server as its callers see it: the real router and listener over a real ledger, with a clock that tests move.
#![expect(clippy::unwrap_used, reason = "helpers of tests may fail a test, too")]

mod app;
mod access;
mod token_kinds;
mod bad_input;
mod document;
mod edge;
mod events;
mod idempotency;
mod jobs;
mod logs;
mod protocols;
mod tokens;
