//! Files: private by default, written whole or not at all, opened beneath a root, read with a cap.
//!
//! [`Beneath`] is for trees that somebody else may write to, the free functions are for our own.

mod beneath;
mod lock;
mod walk;

pub use beneath::{Beneath, Entry, Kind};
pub use lock::{Held, LockFile};
pub use walk::{Step, age, is_link, kind_of, remove_foreign_dir, rename, walk};

use crate::path::RelPath;
use rustix::fs::Mode;
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Why a file could not be used.
#[derive(Debug, thiserror::Error)]
pub enum FsError {
    #[error("{path} does not exist")]
    NotFound { path: PathBuf },
    #[error("{path} is larger than {cap} bytes")]
    TooLarge { path: PathBuf, cap: u64 },
    #[error("{path} is not a regular file of its own")]
    NotRegular { path: PathBuf },
    #[error("{path} leads outside {root}, or through a link", root = root.display())]
    Outside { root: PathBuf, path: RelPath },
    #[error("{action} {path}")]
    Io { action: &'static str, path: PathBuf, source: io::Error },
}

impl FsError {
    fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        if source.kind() == io::ErrorKind::NotFound {
            return Self::NotFound { path: path.to_owned() };
        }
        Self::Io { action, path: path.to_owned(), source }
    }

    /// Whether the file was simply not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }
}

/// Makes a directory and its parents; what is made is for its owner only (0700). An existing one is left as it is.
pub fn create_private_dir(path: &Path) -> Result<(), FsError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|source| FsError::Io {
        action: "cannot create directory",
        path: path.to_owned(),
        source,
    })
}

/// Makes a directory that must not exist yet, for its owner only, under a name that nobody can guess.
pub fn create_temporary_dir(beneath: &Path, prefix: &str) -> Result<PathBuf, FsError> {
    let path = beneath.join(format!("{prefix}{}", crate::random::base62(12)));
    DirBuilder::new().mode(0o700).create(&path).map_err(|source| FsError::Io {
        action: "cannot create directory",
        path: path.clone(),
        source,
    })?;
    Ok(path)
}

/// Where the system wants temporary files.
pub fn temporary_root() -> PathBuf {
    std::env::temp_dir()
}

/// Replaces a file as a whole, readable by its owner only: after a crash there is the old one or the new one.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), FsError> {
    write_atomic_with_mode(path, bytes, 0o600)
}

/// Like [`write_atomic`], with the permissions given.
pub fn write_atomic_with_mode(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FsError> {
    let error = |action| move |source| FsError::Io { action, path: path.to_owned(), source };
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    let name = path.file_name().ok_or_else(|| {
        error("cannot write")(io::Error::new(io::ErrorKind::InvalidInput, "the path does not end in a name"))
    })?;
    let mut temporary = std::ffi::OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".{}", crate::random::base62(8)));
    let temporary = dir.join(temporary);
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        // The umask may have taken bits away that were asked for.
        file.set_permissions(Permissions::from_mode(mode))?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)?;
        File::open(dir)?.sync_all()
    })();
    written.map_err(|source| {
        // Best effort: the error that matters is the first one.
        let _ = std::fs::remove_file(&temporary);
        error("cannot write")(source)
    })
}

/// Makes a file that must not exist yet, for its owner only, durable together with its name.
pub fn create_new(path: &Path, bytes: &[u8]) -> Result<(), FsError> {
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        sync_parent(path)
    })();
    written.map_err(|source| FsError::Io { action: "cannot create", path: path.to_owned(), source })
}

/// Opens a file of ours to append to, making it for its owner only.
pub fn open_append(path: &Path) -> Result<File, FsError> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path).map_err(|source| FsError::Io {
        action: "cannot open",
        path: path.to_owned(),
        source,
    })
}

/// Opens a file for reading.
pub fn open_read(path: &Path) -> Result<File, FsError> {
    File::open(path).map_err(|source| FsError::io("cannot open", path, source))
}

/// Reads a whole regular file of at most `cap` bytes.
pub fn read(path: &Path, cap: u64) -> Result<Vec<u8>, FsError> {
    read_open(open_read(path)?, path, cap)
}

/// Reads a whole regular UTF-8 file of at most `cap` bytes.
pub fn read_text(path: &Path, cap: u64) -> Result<String, FsError> {
    String::from_utf8(read(path, cap)?).map_err(|error| FsError::Io {
        action: "cannot read",
        path: path.to_owned(),
        source: io::Error::new(io::ErrorKind::InvalidData, error.utf8_error()),
    })
}

