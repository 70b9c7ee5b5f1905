//! A layout turned into bubblewrap's arguments.
//!
//! They are handed over in a file without a name, so that nobody inside can read them from a command line; the
//! environment that bubblewrap itself gets is empty, because its first process shows it.

use super::layout::{LOOKED_UP, Layout, OF_THE_MACHINE, SYSTEM, What};
use crate::sandbox::{Network, Profile, Sandbox};
use host::contain;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// Arguments, and the files they mean by number; those stay open until bubblewrap has started.
pub(super) struct Arguments {
    pub(super) argv: Vec<String>,
    _files: Vec<File>,
}

/// What bubblewrap is to start inside, and where it is to tell that process's id.
pub(super) struct Inside {
    pub(super) program: File,
    pub(super) argv: Vec<String>,
    pub(super) info: std::os::fd::OwnedFd,
}

struct Builder {
    words: Vec<u8>,
    files: Vec<File>,
}

/// The command line for one tree. `inside` has to stay open until bubblewrap was started.
pub(super) fn arguments(sandbox: &Sandbox, layout: &Layout, inside: &Inside) -> io::Result<Arguments> {
    let mut builder = Builder { words: Vec::new(), files: Vec::new() };
    builder.namespaces(sandbox, inside);
    match sandbox.profile {
        Profile::ReadOnly | Profile::Workspace => builder.narrow_root(sandbox)?,
        Profile::Full => builder.whole_root(),
    }
    // Root may write there whatever its capabilities are.
    for path in OF_THE_MACHINE.map(Path::new) {
        builder.bind("--ro-bind-try", path, path);
    }
    builder.places(layout);
    builder.path("--chdir", &layout.worktree);
    let arguments = contain::inherited_file(&builder.words)?;
    let mut argv = vec!["bwrap".to_owned(), "--args".to_owned(), arguments.as_raw_fd().to_string(), "--".to_owned()];
    argv.push(format!("/proc/self/fd/{}", inside.program.as_raw_fd()));
    argv.extend(inside.argv.iter().cloned());
    builder.files.push(arguments);
    Ok(Arguments { argv, _files: builder.files })
}

impl Builder {
    fn word(&mut self, word: &[u8]) {
        self.words.extend_from_slice(word);
        self.words.push(0);
    }

    fn words(&mut self, words: &[&str]) {
        words.iter().for_each(|word| self.word(word.as_bytes()));
    }

    fn path(&mut self, option: &str, path: &Path) {
        self.words(&[option]);
        self.word(path.as_os_str().as_encoded_bytes());
    }

    fn bind(&mut self, option: &str, source: &Path, at: &Path) {
        self.path(option, source);
        self.word(at.as_os_str().as_encoded_bytes());
    }

    fn namespaces(&mut self, sandbox: &Sandbox, inside: &Inside) {
        self.words(&["--unshare-user-try", "--unshare-ipc", "--unshare-pid", "--unshare-uts", "--unshare-cgroup-try"]);
        if sandbox.network != Network::Open {
            self.words(&["--unshare-net"]);
        }
        self.words(&["--die-with-parent", "--new-session", "--as-pid-1", "--cap-drop", "ALL"]);
        self.words(&["--hostname", "sandbox", "--info-fd", &inside.info.as_raw_fd().to_string()]);
    }

    /// Programs and what they look up, nothing of anybody.
    fn narrow_root(&mut self, sandbox: &Sandbox) -> io::Result<()> {
        for path in SYSTEM.map(Path::new) {
            match host::fs::read_link(path) {
                Some(target) => self.bind("--symlink", &target, path),
                None => self.bind("--ro-bind-try", path, path),
            }
        }
        for path in LOOKED_UP.map(Path::new) {
            self.bind("--ro-bind-try", path, path);
        }
        let uid = host::process::effective_uid();
        let gid = host::process::effective_gid();
        let home = sandbox.home.display();
        let passwd = format!("agent:x:{uid}:{gid}:agent:{home}:/bin/sh\n");
        let root = if uid == 0 { "" } else { "root:x:0:0:root:/nonexistent:/bin/false\n" };
        let nobody = "nobody:x:65534:65534:nobody:/nonexistent:/bin/false\n";
        self.file("/etc/passwd", &format!("{root}{passwd}{nobody}"))?;
        self.file("/etc/group", &format!("agent:x:{gid}:\nnogroup:x:65534:\n"))?;
        self.file("/etc/hosts", "127.0.0.1 localhost sandbox\n::1 localhost\n")?;
        if sandbox.network == Network::Open {
            // Often a link into /run, which is not there inside.
            if let Ok(resolver) = host::fs::canonicalize(Path::new("/etc/resolv.conf")) {
                self.bind("--ro-bind", &resolver, Path::new("/etc/resolv.conf"));
            }
        }
        self.words(&["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--tmpfs", "/run", "--dir", "/var/tmp"]);
        Ok(())
    }

    /// Everything there is, with processes and devices of its own.
    fn whole_root(&mut self) {
        // Disks belong to root, with or without capabilities; so do the control groups below /sys.
        self.words(&["--bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--tmpfs", "/sys"]);
    }

    fn places(&mut self, layout: &Layout) {
        let mut closed_later: Vec<PathBuf> = Vec::new();
        for (path, what) in &layout.places {
            match what {
                What::Empty => self.path("--tmpfs", path),
                // Masks inside it need a place to lie on: it is closed when they do.
                What::Readable { source } if *path == layout.worktree => {
                    self.bind("--bind", source, path);
                    closed_later.push(path.clone());
                }
                What::Readable { source } => self.bind("--ro-bind", source, path),
                What::Writable { source } => self.bind("--bind", source, path),
                What::MaskedDirectory => {
                    self.path("--tmpfs", path);
                    self.path("--remount-ro", path);
                }
                What::MaskedFile => self.bind("--ro-bind", Path::new("/dev/null"), path),
            }
        }
        closed_later.iter().for_each(|path| self.path("--remount-ro", path));
    }

    fn file(&mut self, at: &str, content: &str) -> io::Result<()> {
        let file = contain::inherited_file(content.as_bytes())?;
        self.words(&["--ro-bind-data", &file.as_raw_fd().to_string(), at]);
        self.files.push(file);
        Ok(())
    }
}
