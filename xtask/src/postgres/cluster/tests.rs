use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;

use super::*;

fn shell(script: &str) -> Child {
    let mut child = Command::new("sh").args(["-c", script]).stdout(Stdio::piped()).spawn().expect("a shell");
    let mut ready = [0];
    child.stdout.as_mut().expect("its output").read_exact(&mut ready).expect("a sign of life");
    child
}

#[test]
fn a_server_that_listens_is_asked_once() {
    let mut server = shell("trap 'exit 7' TERM; echo; while :; do sleep 0.02; done");
    end(&mut server, &[(Signal::TERM, 20), (Signal::KILL, 5)]).expect("ended");
    assert_eq!(server.wait().expect("reaped").code(), Some(7));
}

#[test]
fn a_server_that_does_not_listen_is_killed() {
    let mut server = shell("trap '' TERM; echo; while :; do sleep 0.02; done");
    end(&mut server, &[(Signal::TERM, 0), (Signal::KILL, 20)]).expect("ended");
    assert_eq!(server.wait().expect("reaped").signal(), Some(9));
}

#[test]
fn a_server_that_has_ended_by_itself_is_no_failure() {
    let mut server = shell("echo; exit 0");
    server.wait().expect("reaped");
    end(&mut server, &[]).expect("nothing to end");
}

#[test]
fn a_private_directory_is_closed_to_others_and_goes_with_its_value() {
    let directory = PrivateDirectory::create(None).expect("created");
    let path = directory.path.clone();
    let mode = path.metadata().expect("exists").permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    drop(directory);
    assert!(!path.exists());
}

#[test]
fn two_secrets_are_never_the_same() {
    assert_ne!(random_hex().expect("random"), random_hex().expect("random"));
}
