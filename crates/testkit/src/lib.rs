//! What tests and measurements share: databases of their own, a proxy that cuts connections to them, the benchmark of the
//! store, the kill harness, the scripted model server.

pub mod random;
pub mod database;
pub mod cutting_proxy;
pub mod bench;
pub mod kill;
pub mod models;
