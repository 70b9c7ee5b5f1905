//! A layout carried out without bubblewrap: namespaces and mounts of our own, with Landlock for what may be read and
//! written.

use super::layout::{LOOKED_UP, Layout, OF_THE_MACHINE, SYSTEM, What};
use crate::sandbox::{Network, Profile, Sandbox};
use host::contain::{Cover, Walls};
use std::path::{Path, PathBuf};

/// Directories that anybody may leave things in, sockets above all.
const SHARED: [&str; 3] = ["/run", "/tmp", "/var/tmp"];
const TERMINALS: &str = "/dev/pts";
const DEVICES: [&str; 6] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"];

/// The mounts to make, the higher ones first.
pub(super) fn covers(sandbox: &Sandbox, layout: &Layout) -> Vec<Cover> {
    let mut covers: Vec<(PathBuf, Cover)> = Vec::new();
    let mut empty = |path: &str| covers.push((path.into(), Cover::Empty(path.into())));
    // Disks and the like belong to root, with or without capabilities; so do the control groups below /sys.
    empty("/dev");
    empty("/sys");
    for path in DEVICES.map(PathBuf::from) {
        covers.push((path.clone(), Cover::Show(path)));
    }
    for (name, fd) in [("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")] {
        let (path, target) = (Path::new("/dev").join(name), format!("/proc/self/fd{fd}").into());
        covers.push((path.clone(), Cover::Link { path, target }));
    }
    // Some agents run each command of theirs in a terminal.
    covers.push((TERMINALS.into(), Cover::Terminals(TERMINALS.into())));
    covers.push(("/dev/ptmx".into(), Cover::Link { path: "/dev/ptmx".into(), target: "pts/ptmx".into() }));
    for path in OF_THE_MACHINE.map(PathBuf::from) {
        covers.push((path.clone(), Cover::ReadOnly(path)));
    }
    covers.push(("/dev/shm".into(), Cover::Empty("/dev/shm".into())));
    if sandbox.profile != Profile::Full {
        for path in elsewhere() {
            covers.push((path.clone(), Cover::Empty(path)));
        }
        for path in SHARED.map(Path::new) {
            if !host::fs::is_link(path) {
                covers.push((path.to_owned(), Cover::Empty(path.to_owned())));
            }
        }
    }
    for (path, what) in &layout.places {
        let cover = match what {
            What::Empty => Cover::Empty(path.clone()),
            // Another name for what is shown where it is; the link itself is still there.
            What::Readable { source } | What::Writable { source } if source != path => continue,
            What::Readable { .. } => Cover::ShowReadOnly(path.clone()),
            What::Writable { .. } => Cover::Show(path.clone()),
            What::MaskedDirectory => Cover::MaskDirectory(path.clone()),
            What::MaskedFile => Cover::MaskFile(path.clone()),
        };
        covers.push((path.clone(), cover));
    }
    covers.sort_by_key(|(path, _)| path.components().count());
    covers.into_iter().map(|(_, cover)| cover).collect()
}

/// The directories of the root that hold nothing of the system: Landlock keeps files from being opened, but it does not
/// hide their names, nor sockets.
fn elsewhere() -> impl Iterator<Item = PathBuf> {
    let names = host::fs::list_names(Path::new("/")).unwrap_or_default();
    let paths = names.into_iter().map(|name| Path::new("/").join(name));
    paths.filter(|path| {
        let known = ["/etc", "/proc", "/dev", "/sys", "/run", "/tmp", "/nix"].iter().chain(&SYSTEM);
        host::fs::is_dir(path) && !host::fs::is_link(path) && !known.map(Path::new).any(|known| known == path)
    })
}

/// What may be read and written; `None` for everything that is seen.
pub(super) fn walls(sandbox: &Sandbox, layout: &Layout) -> Option<Walls> {
    if sandbox.profile == Profile::Full {
        return None;
    }
    let mut walls = Walls::default();
    walls.readable.extend(SYSTEM.iter().chain(&LOOKED_UP).map(PathBuf::from));
    walls.readable.extend(["/etc/passwd", "/etc/group", "/etc/hosts", "/proc"].map(PathBuf::from));
    if sandbox.network == Network::Open {
        walls.readable.extend(host::fs::canonicalize(Path::new("/etc/resolv.conf")));
    }
    walls.readable.push("/dev".into());
    walls.writable.extend(DEVICES.iter().chain(&SHARED).chain(&["/dev/shm", TERMINALS]).map(PathBuf::from));
    for (path, what) in &layout.places {
        match what {
            // Rights count for all beneath, also for what is shown there again.
            What::Empty | What::MaskedDirectory | What::MaskedFile => {}
            What::Readable { .. } => walls.readable.push(path.clone()),
            What::Writable { .. } => walls.writable.push(path.clone()),
        }
    }
    Some(walls)
}
