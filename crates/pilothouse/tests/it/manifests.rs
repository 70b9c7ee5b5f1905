//! What is in `deploy`: held to the schemas of others, to what the product takes, and run.
//!
//! Start at [`containers`], which turns each way of describing a container into the same value.

mod containers;
mod files;
mod image;
mod schemas;
mod settings;
mod topology;
