//! Who may import whom: our own crates by the table below, and the outside crates that have one owner.

use super::tree::{assert_none, manifests};
use crate::process::workspace;

/// The rows of the architecture, lowest first. A crate imports from lower rows only.
const ROWS: &[&[&str]] = &[
    &["domain", "host"],
    &["api", "store", "engines", "forge", "channels"],
    &["client", "control"],
    &["tui", "server", "worker"],
    &["pilothouse"],
];

/// Every import there may be. A new edge is a decision, made here and in ARCHITECTURE.md.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("host", &[]),
    ("api", &["domain"]),
    ("store", &["domain", "host"]),
    ("engines", &["domain", "host"]),
    ("forge", &["domain", "host"]),
    ("channels", &["domain", "host"]),
    ("client", &["api", "domain", "host"]),
    // From host only the clock and the ids that a decision's context carries.
    ("control", &["domain", "host", "store"]),
    ("tui", &["api", "client", "domain", "host"]),
    ("server", &["api", "control", "domain", "engines", "host", "store"]),
    ("worker", &["channels", "control", "domain", "engines", "forge", "host", "store"]),
    (
        "pilothouse",
        &[
            "api", "channels", "client", "control", "domain", "engines", "forge", "host", "server", "store", "tui",
            "worker",
        ],
    ),
];

/// Crates beside the rows: they serve tests and people, and nothing of the product imports them.
const BESIDE: &[&str] = &["testkit", "promises", "chaos", "xtask"];

/// Outside crates with an owner, and why. deny.toml says the same of the databases, axum and ratatui to cargo-deny.
struct Owned {
    names: &'static [&'static str],
    owners: &'static [&'static str],
    /// Whether tests of other crates may use it, too.
    free_in_tests: bool,
    why: &'static str,
}

const OWNED: &[Owned] = &[
    Owned {
        names: &["rusqlite", "libsqlite3-sys", "tokio-postgres", "deadpool-postgres", "tokio-postgres-rustls"],
        owners: &["store", "testkit", "chaos"],
        free_in_tests: false,
        why: "all SQL lives in `store`",
    },
    Owned {
        names: &["axum", "tower-http", "utoipa-axum"],
        owners: &["server", "testkit"],
        free_in_tests: true,
        why: "only `server` serves HTTP, and the model server of the tests",
    },
    Owned {
        names: &["utoipa", "schemars"],
        owners: &["api", "server"],
        free_in_tests: true,
        why: "schema derives cost a rebuild and belong to `api`",
    },
    Owned { names: &["ratatui", "crossterm"], owners: &["tui"], free_in_tests: false, why: "only `tui` draws" },
    Owned {
        names: &["clap", "clap_complete"],
        owners: &["pilothouse"],
        free_in_tests: false,
        why: "only the binary has a command line",
    },
    Owned {
        names: &["anyhow"],
        owners: &["pilothouse", "testkit", "chaos", "xtask"],
        free_in_tests: true,
        why: "libraries say what can go wrong with a type",
    },
    Owned {
        names: &["reqwest", "ureq", "hyper-rustls"],
        owners: &["client", "host"],
        free_in_tests: true,
        why: "outgoing HTTP has one door",
    },
    Owned {
        names: &["getrandom", "rand", "fastrand"],
        owners: &["host"],
        free_in_tests: true,
        why: "randomness has one door",
    },
    Owned { names: &["libc", "nix"], owners: &["host"], free_in_tests: true, why: "the kernel has one door" },
];

#[test]
fn the_table_itself_keeps_to_the_rows() {
    let row = |name: &str| ROWS.iter().position(|row| row.contains(&name)).expect("a crate of the rows");
    let mut findings = Vec::new();
    for (importer, imports) in MAY_IMPORT {
        for import in *imports {
            if row(import) >= row(importer) {
                findings.push(format!("{importer} → {import} does not go down"));
            }
        }
    }
    assert_none("a crate imports from lower rows only", &findings);
}

#[test]
fn every_import_is_in_the_table() {
    let manifests = manifests();
    let ours: Vec<&str> = manifests.iter().map(|manifest| manifest.name.as_str()).collect();
    let mut findings = Vec::new();
    for manifest in &manifests {
        if BESIDE.contains(&manifest.name.as_str()) {
            continue;
        }
        let Some((_, may_import)) = MAY_IMPORT.iter().find(|(name, _)| *name == manifest.name) else {
            findings.push(format!("{} has no row: add it to ARCHITECTURE.md and to this table", manifest.name));
            continue;
        };
        for dependency in &manifest.dependencies {
            let name = dependency.name.as_str();
            let permitted = may_import.contains(&name) || (dependency.dev && name == "testkit");
            if ours.contains(&name) && !permitted {
                findings.push(format!("{} → {name}", manifest.name));
            }
        }
    }
    assert_none("imports that are not in the table", &findings);
}

#[test]
fn outside_crates_with_an_owner_are_used_by_it_alone() {
    let mut findings = Vec::new();
    for manifest in manifests() {
        for dependency in &manifest.dependencies {
            let Some(owned) = OWNED.iter().find(|owned| owned.names.contains(&dependency.name.as_str())) else {
                continue;
            };
            let free = dependency.dev && owned.free_in_tests;
            if !free && !owned.owners.contains(&manifest.name.as_str()) {
                findings.push(format!("{} → {}: {}", manifest.name, dependency.name, owned.why));
            }
        }
    }
    assert_none("outside crates used by others than their owner", &findings);
}

#[test]
fn every_crate_obeys_the_lints_of_the_workspace() {
    let mut findings = Vec::new();
    for manifest in manifests() {
        let text = std::fs::read_to_string(&manifest.path).expect("a manifest");
        if !text.contains("[lints]\nworkspace = true") {
            findings.push(manifest.name);
        }
    }
    assert_none("crates without `[lints] workspace = true`", &findings);
}

#[test]
fn a_fresh_clone_builds_for_the_machine_it_is_on() {
    for name in ["rust-toolchain", "rust-toolchain.toml"] {
        assert!(!workspace().join(name).exists(), "{name} would choose a toolchain for everybody");
    }
    let config = std::fs::read_to_string(workspace().join(".cargo/config.toml")).expect("cargo's configuration");
    for line in config.lines().map(str::trim_start) {
        assert!(!line.starts_with("target"), "`{line}` would move or retarget everybody's build");
    }
}
