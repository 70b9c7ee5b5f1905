//! The program itself, as people and CI start it. That it is built with the tests is what CI's quick gate relies on.
#![expect(clippy::disallowed_methods, reason = "starts the program under test")]

use std::process::{Command, Output};

fn chaos(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_chaos")).args(arguments).env_remove("SEED").output().expect("chaos starts")
}

#[test]
fn the_list_names_every_fault_with_its_counts() {
    let output = chaos(&["--list"]);

    let listed = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success());
    for fault in chaos::faults::ALL {
        assert!(listed.lines().any(|line| line.starts_with(fault.name)), "{} is missing in {listed}", fault.name);
    }
}

#[test]
fn who_asks_wrongly_is_told_how_to_ask() {
    let output = chaos(&["no-such-fault"]);

    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("usage: chaos"));
}
