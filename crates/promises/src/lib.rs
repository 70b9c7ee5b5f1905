//! What every parser of what strangers send promises, whatever it is given: no panic, and what stands here.
//!
//! Each function takes one input and panics when a promise is broken. The inputs come from a seed in the tests of
//! `testkit`, and from what the compiled code does with them in the targets of `fuzz/`. It is a crate of its own so that
//! those build without servers and databases. The readers of what engines say are in `engines::fuzzed`.

pub mod bodies;
pub mod names;
pub mod written;
