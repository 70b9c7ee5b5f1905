//! The repository a project came from and goes back to, seen from outside.

use super::call::{Call, Reach, other_end};
use super::error::GitError;
use super::local::LocalRepo;
use super::mirror::ObjectFormat;
use super::program::Git;
use super::types::{BranchName, GitUrl, ObjectId, RefName};
use std::ffi::OsString;
use std::path::Path;

/// Where a project's repository is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remote {
    Local(LocalRepo),
    Url(GitUrl),
}

/// What a remote answers before anything is fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteRefs {
    /// The branch that its HEAD names, if there is one and we can name it too.
    pub head: Option<BranchName>,
    pub heads: Vec<RemoteHead>,
    /// Unknown while the repository is empty.
    pub format: Option<ObjectFormat>,
}

/// A branch of a remote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteHead {
    /// Absent when the name is outside our grammar: then it is only shown.
    pub branch: Option<BranchName>,
    /// The name as it can be shown to people.
    pub shown: String,
    pub tip: ObjectId,
}

impl Remote {
    pub(super) fn reach(&self) -> Reach {
        match self {
            Self::Local(_) => Reach::LocalRepository,
            Self::Url(_) => Reach::Network,
        }
    }

    /// What git is told as the repository: an absolute path, or an address with a scheme.
    pub(super) fn argument(&self) -> OsString {
        match self {
            Self::Local(repo) => repo.git_dir().as_os_str().to_owned(),
            Self::Url(url) => OsString::from(url.as_str()),
        }
    }

    /// The option that starts the reading end of a repository on this machine with its own settings overruled.
    pub(super) fn upload_pack(&self, git: &Git) -> Option<OsString> {
        self.other_end(git.program(), "--upload-pack=", "upload-pack --strict")
    }

    /// The same for the writing end.
    pub(super) fn receive_pack(&self, git: &Git) -> Option<OsString> {
        self.other_end(git.program(), "--receive-pack=", "receive-pack")
    }

    fn other_end(&self, program: &Path, option: &str, service: &str) -> Option<OsString> {
        match self {
            Self::Local(_) => {
                let mut text = OsString::from(option);
                text.push(other_end(program, service));
                Some(text)
            }
            Self::Url(_) => None,
        }
    }
}

impl Git {
    /// Asks a remote for its branches and which of them is its default.
    pub async fn remote_refs(&self, remote: &Remote) -> Result<RemoteRefs, GitError> {
        let call = Call::new("ls-remote")
            .arg("--symref")
            .reach(remote.reach())
            .args(remote.upload_pack(self))
            .arg("--end-of-options")
            .arg(remote.argument())
            .args(["HEAD", "refs/heads/*"]);
        let answer = self.run(call).await?.succeeded()?;
        let mut refs = RemoteRefs { head: None, heads: Vec::new(), format: None };
        for line in answer.stdout.split(|&b| b == b'\n').filter(|line| !line.is_empty()) {
            let mut halves = line.splitn(2, |&b| b == b'\t');
            let (Some(value), Some(name)) = (halves.next(), halves.next()) else { return Err(answer.unexpected(line)) };
            if let Some(target) = value.strip_prefix(b"ref: refs/heads/") {
                if name == b"HEAD" {
                    refs.head = branch(target);
                }
            } else if let Some(name) = name.strip_prefix(b"refs/heads/") {
                let tip = object_id(value).ok_or_else(|| answer.unexpected(line))?;
                refs.format = Some(ObjectFormat::of(&tip));
                refs.heads.push(RemoteHead { branch: branch(name), shown: host::text::one_line(name, 200), tip });
            }
        }
        Ok(refs)
    }

    /// Asks a remote where one ref is.
    pub(super) async fn remote_ref(&self, remote: &Remote, name: &RefName) -> Result<Option<ObjectId>, GitError> {
        let call = Call::new("ls-remote")
            .reach(remote.reach())
            .args(remote.upload_pack(self))
            .arg("--end-of-options")
            .arg(remote.argument())
            .arg(name.as_str());
        let answer = self.run(call).await?.succeeded()?;
        for line in answer.stdout.split(|&b| b == b'\n') {
            // A pattern also matches refs that end the same way, such as `refs/x/refs/heads/main`.
            if let Some(value) = line.strip_suffix(format!("\t{name}").as_bytes()) {
                return object_id(value).map(Some).ok_or_else(|| answer.unexpected(line));
            }
        }
        Ok(None)
    }
}

fn branch(name: &[u8]) -> Option<BranchName> {
    BranchName::parse(std::str::from_utf8(name).ok()?).ok()
}

fn object_id(text: &[u8]) -> Option<ObjectId> {
    ObjectId::parse(std::str::from_utf8(text).ok()?).ok()
}
