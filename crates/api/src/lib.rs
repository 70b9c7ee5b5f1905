//! Request and response bodies of the HTTP API, problem codes, and their OpenAPI schemas.
//!
//! One file for each noun. What comes in refuses unknown members; what goes out is made from the domain's types by
//! `From`, never the domain's types themselves, so that nothing secret leaves by accident. No rules live here.

pub mod problem;
pub mod page;
pub mod health;
pub mod inbound;
pub mod jobs;
pub mod runs;
pub mod timeline;
pub mod gates;
pub mod attempts;
pub mod engines;
pub mod events;
pub mod messages;
pub mod queue;
pub mod projects;
pub mod protocols;
pub mod steps;
pub mod tokens;

pub use crate::{
    page::{Page, RowCursor},
    problem::{CODES, Code, ProblemBody},
};
