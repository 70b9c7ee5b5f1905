//! How fast the store is, as ratios to limits measured in the same run.
//!
//! An operation is a whole decision: a dedup row, a versioned update of a run, two events, a task and a message, durable
//! before its caller goes on. Every row runs interleaved with its limit in several rounds, because machines drift; the
//! medians are compared. What is asked of each row stands in [`rows`].

pub mod rows;
pub mod operation;
pub mod load;
pub mod start;
pub mod backlog;
pub mod raw;
pub mod pgbench;
pub mod fixture;
pub mod report;
pub mod series;
pub mod command;
pub mod node;
pub mod repository;
pub mod machine;
pub mod http;
pub mod run;
