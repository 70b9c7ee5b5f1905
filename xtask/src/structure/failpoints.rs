//! Failpoints: the list and the sources agree, and nothing that is shipped has any.

use super::tree::{assert_none, manifests, sources};
use crate::process::workspace;

const LIST: &str = "crates/host/src/failpoint/points.rs";
const CALL: &str = concat!("host::failpoint", "!(\"");
/// The one crate that switches them on.
const OWNER: &str = "chaos";

#[test]
fn every_failpoint_stands_once_in_the_list_and_once_in_the_sources() {
    let list = std::fs::read_to_string(workspace().join(LIST)).expect("the list of failpoints");
    let mut listed: Vec<String> = list.lines().filter_map(|line| quoted(line.trim(), "point(\"")).collect();
    let mut placed = Vec::new();
    for source in sources() {
        let lines = source.product_lines().filter(|(_, line)| !line.trim_start().starts_with("//"));
        placed.extend(lines.filter_map(|(_, line)| quoted(line, CALL)));
    }
    listed.sort();
    placed.sort();

    assert!(listed.len() >= 60, "only {} failpoints are listed", listed.len());
    assert_eq!(listed, placed, "{LIST} (left) and the sources (right) name different points");
}

#[test]
fn nothing_that_is_shipped_has_failpoints() {
    let mut findings = Vec::new();
    for manifest in manifests() {
        let text = std::fs::read_to_string(&manifest.path).expect("a manifest");
        let table: toml::Table = text.parse().expect("TOML");
        if manifest.name == "host" {
            let default = &table["features"].get("default");
            if default.is_some() {
                findings.push(format!("host has default features: {default:?}"));
            }
        } else if manifest.name != OWNER && text.contains("failpoints") {
            findings.push(format!("{} names the feature", manifest.name));
        }
        for dependency in manifest.dependencies.iter().filter(|dependency| dependency.name == OWNER) {
            findings.push(format!("{} depends on {}", manifest.name, dependency.name));
        }
    }
    assert_none("crates through which a failpoint could be shipped", &findings);
}

/// What stands in quotes behind `start`.
fn quoted(line: &str, start: &str) -> Option<String> {
    let (_, rest) = line.split_once(start)?;
    rest.split('"').next().map(str::to_owned)
}
