//! `cargo xtask check`: everything that can be said about the code without running it, each part named as it runs.

use std::process::{Command, ExitCode};

use anyhow::{Result, bail};

use crate::process;

/// Says whether the code passed; an error means that the check itself could not be made.
type Check = fn() -> Result<bool>;

/// Workspaces of their own: what they need is no part of ours. `structure` judges what comes in there.
pub(crate) const BESIDE: &[&str] = &["bench/peers/apalis/Cargo.toml", "fuzz/Cargo.toml"];

const PARTS: &[(&str, Check)] =
    &[("fmt", check_format), ("clippy", check_lints), ("structure", check_structure), ("deny", check_dependencies)];

pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    if let Some(unknown) = arguments.iter().find(|name| !PARTS.iter().any(|(part, _)| part == name)) {
        bail!("there is no check `{unknown}`; the checks are fmt, clippy, structure and deny");
    }
    let mut failed = Vec::new();
    for (name, part) in PARTS {
        if !arguments.is_empty() && !arguments.iter().any(|argument| argument == name) {
            continue;
        }
        process::say(&format!("xtask: check {name}"));
        if !part()? {
            failed.push(*name);
        }
    }
    if failed.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    process::say(&format!("xtask: failed: {}", failed.join(", ")));
    Ok(ExitCode::FAILURE)
}

fn check_format() -> Result<bool> {
    let mut passed = process::status(process::cargo().args(["fmt", "--all", "--check"]))?.success();
    for manifest in BESIDE {
        let mut format = process::cargo();
        passed &= process::status(format.args(["fmt", "--check", "--manifest-path", manifest]))?.success();
    }
    Ok(passed)
}

fn check_lints() -> Result<bool> {
    let mut clippy = process::cargo();
    clippy.args(["clippy", "--locked", "--profile", "ci", "--workspace", "--all-targets", "--", "-D", "warnings"]);
    Ok(process::status(&mut clippy)?.success())
}

fn check_structure() -> Result<bool> {
    let mut test = process::cargo();
    test.args(["test", "--locked", "--profile", "ci", "--package", "xtask", "structure", "--", "--nocapture"]);
    Ok(process::status(&mut test)?.success())
}

/// The structure check covers bans, licences and sources everywhere; cargo-deny judges the same with its own eyes
/// where it is installed, and advisories where it finds a database without going to the network.
fn check_dependencies() -> Result<bool> {
    if process::on_path("cargo-deny").is_none() {
        process::say(
            "xtask: cargo-deny is not installed: bans, licences and sources were judged by `structure` alone;",
        );
        process::say("xtask: advisories were NOT checked");
        return Ok(true);
    }
    let rules = Command::new("cargo-deny")
        .current_dir(process::workspace())
        .args(["--locked", "check", "--allow", "unused-wrapper", "bans", "licenses", "sources"])
        .status()?;
    process::say("xtask: cargo-deny judged bans, licences and sources");
    Ok(rules.success() && check_advisories()?)
}

fn check_advisories() -> Result<bool> {
    let deny =
        |arguments: &[&str]| Command::new("cargo-deny").current_dir(process::workspace()).args(arguments).output();
    // A failing fetch says that there is no database here, which is not a finding about our dependencies.
    if !process::is_ci() && !deny(&["--offline", "--locked", "fetch", "db"])?.status.success() {
        process::say("xtask: no advisory database at hand: advisories were NOT checked");
        return Ok(true);
    }
    if process::is_ci() && !deny(&["--locked", "fetch", "db"])?.status.success() {
        process::say("xtask: the advisory database cannot be fetched: advisories were NOT checked");
        return Ok(true);
    }
    let advisories = Command::new("cargo-deny")
        .current_dir(process::workspace())
        .args(["--offline", "--locked", "check", "advisories"])
        .status()?;
    process::say("xtask: cargo-deny judged advisories");
    Ok(advisories.success())
}
