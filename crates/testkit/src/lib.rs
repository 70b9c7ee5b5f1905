//! What tests and measurements share: databases of their own, the benchmark of the store, the kill harness.

pub mod random;
pub mod database;
pub mod bench;
pub mod kill;
