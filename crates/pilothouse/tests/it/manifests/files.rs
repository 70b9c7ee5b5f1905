//! The files of `deploy`, and the programs that know their formats, as `cargo xtask test` lends them.
#![expect(clippy::disallowed_methods, reason = "these tests drive the product from outside, as its users do")]

use std::{path::PathBuf, process::Command};

use serde_json::Value;

const DIRECTORY: &str = "PILOTHOUSE_TEST_MANIFESTS";
const MISSING: &str = "PILOTHOUSE_TEST_MANIFESTS_MISSING";

/// A program of the virtual environment.
pub(super) fn program(name: &str) -> PathBuf {
    match std::env::var_os(DIRECTORY).filter(|directory| !directory.is_empty()) {
        Some(directory) => PathBuf::from(directory).join("bin").join(name),
        None => panic!(
            "{}",
            std::env::var(MISSING).unwrap_or_else(|_| format!(
                "{DIRECTORY} must name a virtual environment; `cargo xtask test` makes one"
            ))
        ),
    }
}

pub(super) fn workspace() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// A file or directory of the workspace.
pub(super) fn at(path: &str) -> PathBuf {
    let path = workspace().join(path);
    assert!(path.exists(), "{} is not there", path.display());
    path
}

pub(super) fn text(path: &str) -> String {
    std::fs::read_to_string(at(path)).unwrap()
}

/// The documents of a YAML file, read as Kubernetes and compose read them: with anchors merged, in the words of YAML 1.1.
pub(super) fn documents(path: &str) -> Vec<Value> {
    const READ: &str = "import json, sys, yaml; print(json.dumps([d for d in yaml.safe_load_all(sys.stdin)]))";
    let file = std::fs::File::open(at(path)).unwrap();
    let read = Command::new(program("python")).args(["-c", READ]).stdin(file).output().unwrap();
    assert!(read.status.success(), "{path}: {}", String::from_utf8_lossy(&read.stderr));
    let found: Vec<Value> = serde_json::from_slice(&read.stdout).unwrap();
    assert!(!found.is_empty() && found.iter().all(Value::is_object), "{path} holds something empty");
    found
}

/// The one document of a file.
pub(super) fn document(path: &str) -> Value {
    let mut found = documents(path);
    assert_eq!(found.len(), 1, "{path}");
    found.remove(0)
}

pub(super) const BASE: &str = "deploy/kubernetes/base";
pub(super) const SANDBOX: &str = "deploy/kubernetes/sandbox";
pub(super) const COMPOSE: &str = "deploy/compose.yaml";

/// Every object that `kubectl apply --kustomize deploy/kubernetes/base` makes, but for the generated catalog.
pub(super) fn objects() -> Vec<Value> {
    let kustomization = document(&format!("{BASE}/kustomization.yaml"));
    let resources = kustomization["resources"].as_array().unwrap();
    resources.iter().flat_map(|file| documents(&format!("{BASE}/{}", file.as_str().unwrap()))).collect()
}

/// The same with the patches of `sandbox`.
pub(super) fn sandboxed() -> Vec<Value> {
    let kustomization = document(&format!("{SANDBOX}/kustomization.yaml"));
    assert_eq!(kustomization["resources"], serde_json::json!(["../base"]));
    let mut objects = objects();
    for patch in kustomization["patches"].as_array().unwrap() {
        let patch = document(&format!("{SANDBOX}/{}", patch["path"].as_str().unwrap()));
        let is_meant = |object: &&mut Value| {
            object["kind"] == patch["kind"] && object["metadata"]["name"] == patch["metadata"]["name"]
        };
        merge(objects.iter_mut().find(is_meant).unwrap_or_else(|| panic!("{patch} is of nothing")), &patch);
    }
    objects
}

/// As kustomize merges: objects by key, lists of named things by name.
fn merge(into: &mut Value, patch: &Value) {
    match (into, patch) {
        (Value::Object(into), Value::Object(patch)) => {
            for (key, value) in patch {
                merge(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (Value::Array(into), Value::Array(patch)) if patch.iter().all(|item| item["name"].is_string()) => {
            for item in patch {
                match into.iter_mut().find(|known| known["name"] == item["name"]) {
                    Some(known) => merge(known, item),
                    None => into.push(item.clone()),
                }
            }
        }
        (into, patch) => *into = patch.clone(),
    }
}

/// The objects of a kind.
pub(super) fn of_kind<'v>(objects: &'v [Value], kind: &str) -> Vec<&'v Value> {
    objects.iter().filter(|object| object["kind"] == kind).collect()
}
