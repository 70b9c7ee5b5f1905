//! A directory that others may write to, used without ever leaving it.
//!
//! On Linux the kernel resolves every path beneath the root and refuses links (`openat2`). Elsewhere the path is
//! walked name by name, each opened without following links. Either way a path swapped for a link after it was
//! checked leads nowhere.

use super::{FsError, private, read_open};
use crate::path::RelPath;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, mkdirat, openat, renameat, statat, unlinkat};
use rustix::io::Errno;
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A root and everything that lies beneath it.
#[derive(Debug)]
pub struct Beneath {
    root: OwnedFd,
    path: PathBuf,
}

/// What a directory entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    File,
    Directory,
    /// A link, socket, device or pipe: listed, never opened.
    Other,
}

/// One entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    pub name: String,
    pub kind: Kind,
    pub len: u64,
}

impl Beneath {
    /// Opens a root; the path to it is trusted and may contain links.
    pub fn open(root: &Path) -> Result<Self, FsError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(root, flags, Mode::empty())
            .map_err(|errno| FsError::io("cannot open", root, errno.into()))?;
        Ok(Self { root: fd, path: root.to_owned() })
    }

    /// Reads a regular file of at most `cap` bytes that has no second name elsewhere.
    pub fn read(&self, path: &RelPath, cap: u64) -> Result<Vec<u8>, FsError> {
        // Without NONBLOCK, opening a pipe that somebody planted would wait for ever.
        let fd = self.open_path(path, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty())?;
        let file = File::from(fd);
        let shown = self.shown(path);
        let meta = file.metadata().map_err(|source| FsError::io("cannot examine", &shown, source))?;
        if !meta.is_file() || meta.nlink() != 1 {
            return Err(FsError::NotRegular { path: shown });
        }
        read_open(file, &shown, cap)
    }

    /// Reads up to `limit` bytes of a regular file from `offset` on, with its length at that moment.
    pub fn read_at(&self, path: &RelPath, offset: u64, limit: usize) -> Result<(Vec<u8>, u64), FsError> {
        let file = File::from(self.open_path(path, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty())?);
        let shown = self.shown(path);
        let meta = file.metadata().map_err(|source| FsError::io("cannot examine", &shown, source))?;
        if !meta.is_file() || meta.nlink() != 1 {
            return Err(FsError::NotRegular { path: shown });
        }
        super::read_open_at(&file, &shown, offset, limit)
    }

    /// Replaces or creates a file as a whole; directories on the way are made. An existing file keeps its mode.
    pub fn write(&self, path: &RelPath, bytes: &[u8]) -> Result<(), FsError> {
        self.write_with_mode(path, bytes, None)
    }

    /// Like [`Beneath::write`], with the permissions given.
    pub fn write_with_mode(&self, path: &RelPath, bytes: &[u8], mode: Option<u32>) -> Result<(), FsError> {
        let shown = self.shown(path);
        let io = |source: std::io::Error| FsError::Io { action: "cannot write", path: shown.clone(), source };
        let dir = self.create_parent(path)?;
        let mode = match mode {
            Some(mode) => Mode::from_raw_mode(mode as rustix::fs::RawMode),
            None => match statat(&dir, path.name(), AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => {
                    Mode::from_raw_mode(stat.st_mode & 0o777)
                }
                Ok(_) => return Err(FsError::NotRegular { path: shown }),
                Err(Errno::NOENT) => Mode::from_raw_mode(0o644),
                Err(errno) => return Err(io(errno.into())),
            },
        };
        let temporary = format!(".{}.part", crate::random::base62(12));
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let fd = openat(&dir, &temporary, flags, private()).map_err(|errno| io(errno.into()))?;
        let mut file = File::from(fd);
        let written = file
            .write_all(bytes)
            .and_then(|()| rustix::fs::fchmod(&file, mode).map_err(Into::into))
            .and_then(|()| renameat(&dir, &temporary, &dir, path.name()).map_err(Into::into));
        written.map_err(|source| {
            // Best effort: the error that matters is the first one.
            let _ = unlinkat(&dir, &temporary, AtFlags::empty());
            io(source)
        })
    }

    /// Appends to a regular file, creating it and the directories on the way.
    pub fn append(&self, path: &RelPath, bytes: &[u8]) -> Result<(), FsError> {
        self.create_parent(path)?;
        let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::NONBLOCK;
        let fd = self.open_path(path, flags, Mode::from_raw_mode(0o644))?;
        let mut file = File::from(fd);
        let shown = self.shown(path);
        let meta = file.metadata().map_err(|source| FsError::io("cannot examine", &shown, source))?;
        if !meta.is_file() || meta.nlink() != 1 {
            return Err(FsError::NotRegular { path: shown });
        }
        file.write_all(bytes).map_err(|source| FsError::io("cannot write", &shown, source))
    }

    /// Makes a directory and those on the way to it.
    pub fn create_dirs(&self, path: &RelPath) -> Result<(), FsError> {
        self.open_dir_creating(Some(path)).map(drop)
    }

    /// Removes one file or link, or one empty directory. That it is not there is an error: see [`FsError::is_not_found`].
    pub fn remove(&self, path: &RelPath) -> Result<(), FsError> {
        let shown = self.shown(path);
        let dir = self.open_dir(path.parent().as_ref())?;
        let removed = match unlinkat(&dir, path.name(), AtFlags::empty()) {
            // What unlinking a directory answers differs between systems.
            Err(Errno::ISDIR | Errno::PERM) => unlinkat(&dir, path.name(), AtFlags::REMOVEDIR),
            other => other,
        };
        removed.map_err(|errno| FsError::io("cannot remove", &shown, errno.into()))
    }

    /// What lies at a path, links not followed; `None` when nothing does.
    pub fn find(&self, path: &RelPath) -> Result<Option<Entry>, FsError> {
        let dir = match self.open_dir(path.parent().as_ref()) {
            Ok(dir) => dir,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error),
        };
        match statat(&dir, path.name(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(entry(path.name().to_owned(), &stat))),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(FsError::io("cannot examine", &self.shown(path), errno.into())),
        }
    }

    /// The entries of a directory (`None`: the root), sorted, at most `max`; names that are not UTF-8 are left out.
    pub fn list(&self, path: Option<&RelPath>, max: usize) -> Result<Vec<Entry>, FsError> {
        let dir = self.open_dir(path)?;
        let shown = path.map_or_else(|| self.path.clone(), |path| self.shown(path));
        let io = |errno: Errno| FsError::io("cannot list", &shown, errno.into());
        let mut names = Vec::new();
        for next in Dir::read_from(&dir).map_err(io)? {
            let next = next.map_err(io)?;
            match next.file_name().to_str() {
                Ok("." | "..") | Err(_) => {}
                Ok(name) => names.push(name.to_owned()),
            }
            if names.len() >= max {
                break;
            }
        }
        let mut entries = Vec::with_capacity(names.len());
        for name in names {
            match statat(&dir, &name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => entries.push(entry(name, &stat)),
                // Somebody removed it between listing and looking.
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(io(errno)),
            }
        }
        entries.sort();
        Ok(entries)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    fn shown(&self, path: &RelPath) -> PathBuf {
        self.path.join(path.as_path())
    }

    fn create_parent(&self, path: &RelPath) -> Result<OwnedFd, FsError> {
        self.open_dir_creating(path.parent().as_ref())
    }

    fn open_dir_creating(&self, path: Option<&RelPath>) -> Result<OwnedFd, FsError> {
        match self.open_dir(path) {
            Err(error) if error.is_not_found() => {}
            other => return other,
        }
        let Some(path) = path else { return self.open_dir(None) };
        let parent = self.open_dir_creating(path.parent().as_ref())?;
        match mkdirat(&parent, path.name(), Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => self.open_dir(Some(path)),
            Err(errno) => Err(FsError::io("cannot create directory", &self.shown(path), errno.into())),
        }
    }

    fn open_dir(&self, path: Option<&RelPath>) -> Result<OwnedFd, FsError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        match path {
            Some(path) => self.open_path(path, flags, Mode::empty()),
            // A fresh description, so that listing the root twice starts twice.
            None => openat(&self.root, ".", flags | OFlags::CLOEXEC, Mode::empty())
                .map_err(|errno| FsError::io("cannot open", &self.path, errno.into())),
        }
    }

    fn open_path(&self, path: &RelPath, flags: OFlags, mode: Mode) -> Result<OwnedFd, FsError> {
        match resolve(&self.root, path, flags | OFlags::CLOEXEC, mode) {
            Ok(fd) => Ok(fd),
            // A link on the way or at the end, or an escape: the kernel tells them apart, the caller need not.
            Err(Errno::LOOP | Errno::XDEV | Errno::MLINK) => {
                Err(FsError::Outside { root: self.path.clone(), path: path.clone() })
            }
            Err(errno) => Err(FsError::io("cannot open", &self.shown(path), errno.into())),
        }
    }
}

