//! Every function of the store, once, on both databases; then random sequences against a model.
//!
//! The PostgreSQL half needs `PILOTHOUSE_TEST_POSTGRES_URL`, with a role that may create databases; without it those
//! tests fail, they are not skipped.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

mod claims;
mod commits;
mod differential;
mod events;
mod files;
mod guards;
mod lost;
mod model;
mod parameters;
mod queue;
mod rows;
mod upkeep;
