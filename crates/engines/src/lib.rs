//! Starts, watches, meters, stops and resumes what does the work: engines, checks and jobs.
//!
//! [`supervise`] is the process that holds one attempt's tree and outlives its worker; [`supervisor`] is the worker's
//! side of it; [`engine`] says what an engine is asked and what it answers, and each adapter has a module of its own. No
//! rules of the product are here: what an ending means for a step or a run is decided elsewhere.

pub mod engine;
pub mod exit;
mod protocol;
pub mod sandbox;
pub mod scripted;
pub mod acp;
pub mod claude;
mod codemachine;
pub mod codex;
mod gemini;
mod opencode;
mod shell;
pub mod broker;
mod talk;
pub mod registry;
pub mod runs;
pub mod spec;
pub mod spool;
pub mod supervise;
pub mod supervisor;
pub mod survey;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzzed;
#[cfg(test)]
mod fuzz;

pub use engine::{Engine, EngineError, EngineEvent, EngineRequest};
pub use exit::{Exit, Outcome};
pub use host::contain::Containment;
pub use sandbox::{Network, Profile, Sandbox};
pub use supervisor::{Adopted, Launch, Supervised};
