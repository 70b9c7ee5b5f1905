//! A model server that answers from a script, so that the real agent programs run without a network and the same way
//! every time.
//!
//! [`ModelServer`] listens on loopback and speaks four [`Dialect`]s; a [`Scenario`] says in rules what it answers, and
//! [`Seen`] is what was asked. It judges nothing: keys are not checked, prompts are not understood. Start reading at
//! [`Scenario`].

mod answer;
mod asked;
mod dialect;
mod gate;
mod pattern;
mod record;
mod reply;
mod rule;
mod scenario;
mod server;
mod tools;

pub use asked::{Asked, Tool};
pub use dialect::Dialect;
pub use gate::Gate;
pub use record::Seen;
pub use reply::Reply;
pub use rule::{Failure, Rule, Usage, When};
pub use scenario::{Scenario, ScenarioError};
pub use server::{ModelServer, Unreachable};
