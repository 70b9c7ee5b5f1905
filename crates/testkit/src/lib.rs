//! What tests and measurements share: databases of their own, the benchmark of the store, the kill harness.

pub mod bench;
pub mod database;
pub mod kill;
