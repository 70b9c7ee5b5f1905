//! Held to the schemas of Kubernetes and of compose, strictly: a field that they do not know is an error.
#![expect(clippy::disallowed_methods, reason = "these tests drive the product from outside, as its users do")]

use std::{
    ffi::OsString,
    path::Path,
    process::{Command, Output},
};

use serde_json::{Value, json};

use super::files::{self, BASE, COMPOSE, SANDBOX};

/// The oldest Kubernetes that the manifests are for, and the newest that the validator knows.
const KUBERNETES: [&str; 2] = ["1.33", "1.37"];

fn said(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat()
}

/// Whether every object is as this version describes it, and what is said of those that are not.
fn check_objects(objects: &[Value], version: &str) -> Result<(), String> {
    let dir = tempfile::tempdir().unwrap();
    let mut validate = Command::new(files::program("kubernetes-validate"));
    validate.args(["--strict", "--kubernetes-version", version]);
    for (number, object) in objects.iter().enumerate() {
        let path = dir.path().join(format!("{number}.yaml"));
        std::fs::write(&path, object.to_string()).unwrap();
        validate.arg(path);
    }
    let checked = validate.output().unwrap();
    let text = said(&checked);
    // What it has no schema for it only warns of.
    if checked.status.success() && text.matches("passed").count() == objects.len() { Ok(()) } else { Err(text) }
}

#[test]
fn the_objects_are_what_kubernetes_takes() {
    for objects in [files::objects(), files::sandboxed()] {
        assert!(objects.len() >= 14, "{}", objects.len());
        for version in KUBERNETES {
            check_objects(&objects, version).unwrap_or_else(|text| panic!("{version}: {text}"));
        }
    }
}

#[test]
fn a_misspelt_or_wrong_field_is_found_wherever_it_stands() {
    type Spoil = fn(&mut Value);
    let cases: [(&str, &str, Spoil); 6] = [
        ("Deployment", "a field of the pod", |it| it["spec"]["template"]["spec"]["enableServiceLink"] = json!(false)),
        ("Deployment", "a field of a probe", |it| {
            it["spec"]["template"]["spec"]["containers"][0]["livenessProbe"]["httpGet"]["pathh"] = json!("/");
        }),
        ("StatefulSet", "a number as a text", |it| {
            it["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = json!("660");
        }),
        ("HorizontalPodAutoscaler", "a metric without its source", |it| {
            it["spec"]["metrics"][0]["external"].as_object_mut().unwrap().remove("metric");
        }),
        ("NetworkPolicy", "a list as one thing", |it| it["spec"]["policyTypes"] = json!("Egress")),
        ("PodDisruptionBudget", "a version that there is not", |it| it["apiVersion"] = json!("policy/v9")),
    ];
    for (kind, what, spoil) in cases {
        let mut objects = files::objects();
        spoil(objects.iter_mut().find(|object| object["kind"] == kind).unwrap());
        assert!(check_objects(&objects, KUBERNETES[0]).is_err(), "{kind}: {what} passed");
    }
}

fn check_compose(file: &Path) -> Output {
    Command::new(files::program("check-jsonschema"))
        .args(["--builtin-schema", "vendor.compose-spec"])
        .arg(file)
        .output()
        .unwrap()
}

#[test]
fn the_compose_files_are_what_compose_takes() {
    for path in [COMPOSE, "deploy/compose.sandbox.yaml"] {
        let checked = check_compose(&files::at(path));
        assert!(checked.status.success(), "{path}: {}", said(&checked));
    }
    type Spoil = fn(&mut Value);
    let cases: [(&str, Spoil); 4] = [
        ("a field of a service", |it| it["services"]["api-1"]["read_onyl"] = json!(true)),
        ("a field of a health check", |it| it["services"]["postgres"]["healthcheck"]["retires"] = json!(3)),
        ("a field at the top", |it| it["volume"] = json!({})),
        ("a wrong type", |it| it["services"]["worker-1"]["command"] = json!({"work": true})),
    ];
    let dir = tempfile::tempdir().unwrap();
    for (what, spoil) in cases {
        let mut compose = files::document(COMPOSE);
        spoil(&mut compose);
        let file = dir.path().join("compose.yaml");
        std::fs::write(&file, compose.to_string()).unwrap();
        assert!(!check_compose(&file).status.success(), "{what} passed");
    }
}

#[test]
fn whatever_compose_and_kustomize_name_is_there() {
    let compose = files::document(COMPOSE);
    for config in compose["configs"].as_object().unwrap().values() {
        files::at(&format!("deploy/{}", config["file"].as_str().unwrap()));
    }
    let (services, volumes) = (&compose["services"], compose["volumes"].as_object().unwrap());
    for (name, service) in services.as_object().unwrap() {
        for volume in service["volumes"].as_array().unwrap() {
            let volume = volume.as_str().unwrap().split(':').next().unwrap();
            assert!(volumes.contains_key(volume), "{name}: {volume}");
        }
        for (kind, known) in [("secrets", &compose["secrets"]), ("configs", &compose["configs"])] {
            for used in service[kind].as_array().into_iter().flatten() {
                let source = used["source"].as_str().or(used.as_str()).unwrap();
                assert!(known[source].is_object(), "{name}: {source}");
            }
        }
    }
    for directory in [BASE, SANDBOX] {
        let kustomization = files::document(&format!("{directory}/kustomization.yaml"));
        let known = ["apiVersion", "kind", "namespace", "resources", "patches", "configMapGenerator", "images"];
        for key in kustomization.as_object().unwrap().keys() {
            assert!(known.contains(&key.as_str()), "{directory}: {key}");
        }
        let mut named: Vec<String> = Vec::new();
        for list in ["resources", "patches"] {
            for item in kustomization[list].as_array().into_iter().flatten() {
                named.push(item["path"].as_str().or(item.as_str()).unwrap().to_owned());
            }
        }
        for file in &named {
            files::at(&format!("{directory}/{file}"));
        }
        // A manifest that is named nowhere would be applied by nobody.
        named.extend(["kustomization.yaml".to_owned(), "prometheus-adapter.yaml".to_owned()]);
        for entry in std::fs::read_dir(files::at(directory)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            assert!(!name.ends_with(".yaml") || named.contains(&name), "{directory}/{name} is named nowhere");
        }
    }
}

#[test]
fn kustomize_makes_the_same_of_it() {
    let Some(kubectl) =
        host::process::find_program("kubectl".as_ref(), host::env::var("PATH").map(OsString::from).as_deref(), None)
    else {
        eprintln!("kubectl is not here: what kustomize makes of the files was NOT compared, only what they say");
        return;
    };
    for (directory, expected) in [(BASE, files::objects()), (SANDBOX, files::sandboxed())] {
        let built = Command::new(&kubectl).arg("kustomize").arg(files::at(directory)).output().unwrap();
        assert!(built.status.success(), "{directory}: {}", said(&built));
        let text = String::from_utf8(built.stdout).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &text).unwrap();
        for version in KUBERNETES {
            let checked = Command::new(files::program("kubernetes-validate"))
                .args(["--strict", "--kubernetes-version", version])
                .arg(file.path())
                .output()
                .unwrap();
            assert!(checked.status.success(), "{directory}: {}", said(&checked));
            // The catalog is generated; everything else stands in the files.
            assert_eq!(said(&checked).matches("passed").count(), expected.len() + 1, "{directory}");
        }
    }
}
