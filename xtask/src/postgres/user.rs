//! The account a server runs under. PostgreSQL refuses to run as root, so root picks somebody who can do less.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct User {
    uid: u32,
    gid: u32,
}

impl User {
    /// Nobody else when we are not root: the server then runs as we do.
    pub(super) fn pick() -> Result<Option<User>> {
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        let accounts = std::fs::read_to_string("/etc/passwd").context("cannot read /etc/passwd")?;
        // initdb looks its own account up by number, so the account must have a name.
        let user = ["postgres", "nobody"].iter().find_map(|name| User::parse(&accounts, name));
        user.map(Some).context("PostgreSQL does not run as root and there is no account `postgres` or `nobody`")
    }

    fn parse(accounts: &str, name: &str) -> Option<User> {
        let line = accounts.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2);
        // macOS writes the number of `nobody` as -2.
        let mut number = || {
            let written = fields.next()?;
            written.parse().ok().or_else(|| written.parse().ok().map(i32::cast_unsigned))
        };
        let user = User { uid: number()?, gid: number()? };
        (user.uid != 0).then_some(user)
    }

    /// Makes a command run as this user, without any of our groups.
    pub(super) fn run(self, command: &mut Command) {
        command.uid(self.uid).gid(self.gid);
    }

    pub(super) fn own(self, path: &Path) -> Result<()> {
        std::os::unix::fs::chown(path, Some(self.uid), Some(self.gid))
            .with_context(|| format!("cannot give {} away", path.display()))
    }

    /// Whether this user may pass through every directory on the way to a path, and through the path itself.
    pub(super) fn can_enter(self, path: &Path) -> bool {
        path.ancestors().all(|directory| {
            directory.metadata().is_ok_and(|facts| {
                let mode = facts.permissions().mode();
                let bit = match (facts.uid() == self.uid, facts.gid() == self.gid) {
                    (true, _) => 0o100,
                    (false, true) => 0o010,
                    (false, false) => 0o001,
                };
                mode & bit != 0
            })
        })
    }
}

#[cfg(test)]
mod tests;
