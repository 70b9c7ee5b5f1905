//! The workspace's files and manifests, as the checks see them.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::process::{capture, cargo, workspace};

/// One Rust source file.
pub(super) struct Source {
    /// Relative to the workspace, with forward slashes.
    pub(super) path: String,
    pub(super) text: String,
}

impl Source {
    /// The crate's directory name; `xtask` for this one.
    pub(super) fn package(&self) -> &str {
        let path = self.path.strip_prefix("crates/").unwrap_or(&self.path);
        path.split('/').next().unwrap_or_default()
    }

    /// Whether the whole file serves tests, benchmarks or examples.
    pub(super) fn is_test(&self) -> bool {
        let parts: Vec<&str> = self.path.split('/').collect();
        parts.iter().any(|part| ["tests", "tests.rs", "benches", "examples"].contains(part))
    }

    /// The numbered lines that are part of the product: nothing from an inline test module on, and no comments.
    pub(super) fn product_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines: Vec<&str> = self.text.lines().collect();
        let end = lines.windows(2).position(|pair| pair[0].trim() == "#[cfg(test)]" && pair[1].ends_with('{'));
        let end = if self.is_test() { 0 } else { end.unwrap_or(lines.len()) };
        let numbered = lines.into_iter().take(end).enumerate().map(|(index, line)| (index + 1, line));
        numbered.filter(|(_, line)| !line.trim_start().starts_with("//"))
    }
}

/// Every Rust source file of the workspace.
pub(super) fn sources() -> Vec<Source> {
    let root = workspace();
    let mut found = Vec::new();
    for directory in ["crates", "xtask", "fuzz/src", "fuzz/fuzz_targets"] {
        collect(&root, &root.join(directory), &mut found);
    }
    found.sort_by(|left, right| left.path.cmp(&right.path));
    assert!(found.len() > 10, "only {} source files found below {}", found.len(), root.display());
    found
}

fn collect(root: &Path, directory: &Path, found: &mut Vec<Source>) {
    let entries = fs::read_dir(directory).expect("a readable directory");
    for path in entries.map(|entry| entry.expect("a readable entry").path()) {
        if path.is_dir() {
            collect(root, &path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let relative: PathBuf = path.strip_prefix(root).expect("below the root").components().collect();
            let text = fs::read_to_string(&path).expect("UTF-8 source");
            found.push(Source { path: relative.display().to_string(), text });
        }
    }
}

/// What one manifest asks for.
pub(super) struct Manifest {
    pub(super) name: String,
    pub(super) path: PathBuf,
    pub(super) dependencies: Vec<Dependency>,
}

pub(super) struct Dependency {
    pub(super) name: String,
    /// For tests only, as against the product and its build scripts.
    pub(super) dev: bool,
}

/// The workspace's own manifests. Cargo reads them, so that renamed and target-specific dependencies are seen too.
pub(super) fn manifests() -> Vec<Manifest> {
    let metadata = metadata(&["--no-deps"]);
    let packages = metadata["packages"].as_array().expect("packages");
    packages.iter().map(Manifest::parse).collect()
}

impl Manifest {
    fn parse(package: &Value) -> Manifest {
        let dependencies = package["dependencies"].as_array().expect("dependencies");
        let dependency = |entry: &Value| Dependency { name: text(&entry["name"]), dev: entry["kind"] == "dev" };
        Manifest {
            name: text(&package["name"]),
            path: PathBuf::from(text(&package["manifest_path"])),
            dependencies: dependencies.iter().map(dependency).collect(),
        }
    }
}

pub(super) fn metadata(arguments: &[&str]) -> Value {
    let mut command = cargo();
    command.args(["metadata", "--locked", "--format-version", "1"]).args(arguments);
    serde_json::from_str(&capture(&mut command).expect("cargo metadata")).expect("JSON")
}

pub(super) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Fails with every finding, not only the first.
pub(super) fn assert_none(rule: &str, findings: &[String]) {
    assert!(findings.is_empty(), "{rule}:\n  {}\n", findings.join("\n  "));
}
