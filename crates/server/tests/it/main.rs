//! The server as its callers see it: the real router and listener over a real ledger, with a clock that tests move.

mod app;
mod access;
mod bad_input;
mod document;
mod edge;
mod events;
mod idempotency;
mod jobs;
mod protocols;
mod tokens;