fn read_open(file: File, path: &Path, cap: u64) -> Result<Vec<u8>, FsError> {
    let meta = file.metadata().map_err(|source| FsError::io("cannot read", path, source))?;
    if !meta.is_file() {
        return Err(FsError::NotRegular { path: path.to_owned() });
    }
    let mut bytes = Vec::new();
    // One byte more than allowed tells a file that is too large from one that just fits, even while it grows.
    file.take(cap.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(|source| FsError::io("cannot read", path, source))?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > cap {
        return Err(FsError::TooLarge { path: path.to_owned(), cap });
    }
    Ok(bytes)
}

/// Reads up to `limit` bytes from `offset` on, with the file's length at that moment.
pub fn read_at(path: &Path, offset: u64, limit: usize) -> Result<(Vec<u8>, u64), FsError> {
    read_open_at(&open_read(path)?, path, offset, limit)
}

fn read_open_at(file: &File, path: &Path, offset: u64, limit: usize) -> Result<(Vec<u8>, u64), FsError> {
    use std::os::unix::fs::FileExt;
    let error = |source| FsError::io("cannot read", path, source);
    let total = file.metadata().map_err(error)?.len();
    let wanted = usize::try_from(total.saturating_sub(offset)).unwrap_or(usize::MAX).min(limit);
    let mut bytes = vec![0; wanted];
    let mut filled = 0;
    while filled < wanted {
        let n = file.read_at(&mut bytes[filled..], offset + filled as u64).map_err(error)?;
        if n == 0 {
            break;
        }
        filled += n;
    }
    bytes.truncate(filled);
    Ok((bytes, total))
}

/// Removes a file; that it is not there is fine.
pub fn remove_file(path: &Path) -> Result<(), FsError> {
    match std::fs::remove_file(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(FsError::Io { action: "cannot remove", path: path.to_owned(), source }),
    }
}

/// Removes a file; whether this call is the one that removed it, so that of any number of callers one is told yes.
pub fn remove_existing_file(path: &Path) -> Result<bool, FsError> {
    match std::fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(FsError::Io { action: "cannot remove", path: path.to_owned(), source }),
    }
}

/// Where a symbolic link leads, as it says; `None` for anything else.
pub fn read_link(path: &Path) -> Option<PathBuf> {
    std::fs::read_link(path).ok()
}

/// Removes a directory if it is empty; whether it was.
pub fn remove_empty_dir(path: &Path) -> bool {
    std::fs::remove_dir(path).is_ok()
}

/// Removes a directory with everything in it, following no link; that it is not there is fine.
pub fn remove_dir_all(path: &Path) -> Result<(), FsError> {
    match std::fs::remove_dir_all(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(FsError::Io { action: "cannot remove", path: path.to_owned(), source }),
    }
}

/// Whether something exists at a path, links followed.
pub fn exists(path: &Path) -> bool {
    path.exists()
}

/// Whether a directory exists at a path, links followed.
pub fn is_dir(path: &Path) -> bool {
    path.is_dir()
}

/// The names in a directory, sorted; names that are not UTF-8 are left out.
pub fn list_names(path: &Path) -> Result<Vec<String>, FsError> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(path).map_err(|source| FsError::io("cannot list", path, source))? {
        let entry = entry.map_err(|source| FsError::io("cannot list", path, source))?;
        if let Ok(name) = entry.file_name().into_string() {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// The absolute path without links in it.
pub fn canonicalize(path: &Path) -> Result<PathBuf, FsError> {
    std::fs::canonicalize(path).map_err(|source| FsError::io("cannot resolve", path, source))
}

/// The uid that owns a file or directory, links followed.
pub fn owner_uid(path: &Path) -> Result<u32, FsError> {
    std::fs::metadata(path).map(|meta| meta.uid()).map_err(|source| FsError::io("cannot examine", path, source))
}

/// The permission bits of a file or directory, links followed.
pub fn mode(path: &Path) -> Result<u32, FsError> {
    std::fs::metadata(path)
        .map(|meta| meta.mode() & 0o7777)
        .map_err(|source| FsError::io("cannot examine", path, source))
}

/// Sets the permission bits of a file or directory of ours.
pub fn set_mode(path: &Path, mode: u32) -> Result<(), FsError> {
    std::fs::set_permissions(path, Permissions::from_mode(mode))
        .map_err(|source| FsError::io("cannot change the permissions of", path, source))
}

/// How many bytes an ordinary user can still write to the disk that a path lies on.
pub fn free_disk(path: &Path) -> Result<u64, FsError> {
    let stat = rustix::fs::statvfs(path).map_err(|errno| FsError::io("cannot examine", path, errno.into()))?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Makes the name of a file durable.
pub fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => File::open(dir)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

fn private() -> Mode {
    Mode::RUSR | Mode::WUSR
}

#[cfg(test)]
mod tests;
