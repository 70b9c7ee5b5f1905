//! Whole trees: walked and removed without following a link.

use super::{FsError, Kind, remove_dir_all};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// What a walk does after an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Goes on, into the entry if it is a directory.
    Enter,
    /// Goes on beside the entry.
    Skip,
    /// Ends.
    Stop,
}

/// Visits everything beneath a directory by its path relative to it, names that are not UTF-8 included.
///
/// The order is not defined. What disappears meanwhile is left out.
pub fn walk(root: &Path, mut visit: impl FnMut(&Path, Kind) -> Step) -> Result<(), FsError> {
    let mut dirs = vec![PathBuf::new()];
    while let Some(dir) = dirs.pop() {
        let absolute = root.join(&dir);
        let entries = match std::fs::read_dir(&absolute) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !dir.as_os_str().is_empty() => continue,
            Err(source) => return Err(FsError::io("cannot list", &absolute, source)),
        };
        for entry in entries {
            let entry = entry.map_err(|source| FsError::io("cannot list", &absolute, source))?;
            let kind = match entry.file_type() {
                Ok(kind) if kind.is_dir() => Kind::Directory,
                Ok(kind) if kind.is_file() => Kind::File,
                Ok(_) => Kind::Other,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(source) => return Err(FsError::io("cannot examine", &entry.path(), source)),
            };
            let path = dir.join(entry.file_name());
            match visit(&path, kind) {
                Step::Enter if kind == Kind::Directory => dirs.push(path),
                Step::Enter | Step::Skip => {}
                Step::Stop => return Ok(()),
            }
        }
    }
    Ok(())
}

/// What lies at a path, a link not followed; `None` when nothing does.
pub fn kind_of(path: &Path) -> Result<Option<Kind>, FsError> {
    match std::fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => Ok(Some(Kind::Directory)),
        Ok(meta) if meta.is_file() => Ok(Some(Kind::File)),
        Ok(_) => Ok(Some(Kind::Other)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(FsError::io("cannot examine", path, source)),
    }
}

/// Whether a link lies at a path, wherever it leads.
pub fn is_link(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|meta| meta.is_symlink())
}

/// Removes a directory that somebody else worked in, also where they closed directories to their owner.
/// A link in its place is removed, not followed; that nothing is there is fine.
pub fn remove_foreign_dir(path: &Path) -> Result<(), FsError> {
    match kind_of(path)? {
        Some(Kind::Directory) => {}
        Some(Kind::File | Kind::Other) => return super::remove_file(path),
        None => return Ok(()),
    }
    if remove_dir_all(path).is_ok() {
        return Ok(());
    }
    // What cannot be opened up shows when the removal fails again.
    let open_up = |dir: &Path| std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700)).is_ok();
    open_up(path);
    let _ = walk(
        path,
        |inner, kind| if kind == Kind::Directory && open_up(&path.join(inner)) { Step::Enter } else { Step::Skip },
    );
    remove_dir_all(path)
}

/// Moves a file or directory to a name on the same disk, and makes that durable.
pub fn rename(from: &Path, to: &Path) -> Result<(), FsError> {
    std::fs::rename(from, to)
        .and_then(|()| super::sync_parent(to))
        .map_err(|source| FsError::io("cannot move to", to, source))
}

/// How long ago a file was last written to; zero when its time lies ahead.
pub fn age(path: &Path) -> Result<std::time::Duration, FsError> {
    let modified = std::fs::symlink_metadata(path).and_then(|meta| meta.modified());
    let modified = modified.map_err(|source| FsError::io("cannot examine", path, source))?;
    Ok(modified.elapsed().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn tree() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("root/a/b")).unwrap();
        std::fs::write(dir.path().join("root/a/b/c"), "x").unwrap();
        std::fs::create_dir(dir.path().join("outside")).unwrap();
        std::fs::write(dir.path().join("outside/precious"), "x").unwrap();
        symlink("../outside", dir.path().join("root/link")).unwrap();
        dir
    }

    #[test]
    fn a_walk_meets_everything_and_follows_no_link() {
        let dir = tree();
        let mut met = Vec::new();
        walk(&dir.path().join("root"), |path, kind| {
            met.push((path.to_owned(), kind));
            Step::Enter
        })
        .unwrap();
        met.sort();
        let expected = [("a", Kind::Directory), ("a/b", Kind::Directory), ("a/b/c", Kind::File), ("link", Kind::Other)];
        assert_eq!(met, expected.map(|(path, kind)| (PathBuf::from(path), kind)));
    }

    #[test]
    fn a_walk_skips_and_stops_as_told() {
        let dir = tree();
        let visit = |step| {
            let mut n = 0;
            walk(&dir.path().join("root"), |_, _| {
                n += 1;
                step
            })
            .unwrap();
            n
        };
        assert_eq!((visit(Step::Skip), visit(Step::Stop)), (2, 1));
        assert!(walk(&dir.path().join("nothing"), |_, _| Step::Enter).unwrap_err().is_not_found());
    }

    #[test]
    fn a_foreign_directory_is_removed_with_what_was_closed_in_it() {
        let dir = tree();
        let root = dir.path().join("root");
        std::fs::set_permissions(root.join("a/b"), std::fs::Permissions::from_mode(0o000)).unwrap();
        std::fs::set_permissions(root.join("a"), std::fs::Permissions::from_mode(0o000)).unwrap();

        remove_foreign_dir(&root).unwrap();
        remove_foreign_dir(&root).unwrap();
        symlink("outside", &root).unwrap();
        remove_foreign_dir(&root).unwrap();

        assert_eq!(kind_of(&root).unwrap(), None);
        assert!(dir.path().join("outside/precious").exists());
    }

    #[test]
    fn a_moved_directory_is_where_it_was_moved_to() {
        let dir = tree();
        rename(&dir.path().join("root/a"), &dir.path().join("moved")).unwrap();
        assert_eq!(kind_of(&dir.path().join("moved/b/c")).unwrap(), Some(Kind::File));
        assert_eq!(kind_of(&dir.path().join("root/link")).unwrap(), Some(Kind::Other));
        assert!(is_link(&dir.path().join("root/link")) && !is_link(&dir.path().join("moved")));
        assert!(age(&dir.path().join("moved/b/c")).unwrap() < std::time::Duration::from_secs(3600));
    }
}
