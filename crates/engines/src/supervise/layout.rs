//! What a tree in a sandbox sees of the file system: a list of places, worked out once and carried out by whichever
//! means there is.

use crate::exit::{LaunchFailure, LaunchFailureKind};
use crate::sandbox::{Profile, Sandbox};
use std::path::{Path, PathBuf};

/// The parts of the system that every profile may read and run.
pub(super) const SYSTEM: [&str; 8] = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store"];

/// What programs look up about the system; nothing of it is secret.
pub(super) const LOOKED_UP: [&str; 18] = [
    "/etc/alternatives",
    "/etc/ca-certificates",
    "/etc/crypto-policies",
    "/etc/debian_version",
    "/etc/fonts",
    "/etc/host.conf",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/localtime",
    "/etc/magic",
    "/etc/mime.types",
    "/etc/nsswitch.conf",
    "/etc/os-release",
    "/etc/pki",
    "/etc/protocols",
    "/etc/services",
    "/etc/ssl",
];

/// What root could otherwise change for the whole machine.
pub(super) const OF_THE_MACHINE: [&str; 4] = ["/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus"];

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum What {
    /// Nothing at first; what is put there is gone with the tree.
    Empty,
    Readable {
        source: PathBuf,
    },
    Writable {
        source: PathBuf,
    },
    /// An empty directory that stays empty.
    MaskedDirectory,
    /// An empty file that stays empty.
    MaskedFile,
}

/// A list of places, the higher ones first.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) places: Vec<(PathBuf, What)>,
    pub(super) worktree: PathBuf,
}

impl Layout {
    /// Works out what a tree sees whose worktree is `cwd` and whose program is `program`.
    pub(super) fn of(sandbox: &Sandbox, cwd: &Path, program: &Path) -> Result<Self, LaunchFailure> {
        let worktree = existing(cwd)?;
        let mut layout = Self { places: Vec::new(), worktree: worktree.clone() };
        for path in &sandbox.hidden {
            // What is not there cannot be seen; it may be a file that nobody has written yet.
            if let Ok(path) = host::fs::canonicalize(path)
                && host::fs::is_dir(&path)
            {
                layout.put(path, What::Empty);
            }
        }
        for path in &sandbox.readable {
            if let Ok(source) = host::fs::canonicalize(path) {
                layout.show(sandbox, path, |source| What::Readable { source }, source);
            }
        }
        for path in &sandbox.writable {
            layout.show(sandbox, path, |source| What::Writable { source }, existing(path)?);
        }
        let home = existing(&sandbox.home)?;
        layout.show(sandbox, &sandbox.home, |source| What::Writable { source }, home);
        let write = sandbox.profile != Profile::ReadOnly;
        let what = |source| if write { What::Writable { source } } else { What::Readable { source } };
        layout.show(sandbox, cwd, what, worktree.clone());
        if let Ok(source) = host::fs::canonicalize(program)
            && !layout.is_seen(sandbox, &source)
        {
            layout.show(sandbox, program, |source| What::Readable { source }, source);
        }
        layout.mask(sandbox, &worktree)?;
        layout.places.sort_by_key(|(path, _)| path.components().count());
        Ok(layout)
    }

    fn put(&mut self, path: PathBuf, what: What) {
        self.places.retain(|(known, _)| *known != path);
        self.places.push((path, what));
    }

    /// Shows something where it really is and, when a link was named, under that name too.
    fn show(&mut self, sandbox: &Sandbox, named: &Path, what: impl Fn(PathBuf) -> What, source: PathBuf) {
        if named != source && sandbox.profile != Profile::Full {
            self.put(named.to_owned(), what(source.clone()));
        }
        self.put(source.clone(), what(source));
    }

    fn is_seen(&self, sandbox: &Sandbox, path: &Path) -> bool {
        let beneath = |what: &What| matches!(what, What::Readable { .. } | What::Writable { .. });
        let deepest = self.places.iter().filter(|(place, _)| path.starts_with(place));
        match deepest.max_by_key(|(place, _)| place.components().count()) {
            Some((_, what)) => beneath(what),
            None => sandbox.profile == Profile::Full || SYSTEM.iter().any(|system| path.starts_with(system)),
        }
    }

    /// Covers what agents and git would take instructions from, whether it is there or not.
    fn mask(&mut self, sandbox: &Sandbox, worktree: &Path) -> Result<(), LaunchFailure> {
        for name in &sandbox.masked {
            let path = worktree.join(name);
            if name.is_empty() || name.contains('/') || name == ".." || name == "." {
                return Err(unavailable(format!("{name} is not a name that can be masked")));
            }
            if host::fs::is_link(&path) {
                // A link cannot be covered, only followed; one that leads nowhere else is harmless text.
                if crate::sandbox::INSTRUCTIONS.contains(&name.as_str()) {
                    continue;
                }
                return Err(unavailable(format!(
                    "{name} in the worktree is a symbolic link, which cannot be kept from the tree: remove it from the \
                     repository"
                )));
            }
            let is_file = host::fs::exists(&path) && !host::fs::is_dir(&path);
            self.put(path, if is_file { What::MaskedFile } else { What::MaskedDirectory });
        }
        Ok(())
    }
}

fn existing(path: &Path) -> Result<PathBuf, LaunchFailure> {
    host::fs::canonicalize(path).map_err(|error| LaunchFailure {
        kind: LaunchFailureKind::DirectoryNotFound,
        message: format!("{} cannot be shown in the sandbox: {error}", path.display()),
    })
}

pub(super) fn unavailable(message: impl Into<String>) -> LaunchFailure {
    LaunchFailure { kind: LaunchFailureKind::SandboxUnavailable, message: message.into() }
}

#[cfg(test)]
mod tests;
