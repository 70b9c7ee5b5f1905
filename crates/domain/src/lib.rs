//! The rules of Pilothouse, without I/O.
//!
//! Types, state machines and `decide`: what a command does to a subject, given the state, the command and a context
//! that carries the time and the ids. Nothing here reads a clock, draws a number or touches a file. Start at
//! [`commit`], the value every decision becomes, then read [`run`] as the smallest complete machine.

pub mod time;
pub mod ids;
pub mod actor;
pub mod commit;
pub mod decision;
pub mod task;
pub mod message;
pub mod person;
pub mod gate;
pub mod attempt;
pub mod run;
pub mod aggregate;
pub mod token;
pub mod current_catalog;
pub mod digest;
pub mod reference;
pub mod text;
pub mod grammar;
pub mod catalog;
pub mod spec;
pub mod planning;
pub mod project;
pub mod step;
pub mod protocol;
pub mod review;
