//! Calls the HTTP API of Pilothouse, with its own types.
//!
//! One file for each noun, as in `api`. Nothing here decides or retries: a refusal is a [`ClientError`] that carries the
//! server's problem, and what to do about it is the caller's. Start at [`Client`].

pub mod error;
pub mod collector;
pub mod http;
pub mod jobs;
pub mod runs;
pub mod gates;
pub mod attempts;
pub mod engines;
pub mod events;
pub mod queue;
pub mod tokens;
pub mod projects;
pub mod protocols;
pub mod steps;
pub mod health;
pub mod inbound;

pub use crate::{error::ClientError, events::EventStream, http::Client};
