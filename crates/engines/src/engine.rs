//! What an engine is asked, what it answers, and which engines there are.
//!
//! An engine is a program. Its adapter turns a request into what is to be started and the lines it prints into events;
//! the supervisor does the rest. The set of adapters is closed: an engine that is not in it, and not an ACP agent that
//! the configuration names, is unavailable and never passes anything. Start at [`EngineRequest`] and [`Transcript`].

mod answer;
mod class;
mod event;
mod json;
mod kind;
mod mcp;
mod meter;
mod prepared;
mod request;
mod session_file;
mod table;
mod transcript;
#[cfg(test)]
mod tests;

pub use class::{ErrorClass, Next, Reset};
pub use event::{
    Asked, EngineEvent, EngineOutcome, FileChange, Finished, Permission, Permissions, RateLimit, Usage, Wanted,
};
pub use kind::{Capabilities, Engine, find};
pub use mcp::{McpOffer, McpServer, Transport};
pub use prepared::{Prepared, PreparedFile};
pub use request::{Endpoint, EngineError, EngineRequest, Key, Phase, Session, Settings, Subject};
pub use table::{Ask, Configured, EngineTable};
pub use transcript::{ParseState, Transcript};

pub use crate::talk::answers::{Answer, Asking};

pub(crate) use answer::{answer_in, asked_to_answer};
pub(crate) use json::{Fields, text_of};
pub(crate) use mcp::{headers, variables};
pub(crate) use meter::Meter;
pub(crate) use request::utf8;
pub(crate) use session_file::SessionFiles;
