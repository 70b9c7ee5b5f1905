//! What Pilothouse knows about forges: git itself, and later change requests, checks and webhook payloads.
//!
//! It decides nothing. Every function does one thing to a repository or a forge and says exactly what happened.
//! Start with [`git::Mirror`].

pub mod git;
