//! What tests and measurements share: databases of their own, and the benchmark of the store.

pub mod bench;
pub mod database;
