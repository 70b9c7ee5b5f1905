use super::*;

/// Tests that drive agents are found by their names alone, so a module that uses agents must carry the name.
#[test]
fn every_test_that_uses_agents_lies_in_a_module_that_can_be_left_out() {
    let mut findings = Vec::new();
    for directory in fs::read_dir(process::workspace().join("crates")).unwrap() {
        let mut waiting = vec![directory.unwrap().path().join("tests")];
        while let Some(path) = waiting.pop() {
            if path.is_dir() {
                waiting.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            } else if fs::read_to_string(&path).is_ok_and(|text| text.contains("Agents::installed()"))
                && !path.components().any(|part| part.as_os_str().to_string_lossy().starts_with("real_agents"))
            {
                findings.push(path);
            }
        }
    }
    assert!(findings.is_empty(), "not in a module `real_agents`: {findings:?}");
}

#[test]
fn every_agent_has_one_exact_version_and_every_package_a_checksum() {
    let manifests = process::workspace().join("crates/testkit/agents");
    let read =
        |name: &str| -> serde_json::Value { serde_json::from_slice(&fs::read(manifests.join(name)).unwrap()).unwrap() };
    let (package, lock) = (read("package.json"), read("package-lock.json"));

    for kind in ["dependencies", "optionalDependencies"] {
        for (name, version) in package[kind].as_object().unwrap() {
            let version = version.as_str().unwrap();
            assert!(version.chars().all(|c| c.is_ascii_digit() || c == '.'), "{name} {version}");
        }
    }
    let packages = lock["packages"].as_object().unwrap();
    assert!(packages.len() > 20);
    for (path, package) in packages.iter().filter(|(path, _)| !path.is_empty()) {
        assert!(package["integrity"].as_str().is_some_and(|sum| sum.starts_with("sha512-")), "{path}");
    }
}
