//! What comes in from outside: licences, sources and bans, judged over `cargo metadata` on every machine. deny.toml
//! says the same to cargo-deny, where that is installed.

use std::path::Path;

use serde_json::Value;

use super::licence;
use super::tree::{assert_none, metadata, text};
use crate::process::{capture, is_ci, workspace};

const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Licences that ask for nothing but attribution. `the_two_lists_agree` compares them with deny.toml.
pub(super) const LICENCES: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Zlib",
];

/// Crates that must not come in by any way, and why.
pub(super) const BANNED: &[(&str, &str)] = &[
    ("openssl", "TLS is rustls with ring"),
    ("openssl-sys", "TLS is rustls with ring; this one needs a system library"),
    ("native-tls", "TLS is rustls with ring"),
    ("aws-lc-rs", "TLS is rustls with ring; this one costs a long C build"),
    ("aws-lc-sys", "TLS is rustls with ring; this one costs a long C build"),
    ("cmake", "building needs a C compiler and nothing more"),
    ("bindgen", "building needs a C compiler and nothing more, no libclang"),
    ("chrono", "time is jiff"),
    ("time", "time is jiff"),
    ("serde_yaml", "archived"),
    ("async-std", "the runtime is tokio"),
];

#[test]
fn every_dependency_has_a_permitted_licence() {
    let permits = |name: &str| LICENCES.contains(&name);
    let mut findings = Vec::new();
    for package in outside_packages() {
        let name = format!("{} {}", text(&package["name"]), text(&package["version"]));
        match licence::is_met(&text(&package["license"]), &permits) {
            Ok(true) => {}
            Ok(false) => findings.push(format!("{name}: {}", package["license"])),
            Err(error) => findings.push(format!("{name}: {error}")),
        }
    }
    assert_none("dependencies without a permitted licence", &findings);
}

/// The packages that a build here brings in, or in CI those of every platform. The former need no network after a
/// build; the latter may fetch what other systems need.
fn outside_packages() -> Vec<Value> {
    let host = capture(std::process::Command::new("rustc").arg("-vV")).expect("rustc");
    let host = host.lines().find_map(|line| line.strip_prefix("host: ")).expect("a host");
    let metadata = if is_ci() { metadata(&[]) } else { metadata(&["--filter-platform", host]) };
    let packages = metadata["packages"].as_array().expect("packages");
    let outside: Vec<Value> = packages.iter().filter(|package| !package["source"].is_null()).cloned().collect();
    assert!(outside.len() > 50, "only {} outside packages: the listing is wrong", outside.len());
    outside
}

#[test]
fn every_dependency_comes_from_the_registry_with_a_checksum() {
    assert_from_registry(&locked_packages(&workspace().join("Cargo.lock")));
}

pub(super) fn assert_from_registry(packages: &[toml::Table]) {
    let findings = packages.iter().filter_map(|package| {
        let source = package.get("source")?;
        let is_known = source.as_str() == Some(REGISTRY) && package.contains_key("checksum");
        (!is_known).then(|| format!("{} from {source}", package["name"]))
    });
    assert_none("dependencies from elsewhere than crates.io", &findings.collect::<Vec<_>>());
}

#[test]
fn no_banned_crate_comes_in() {
    let mut findings = Vec::new();
    for package in locked_packages(&workspace().join("Cargo.lock")) {
        if let Some((name, why)) = BANNED.iter().find(|(name, _)| package["name"].as_str() == Some(name)) {
            findings.push(format!("{name}: {why} (`cargo tree -i {name} --target all` says who brings it)"));
        }
    }
    assert_none("banned crates", &findings);
}

/// Everything in a Cargo.lock, for whatever platform.
pub(super) fn locked_packages(lock: &Path) -> Vec<toml::Table> {
    let lock = std::fs::read_to_string(lock).expect("Cargo.lock");
    let lock: toml::Table = lock.parse().expect("TOML");
    let packages = lock["package"].as_array().expect("packages");
    packages.iter().map(|package| package.as_table().expect("a package").clone()).collect()
}

#[test]
fn the_two_lists_agree() {
    let deny = std::fs::read_to_string(workspace().join("deny.toml")).expect("deny.toml");
    let deny: toml::Table = deny.parse().expect("TOML");
    let strings = |list: &toml::Value, key: &str| {
        let entries = list.as_array().expect("a list").iter();
        let entries = entries.map(|entry| entry.get(key).unwrap_or(entry).as_str().expect("a string").to_owned());
        let mut entries: Vec<String> = entries.collect();
        entries.sort();
        entries
    };
    assert_eq!(strings(&deny["licenses"]["allow"], "name"), LICENCES);

    // Crates with an owner stand in the same list as those with none.
    let (owned, banned): (Vec<_>, Vec<_>) = deny["bans"]["deny"]
        .as_array()
        .expect("a list")
        .iter()
        .cloned()
        .partition(|entry| entry.get("wrappers").is_some());
    let mut expected: Vec<&str> = BANNED.iter().map(|(name, _)| *name).collect();
    expected.sort_unstable();
    assert_eq!(strings(&toml::Value::Array(banned), "crate"), expected);
    assert!(!owned.is_empty(), "deny.toml names no crate with an owner");
}