#[cfg(target_os = "linux")]
fn resolve(root: &OwnedFd, path: &RelPath, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
    use rustix::fs::ResolveFlags;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    match rustix::fs::openat2(root, path.as_path(), flags, mode, resolve) {
        // Older kernels and some sandboxes do not know the call.
        Err(Errno::NOSYS) => walk(root, path, flags, mode),
        other => other,
    }
}

#[cfg(not(target_os = "linux"))]
fn resolve(root: &OwnedFd, path: &RelPath, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
    walk(root, path, flags, mode)
}

/// Opens each name from the one before, following no link; a link answers `LOOP` wherever it stands.
fn walk(root: &OwnedFd, path: &RelPath, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
    let step = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut dir = rustix::io::fcntl_dupfd_cloexec(root, 0)?;
    if let Some(parent) = path.parent() {
        for name in parent.as_str().split('/') {
            dir = open_name(&dir, name, step, Mode::empty())?;
        }
    }
    open_name(&dir, path.name(), flags, mode)
}

fn open_name(dir: &OwnedFd, name: &str, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
    match openat(dir, name, flags | OFlags::NOFOLLOW, mode) {
        // Opening a link as a directory without following it says only that it is not one.
        Err(Errno::NOTDIR) => match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink => Err(Errno::LOOP),
            _ => Err(Errno::NOTDIR),
        },
        other => other,
    }
}

