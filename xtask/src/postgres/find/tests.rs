use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use super::*;

fn program(path: &Path, content: &[u8]) {
    fs::create_dir_all(path.parent().expect("a directory")).expect("created");
    fs::write(path, content).expect("written");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("made executable");
}

fn installation(directory: &Path) -> PathBuf {
    for name in ["initdb", "postgres"] {
        program(&directory.join(name), b"\x7fELF");
    }
    directory.canonicalize().expect("exists")
}

#[test]
fn the_newest_version_wins_by_number_and_not_by_letter() {
    let scratch = tempfile::tempdir().expect("a scratch directory");
    installation(&scratch.path().join("9/bin"));
    let ten = installation(&scratch.path().join("10/bin"));
    assert_eq!(newest(scratch.path(), ""), Some(ten));
}

#[test]
fn a_version_without_a_server_is_passed_over() {
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let old = installation(&scratch.path().join("postgresql@15/bin"));
    program(&scratch.path().join("postgresql@17/bin/initdb"), b"\x7fELF");
    assert_eq!(newest(scratch.path(), "postgresql@"), Some(old));
}

#[test]
fn a_link_leads_to_the_directory_that_holds_the_programs() {
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let real = installation(&scratch.path().join("real/bin"));
    symlink(&real, scratch.path().join("linked")).expect("linked");
    assert_eq!(real_directory(&scratch.path().join("linked")), Some(real));
}

#[test]
fn scripts_that_call_the_programs_are_not_the_programs() {
    let scratch = tempfile::tempdir().expect("a scratch directory");
    for name in ["initdb", "postgres"] {
        program(&scratch.path().join(name), b"#!/bin/sh\n");
    }
    assert_eq!(real_directory(scratch.path()), None);
}
