//! What a process sees of the file system, changed by mounts of its own.
//!
//! For the first process of a namespace that has its mounts to itself, before it gives up its rights.

use std::io;
use std::path::{Path, PathBuf};

/// One change to what is seen. They are made in order, so what lies deeper comes later.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cover {
    /// A directory is empty, and can be filled for as long as the namespace lives.
    Empty(PathBuf),
    /// What lies at this path is seen again, though a directory above it was emptied.
    Show(PathBuf),
    /// The same, and nothing beneath it can be changed.
    ShowReadOnly(PathBuf),
    /// What is here can be read, and not written.
    ReadOnly(PathBuf),
    /// A directory of terminals that belong to this namespace alone, as `/dev/pts` is.
    Terminals(PathBuf),
    /// There is a link here.
    Link { path: PathBuf, target: PathBuf },
    /// There is an empty directory here, and nothing can be put into it.
    MaskDirectory(PathBuf),
    /// There is an empty file here that cannot be written.
    MaskFile(PathBuf),
}

/// Makes the changes.
#[cfg(target_os = "linux")]
pub fn cover(covers: &[Cover]) -> io::Result<()> {
    use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};
    let named = |path: &Path, error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    // What is to be seen again is held before anything is covered.
    let mut held = Vec::new();
    for change in covers {
        if let Cover::Show(path) | Cover::ShowReadOnly(path) = change {
            let flags = OpenTreeFlags::OPEN_TREE_CLONE
                | OpenTreeFlags::OPEN_TREE_CLOEXEC
                | OpenTreeFlags::AT_RECURSIVE
                | OpenTreeFlags::AT_SYMLINK_NOFOLLOW;
            let tree = open_tree(rustix::fs::CWD, path, flags).map_err(|error| named(path, error.into()))?;
            held.push((path, tree));
        }
    }
    let mut held = held.into_iter();
    for change in covers {
        match change {
            Cover::Empty(path) => {
                make_place(path, true).and_then(|()| empty(path)).map_err(|error| named(path, error))?;
            }
            Cover::ReadOnly(path) => read_only(path).map_err(|error| named(path, error))?,
            Cover::Terminals(path) => {
                make_place(path, true).and_then(|()| terminals(path)).map_err(|error| named(path, error))?;
            }
            Cover::Link { path, target } => {
                std::os::unix::fs::symlink(target, path).map_err(|error| named(path, error))?;
            }
            Cover::Show(_) | Cover::ShowReadOnly(_) => {
                let Some((path, tree)) = held.next() else { continue };
                let is_dir = rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(&tree)?.st_mode).is_dir();
                make_place(path, is_dir).map_err(|error| named(path, error))?;
                move_mount(&tree, c"", rustix::fs::CWD, path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
                    .map_err(|error| named(path, error.into()))?;
            }
            Cover::MaskDirectory(path) => {
                make_place(path, true).map_err(|error| named(path, error))?;
                mask(path).map_err(|error| named(path, error))?;
            }
            Cover::MaskFile(path) => {
                rustix::mount::mount_bind(c"/dev/null", path).map_err(|error| named(path, error.into()))?;
            }
        }
    }
    // Last, because what lies deeper had to be put there; in the same order, so that the deepest word counts.
    let mut closed: Vec<&Path> = Vec::new();
    for change in covers {
        match change {
            Cover::ShowReadOnly(path) => {
                set_read_only(path, true).map_err(|error| named(path, error))?;
                closed.push(path);
            }
            Cover::Show(path) | Cover::Empty(path) if closed.iter().any(|above| path.starts_with(above)) => {
                match set_read_only(path, false) {
                    // It was read-only before we came, and nobody here may change that.
                    Err(error) if error.raw_os_error() == Some(libc::EPERM) => {}
                    other => other.map_err(|error| named(path, error))?,
                }
            }
            Cover::Show(_)
            | Cover::Empty(_)
            | Cover::ReadOnly(_)
            | Cover::Terminals(_)
            | Cover::Link { .. }
            | Cover::MaskDirectory(_)
            | Cover::MaskFile(_) => {}
        }
    }
    Ok(())
}

/// Makes a mount and all below it read-only, whatever else its flags are; or that mount alone writable again.
#[cfg(target_os = "linux")]
fn set_read_only(path: &Path, closed: bool) -> io::Result<()> {
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::CString::new(path.as_os_str().as_bytes())?;
    let (attr_set, attr_clr, reach) = match closed {
        true => (libc::MOUNT_ATTR_RDONLY, 0, libc::AT_RECURSIVE),
        false => (0, libc::MOUNT_ATTR_RDONLY, 0),
    };
    let attributes = libc::mount_attr { attr_set, attr_clr, propagation: 0, userns_fd: 0 };
    // SAFETY: the path and the attributes live until the call returns, and the size given is theirs.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            reach,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(target_os = "linux")]
fn empty(path: &Path) -> io::Result<()> {
    use rustix::mount::{MountFlags, mount};
    let mode = if matches!(path.to_str(), Some("/tmp" | "/var/tmp" | "/dev/shm")) { c"mode=1777" } else { c"mode=755" };
    Ok(mount(c"tmpfs", path, c"tmpfs", MountFlags::NOSUID | MountFlags::NODEV, mode)?)
}

/// Its `ptmx` is for everybody here, and none of the machine's terminals is among them.
#[cfg(target_os = "linux")]
fn terminals(path: &Path) -> io::Result<()> {
    use rustix::mount::{MountFlags, mount};
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
    Ok(mount(c"devpts", path, c"devpts", flags, c"newinstance,ptmxmode=0666,mode=620")?)
}

/// For files of a `/proc` of our own, whose flags we know: a mount may lose none of them.
#[cfg(target_os = "linux")]
fn read_only(path: &Path) -> io::Result<()> {
    use rustix::mount::{MountFlags, mount_bind, mount_remount};
    if path.symlink_metadata().is_err() {
        return Ok(());
    }
    mount_bind(path, path)?;
    let flags = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    Ok(mount_remount(path, flags, c"")?)
}

#[cfg(target_os = "linux")]
fn mask(path: &Path) -> io::Result<()> {
    use rustix::mount::{MountFlags, mount, mount_remount};
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount(c"tmpfs", path, c"tmpfs", flags, c"mode=555")?;
    Ok(mount_remount(path, flags | MountFlags::RDONLY, c"")?)
}

#[cfg(target_os = "linux")]
fn make_place(path: &Path, is_dir: bool) -> io::Result<()> {
    if path.symlink_metadata().is_ok() {
        return Ok(());
    }
    if is_dir {
        return std::fs::create_dir_all(path);
    }
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    std::fs::File::create_new(path).map(drop)
}

#[cfg(not(target_os = "linux"))]
pub fn cover(covers: &[Cover]) -> io::Result<()> {
    if covers.is_empty() { Ok(()) } else { Err(io::ErrorKind::Unsupported.into()) }
}
