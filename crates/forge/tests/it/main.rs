//! Git operations on real repositories, with every git that is installed.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

mod fixture;

mod branches;
mod cost;
mod hostile;
mod mirror;
mod replay;
mod trees;
mod worktrees;
