//! What holds for the code as a whole and no compiler checks: who imports whom, where a call may stand, which
//! licences come in. Everything here runs as a test, so `cargo test` is enough to keep it true.

mod beside;
mod dependencies;
mod failpoints;
mod imports;
mod licence;
mod migrations;
mod sizes;
mod sources;
mod tree;
