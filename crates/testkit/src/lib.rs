//! What tests and measurements share: databases of their own, a proxy that cuts connections to them, the benchmark of the
//! store, the scripted model server and the real agents that talk to it, and inputs that hurt parsers.

pub mod random;
pub mod fuzz;
pub mod database;
pub mod cutting_proxy;
pub mod bench;
pub mod models;
pub mod agents;
