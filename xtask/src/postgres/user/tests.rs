use std::fs;

use super::*;

const ACCOUNTS: &str = "root:x:0:0:root:/root:/bin/sh\nnobody:*:-2:-2:Nobody:/var/empty:/usr/bin/false\n\
                        postgres:x:101:104:,,,:/var/lib/postgresql:/bin/bash\n";

#[test]
fn an_account_is_found_by_its_whole_name() {
    assert_eq!(User::parse(ACCOUNTS, "postgres"), Some(User { uid: 101, gid: 104 }));
    assert_eq!(User::parse(ACCOUNTS, "post"), None);
}

#[test]
fn a_negative_number_is_the_one_the_kernel_means() {
    let nobody = User { uid: 4_294_967_294, gid: 4_294_967_294 };
    assert_eq!(User::parse(ACCOUNTS, "nobody"), Some(nobody));
}

#[test]
fn root_is_never_the_account_to_run_under() {
    assert_eq!(User::parse(ACCOUNTS, "root"), None);
    assert_eq!(User::parse("postgres:x:0:0::/:/bin/sh", "postgres"), None);
}

#[test]
fn one_closed_directory_on_the_way_keeps_a_user_out() {
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let inner = scratch.path().join("closed/open");
    fs::create_dir_all(&inner).expect("created");
    let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("changed");
    mode(scratch.path(), 0o755);
    mode(&inner, 0o755);
    let stranger = User { uid: 64_321, gid: 64_321 };
    mode(&scratch.path().join("closed"), 0o755);
    assert_eq!(stranger.can_enter(&inner), stranger.can_enter(scratch.path()));
    mode(&scratch.path().join("closed"), 0o750);
    assert!(!stranger.can_enter(&inner));
}
