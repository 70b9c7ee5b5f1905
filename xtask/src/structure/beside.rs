//! Workspaces of their own: what they bring in is no part of the product, and comes from where ours comes from.

use std::path::Path;

use super::dependencies::{BANNED, LICENCES, assert_from_registry, locked_packages};
use super::licence;
use super::tree::{assert_none, text};
use crate::check::BESIDE;
use crate::process::{capture, cargo, is_ci, say, workspace};

/// The targets for the fuzzer build our own crates, so that what holds for these holds for them.
const FUZZ: &str = "fuzz/Cargo.toml";

/// Licences of what is linked into the targets and never into what is shipped.
const OF_FUZZERS: &[(&str, &str, &str)] =
    &[("libfuzzer-sys", "NCSA", "LLVM's own licence at the time: attribution, no more")];

fn locked(manifest: &str) -> Vec<toml::Table> {
    locked_packages(&workspace().join(manifest).with_file_name("Cargo.lock"))
}

#[test]
fn every_workspace_that_is_not_ours_is_known() {
    let mut found = Vec::new();
    for folder in ["", "bench/peers", "crates"] {
        let entries = std::fs::read_dir(workspace().join(folder)).expect("a readable directory");
        let names = entries.map(|entry| entry.expect("a readable entry").file_name().to_string_lossy().into_owned());
        let manifests = names.map(|name| Path::new(folder).join(name).join("Cargo.toml"));
        found.extend(manifests.filter(|path| {
            std::fs::read_to_string(workspace().join(path)).is_ok_and(|text| text.contains("[workspace]"))
        }));
    }
    found.sort();
    assert_eq!(found, BESIDE.iter().map(Path::new).collect::<Vec<_>>());
}

#[test]
fn what_they_bring_in_comes_from_the_registry_with_a_checksum() {
    for manifest in BESIDE {
        assert_from_registry(&locked(manifest));
    }
}

/// A version that only the targets have would be tested in the place of the one that is shipped.
#[test]
fn the_targets_are_built_with_the_versions_that_are_shipped() {
    let name = |package: &toml::Table| package["name"].to_string();
    let version = |package: &toml::Table| package["version"].to_string();
    let ours = locked_packages(&workspace().join("Cargo.lock"));
    let mut findings = Vec::new();
    for package in locked(FUZZ) {
        let mut same = ours.iter().filter(|own| name(own) == name(&package)).peekable();
        if same.peek().is_some() && !same.any(|own| version(own) == version(&package)) {
            findings.push(format!("{} {} (`cargo update` in fuzz/)", name(&package), version(&package)));
        }
        if let Some((_, why)) = BANNED.iter().find(|(banned, _)| package["name"].as_str() == Some(banned)) {
            findings.push(format!("{}: {why}", name(&package)));
        }
    }
    assert!(!ours.iter().any(|own| name(own).contains("libfuzzer")), "the fuzzer came into our own workspace");
    assert_none("fuzz/Cargo.lock is not ours", &findings);
}

#[test]
fn what_the_targets_bring_in_has_a_permitted_licence() {
    let mut metadata = cargo();
    metadata.args(["metadata", "--locked", "--format-version", "1", "--manifest-path", FUZZ]);
    // Only whoever has built the targets has their sources; CI may fetch them.
    if !is_ci() {
        metadata.arg("--offline");
    }
    let metadata = match capture(&mut metadata) {
        Ok(metadata) => metadata,
        Err(error) if error.to_string().contains("--locked") => {
            panic!("fuzz/Cargo.lock is not up to date (`cargo update --workspace` in fuzz/): {error:#}")
        }
        Err(error) => {
            say(&format!("xtask: the licences of fuzz/ were NOT checked: {error:#}"));
            return;
        }
    };
    let metadata: serde_json::Value = serde_json::from_str(&metadata).expect("JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    let mut findings = Vec::new();
    for package in packages.iter().filter(|package| !package["source"].is_null()) {
        let name = text(&package["name"]);
        let is_own = |licence: &str| OF_FUZZERS.iter().any(|(of, own, _)| *of == name && *own == licence);
        let permits = |licence: &str| LICENCES.contains(&licence) || is_own(licence);
        if licence::is_met(&text(&package["license"]), &permits) != Ok(true) {
            findings.push(format!("{name}: {}", package["license"]));
        }
    }
    assert_none("dependencies of fuzz/ without a permitted licence", &findings);
}
