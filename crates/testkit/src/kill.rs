//! The kill harness: the real binary, killed with SIGKILL at random moments under load, and its ledger checked after
//! each death.
//!
//! A *campaign* is one data directory (and one PostgreSQL database) through many cycles: start, load, kill, check. At its
//! end everything must drain to a final state, the process must stop when it is told to, and nothing may be left running.
//! What was acknowledged is known from the client's side of HTTP, what was executed from marks that the jobs leave in a
//! file, so that neither rests on the ledger that is under test.
//!
//! A check that finds nothing proves nothing unless it can find something. The *controls* therefore run the same load, the
//! same kills and the same checks against [`drill`]: a little node over the same store and the same rules, in a process of
//! its own, that is either sound or has exactly one fault: it answers before COMMIT, it stores the effect in a second
//! commit, or its writes pass without their fence. They are built here, not into the product, so that the product holds
//! no code that could break its promises. The sound drill must pass and each fault must be caught, as what it is.
//!
//! Start at [`run`].

pub mod run;
pub mod options;
pub mod place;
pub mod node;
pub mod http;
pub mod journal;
pub mod load;
pub mod marks;
pub mod processes;
pub mod timeline;
pub mod ledger;
pub mod campaign;
pub mod drain;
pub mod drill;
