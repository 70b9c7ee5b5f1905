//! The API, asked by Schemathesis: whatever its description allows, and much that it does not.
//!
//! All of its checks: no 5xx, nothing but documented statuses, types and bodies, nothing accepted that the description
//! forbids, nothing refused that it allows but with a reason (422), no route without its token. The server does no work itself, so that no made-up
//! address of a repository is ever called.
#![expect(clippy::disallowed_methods, reason = "these tests drive the product from outside, as its users do")]

use std::{path::PathBuf, process::Command};

use serde_json::Value;

use crate::house::House;

const DIRECTORY: &str = "PILOTHOUSE_TEST_SCHEMATHESIS";
const MISSING: &str = "PILOTHOUSE_TEST_SCHEMATHESIS_MISSING";

/// Streams do not end, and the token that asks must not be revoked on the way.
const LEFT_OUT: &str = "/stream$|^/attempts/[^/]+/events$|/actions/revoke$";

/// What no schema can say is refused with 422 too: a cursor of another list, a key that was used for something else, a
/// name that is taken.
const CHECKS: &str = "[checks.positive_data_acceptance]\n\
    expected-statuses = [\"2xx\", \"401\", \"403\", \"404\", \"409\", \"422\"]\n";

fn program() -> PathBuf {
    match std::env::var_os(DIRECTORY).filter(|directory| !directory.is_empty()) {
        Some(directory) => PathBuf::from(directory).join("bin/schemathesis"),
        None => panic!(
            "{}",
            std::env::var(MISSING).unwrap_or_else(|_| format!(
                "{DIRECTORY} must name a virtual environment; `cargo xtask test` makes one"
            ))
        ),
    }
}

/// Asks with ids as they come to its mind, or with these, by the beginning of the path.
fn ask(house: &House, ids: &[(&str, String)], examples: u32) {
    let mut configuration = CHECKS.to_owned();
    for (path, id) in ids {
        configuration += &format!("[[operations]]\ninclude-path-regex = '^{path}/'\nparameters = {{ id = {id} }}\n");
    }
    let file = house.path().join("schemathesis.toml");
    std::fs::write(&file, configuration).unwrap();
    // Other tests know seeds in words.
    let seed = std::env::var("SEED").ok().filter(|seed| seed.parse::<u32>().is_ok()).unwrap_or_else(|| "1".to_owned());
    let url = house.endpoint().expect("a server")["url"].as_str().unwrap().to_owned();

    let asked = Command::new(program())
        .current_dir(house.path())
        .env("HYPOTHESIS_STORAGE_DIRECTORY", house.path().join("hypothesis"))
        .arg("--config-file")
        .arg(&file)
        .args(["run", &format!("{url}/openapi.json"), "--checks", "all", "--continue-on-failure", "--no-color"])
        .args(["--header", &format!("Authorization: Bearer {}", house.token())])
        .args(["--exclude-path-regex", LEFT_OUT, "--suppress-health-check", "all", "--warnings", "off"])
        .args(["--request-timeout", "30", "--seed", &seed, "--max-examples", &examples.to_string()])
        .output()
        .unwrap();

    let said = String::from_utf8_lossy(&asked.stdout).into_owned();
    let cases = said.lines().find(|line| line.contains(" generated, ")).unwrap_or("nothing was asked");
    eprintln!("seed {seed}:{cases}");
    assert!(asked.status.success(), "{said}\n{}\n{}", String::from_utf8_lossy(&asked.stderr), house.log());
    assert!(cases.contains(" generated, "), "{said}");
}

#[test]
fn every_answer_is_as_the_description_says() {
    let mut house = House::new();
    house.start_as("serve", &["--dev-channel"]);

    ask(&house, &[], 12);

    assert!(house.stop().is_some_and(|code| code == 0), "{}", house.log());
}

#[test]
fn it_is_so_for_what_exists_too() {
    let mut house = House::new();
    house.start_as("serve", &["--dev-channel"]);
    let run = house.say("ada", "run hello", None).run_id.unwrap();
    let text = |value: &str| Value::from(value).to_string();
    let project = house.json(&["project", "add", "https://127.0.0.1:9/tools.git"])["id"].to_string();

    ask(&house, &[("/runs", text(&run)), ("/gates", text(&run)), ("/projects", project)], 25);

    // It may have canceled the run by now, but not lost it.
    assert!(!house.status(&run).is_empty());
    assert!(house.stop().is_some_and(|code| code == 0), "{}", house.log());
}
