use super::*;

#[test]
fn a_private_directory_is_for_its_owner_only() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a/b");
    create_private_dir(&path).unwrap();
    create_private_dir(&path).unwrap();
    assert_eq!(mode(&path).unwrap(), 0o700);
    assert_eq!(mode(&dir.path().join("a")).unwrap(), 0o700);
}

#[test]
fn an_atomic_write_replaces_the_whole_file_and_leaves_nothing_beside_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    write_atomic(&path, b"a longer first text").unwrap();
    write_atomic(&path, b"second").unwrap();
    assert_eq!(read(&path, 100).unwrap(), b"second");
    assert_eq!(mode(&path).unwrap(), 0o600);
    assert_eq!(list_names(dir.path()).unwrap(), ["file"]);

    write_atomic_with_mode(&path, b"#!", 0o755).unwrap();
    assert_eq!(mode(&path).unwrap(), 0o755);
}

#[test]
fn a_failed_atomic_write_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("taken");
    std::fs::create_dir(&path).unwrap();
    assert!(matches!(write_atomic(&path, b"x"), Err(FsError::Io { .. })));
    assert_eq!(list_names(dir.path()).unwrap(), ["taken"]);
}

#[test]
fn a_file_larger_than_the_cap_is_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    write_atomic(&path, b"12345").unwrap();
    assert_eq!(read_text(&path, 5).unwrap(), "12345");
    assert!(matches!(read(&path, 4), Err(FsError::TooLarge { cap: 4, .. })));
    assert!(read(&dir.path().join("none"), 4).unwrap_err().is_not_found());
}

#[test]
fn a_file_is_read_by_offset() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    write_atomic(&path, b"0123456789").unwrap();
    assert_eq!(read_at(&path, 0, 4).unwrap(), (b"0123".to_vec(), 10));
    assert_eq!(read_at(&path, 8, 4).unwrap(), (b"89".to_vec(), 10));
    assert_eq!(read_at(&path, 99, 4).unwrap(), (Vec::new(), 10));
}

#[test]
fn a_file_that_exists_is_not_created_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    create_new(&path, b"first").unwrap();
    assert!(create_new(&path, b"second").is_err());
    assert_eq!(read(&path, 100).unwrap(), b"first");
}

#[test]
fn a_lock_is_held_once_and_ends_with_its_value() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lock");
    let mut first = LockFile::acquire(&path).unwrap();
    first.describe("process 42").unwrap();

    let refused = LockFile::acquire(&path).unwrap_err();

    assert!(matches!(&refused, Held::ByAnother { by: Some(by), .. } if by == "process 42"), "{refused}");
    drop(first);
    LockFile::acquire(&path).unwrap();
}

#[test]
fn the_machine_says_who_owns_a_file_and_how_much_room_there_is() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(owner_uid(dir.path()).unwrap(), rustix::process::geteuid().as_raw());
    assert!(free_disk(dir.path()).unwrap() > 0);
}
