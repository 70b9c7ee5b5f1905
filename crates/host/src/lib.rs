//! The one door each to the machine: clock, randomness, environment, processes, files, hostile text.
//!
//! Everything that the compiler cannot check, and every call that `clippy.toml` reserves, lives here with its reason.
//! It holds no rules of the product. Start with [`process`] for children and [`fs`] for files.
#![expect(clippy::disallowed_methods, reason = "this crate is the door that the disallowed calls are reserved for")]

pub mod clock;
pub mod contain;
pub mod env;
pub mod failpoint;
pub mod fs;
pub mod hash;
pub mod net;
pub mod outgoing;
pub mod path;
pub mod process;
pub mod random;
pub mod redact;
pub mod signature;
pub mod task;
pub mod text;
pub mod trace;
