//! Git, driven from outside of everything an agent can write.
//!
//! A project has one bare [`Mirror`] of ours; an attempt works in a [`Worktree`] that holds no git directory at all.
//! Branches move only by compare-and-swap of object ids. Names, addresses and paths are parsed types ([`types`]), so
//! that none of them can be taken for an option, a command or a way out of its root. No git process is started
//! anywhere but in `call`.

pub mod conventions;
pub mod types;

mod branch;
mod call;
mod commit;
mod diff;
mod error;
mod local;
mod mirror;
mod nested;
mod program;
mod remote;
mod replay;
mod tree;
mod version;
mod worktree;

pub use branch::{Advance, Kept};
pub use commit::{CommitInfo, CommitInfoError, Person};
pub use diff::{Change, ChangeKind, Diff};
pub use error::GitError;
pub use local::{LocalPolicy, LocalRepo};
pub use mirror::{Mirror, ObjectFormat};
pub use program::{Git, GitConfig, Limits};
pub use remote::{Remote, RemoteHead, RemoteRefs};
pub use replay::Replay;
pub use tree::{TreeEntry, TreeKind};
pub use version::{MINIMUM, Version};
pub use worktree::{Snapshot, Worktree};
