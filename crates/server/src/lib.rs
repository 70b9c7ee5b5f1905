//! The HTTP server: router, authentication, limits, event streams.
//!
//! Handlers hold no rules and no SQL: they read from the store, or give one command to `control`. A request passes
//! [`edge`] first, which nothing can get around; then a right is extracted that the handler needs. Start at
//! [`Server::start`] for the listener and at [`routes`] for what there is.

mod config;
mod server;
mod edge;
mod written;
#[cfg(test)]
mod fuzzed;
mod host_rule;
mod app;
mod problem;
mod auth;
mod asked;
mod plain;
mod text_rule;
mod perform;
mod sight;
mod steering;
mod rate;
mod metrics;
mod stream;
pub mod routes;
mod description;
mod docs;
mod health;
mod inbound;
mod jobs;
mod runs;
mod gates;
mod attempt_events;
mod attempt_stops;
mod attempts;
pub mod engines;
mod logs;
mod events;
mod queue;
mod tokens;
mod projects;
mod protocols;
mod steps;
mod backup;

pub use crate::{
    config::{Limits, ServerConfig},
    problem::Problem,
    server::{Server, ServerError},
};
