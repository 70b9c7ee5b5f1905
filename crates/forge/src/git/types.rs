//! Names, addresses and paths that came from somebody else, parsed once and harmless afterwards.
//!
//! A value of one of these types never starts with `-`, never contains a control character, and means the same to
//! git as it does to us. Foreign ref names that do not fit are shown to people and used by object id only.

mod object_id;
mod refs;
mod repo_path;
mod url;

pub use object_id::{ObjectId, ObjectIdError};
pub use refs::{BranchName, NameError, RefName};
pub use repo_path::{PathError, RepoPath};
pub use url::{GitUrl, Scheme, UrlError};

#[cfg(test)]
mod tests;