fn entry(name: String, stat: &rustix::fs::Stat) -> Entry {
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Directory,
        _ => Kind::Other,
    };
    Entry { name, kind, len: u64::try_from(stat.st_size).unwrap_or(0) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn rel(text: &str) -> RelPath {
        RelPath::parse(text).unwrap()
    }

    fn tree() -> (tempfile::TempDir, Beneath) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("root")).unwrap();
        std::fs::write(dir.path().join("secret"), "outside").unwrap();
        let beneath = Beneath::open(&dir.path().join("root")).unwrap();
        (dir, beneath)
    }

    #[test]
    fn files_are_written_read_appended_listed_and_removed() {
        let (_dir, beneath) = tree();

        beneath.write(&rel("a/b/c.txt"), b"one").unwrap();
        beneath.append(&rel("a/b/c.txt"), b" two").unwrap();
        beneath.append(&rel("new.txt"), b"new").unwrap();
        beneath.create_dirs(&rel("empty")).unwrap();

        assert_eq!(beneath.read(&rel("a/b/c.txt"), 7).unwrap(), b"one two");
        assert!(matches!(beneath.read(&rel("a/b/c.txt"), 6), Err(FsError::TooLarge { cap: 6, .. })));
        let names = |entries: Vec<Entry>| entries.into_iter().map(|e| (e.name, e.kind)).collect::<Vec<_>>();
        assert_eq!(
            names(beneath.list(None, 10).unwrap()),
            [("a".into(), Kind::Directory), ("empty".into(), Kind::Directory), ("new.txt".into(), Kind::File)]
        );
        beneath.remove(&rel("new.txt")).unwrap();
        beneath.remove(&rel("empty")).unwrap();
        assert!(beneath.remove(&rel("new.txt")).unwrap_err().is_not_found());
        assert_eq!(beneath.find(&rel("new.txt")).unwrap(), None);
        assert_eq!(names(beneath.list(Some(&rel("a/b")), 10).unwrap()), [("c.txt".into(), Kind::File)]);
    }

    #[test]
    fn an_executable_stays_executable_when_it_is_rewritten() {
        let (dir, beneath) = tree();
        beneath.write_with_mode(&rel("run.sh"), b"#!/bin/sh\n", Some(0o755)).unwrap();
        beneath.write(&rel("run.sh"), b"#!/bin/sh\nexit 0\n").unwrap();
        assert_eq!(crate::fs::mode(&dir.path().join("root/run.sh")).unwrap(), 0o755);
    }

    #[test]
    fn links_lead_nowhere() {
        let (dir, beneath) = tree();
        let root = dir.path().join("root");
        symlink("../secret", root.join("file")).unwrap();
        symlink("..", root.join("up")).unwrap();
        symlink(dir.path(), root.join("absolute")).unwrap();
        symlink("/proc/self/root", root.join("magic")).unwrap();

        for path in ["file", "up/secret", "absolute/secret", "magic/etc/passwd"] {
            assert!(matches!(beneath.read(&rel(path), 100), Err(FsError::Outside { .. })), "read {path}");
            assert!(matches!(beneath.append(&rel(path), b"x"), Err(FsError::Outside { .. })), "append {path}");
        }
        for path in ["up/new", "absolute/new"] {
            assert!(matches!(beneath.write(&rel(path), b"x"), Err(FsError::Outside { .. })), "write {path}");
            assert!(matches!(beneath.create_dirs(&rel(path)), Err(FsError::Outside { .. })), "create {path}");
        }
        assert!(matches!(beneath.write(&rel("file"), b"x"), Err(FsError::NotRegular { .. })));
        assert_eq!(std::fs::read(dir.path().join("secret")).unwrap(), b"outside");
        assert!(!dir.path().join("new").exists());
    }

    #[test]
    fn the_walk_without_kernel_help_refuses_the_same() {
        let (dir, beneath) = tree();
        let root = dir.path().join("root");
        symlink("../secret", root.join("file")).unwrap();
        symlink("..", root.join("up")).unwrap();
        beneath.write(&rel("a/b"), b"inside").unwrap();
        let open = |path| walk(&beneath.root, &rel(path), OFlags::RDONLY, Mode::empty());

        assert!(open("a/b").is_ok());
        assert_eq!(open("file").unwrap_err(), Errno::LOOP);
        assert_eq!(open("up/secret").unwrap_err(), Errno::LOOP);
        assert_eq!(open("up").unwrap_err(), Errno::LOOP);
        assert_eq!(open("none/x").unwrap_err(), Errno::NOENT);
    }

    #[test]
    fn part_of_a_file_is_read_with_the_length_of_the_whole() {
        let (_dir, beneath) = tree();
        beneath.write(&rel("log"), b"0123456789").unwrap();

        assert_eq!(beneath.read_at(&rel("log"), 3, 4).unwrap(), (b"3456".to_vec(), 10));
        assert_eq!(beneath.read_at(&rel("log"), 8, 4).unwrap(), (b"89".to_vec(), 10));
        assert_eq!(beneath.read_at(&rel("log"), 20, 4).unwrap(), (Vec::new(), 10));
        assert!(beneath.read_at(&rel("none"), 0, 4).unwrap_err().is_not_found());
    }

    #[test]
    fn pipes_directories_and_second_names_are_not_read() {
        let (dir, beneath) = tree();
        let root = dir.path().join("root");
        assert!(std::process::Command::new("mkfifo").arg(root.join("pipe")).status().unwrap().success());
        std::fs::create_dir(root.join("dir")).unwrap();
        std::fs::hard_link(dir.path().join("secret"), root.join("second")).unwrap();
        for path in ["pipe", "dir", "second"] {
            assert!(matches!(beneath.read(&rel(path), 100), Err(FsError::NotRegular { .. })), "{path}");
            assert!(matches!(beneath.read_at(&rel(path), 0, 100), Err(FsError::NotRegular { .. })), "{path}");
        }
        assert!(matches!(beneath.append(&rel("second"), b"x"), Err(FsError::NotRegular { .. })));
    }
}
