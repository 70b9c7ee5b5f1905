//! Starting, stopping, crashing, and who is let in beside.

use std::os::unix::fs::PermissionsExt;

use crate::house::{House, block_on};

fn mode(path: &std::path::Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn what_a_server_leaves_for_its_user_is_private_and_gone_when_it_stops() {
    let mut house = House::open();

    assert_eq!(mode(&house.data()), 0o700);
    for name in ["admin.token", "endpoint.json", "pilothouse.db"] {
        assert_eq!(mode(&house.data().join(name)), 0o600, "{name}");
    }
    // The file comes first: whoever waits for it may find the server before its log says so.
    house.wait_for("the log", |house| house.log().contains("listening on http://127.0.0.1:"));

    assert_eq!(house.stop(), Some(0));
    assert!(!house.data().join("endpoint.json").exists());
    assert_eq!(house.run(&["status"]).code, 9);
}

#[test]
fn what_was_accepted_survives_kill_9() {
    let mut house = House::open();
    let token = std::fs::read_to_string(house.data().join("admin.token")).unwrap();
    let waiting = house.say("alice", "run hello", Some("m1")).run_id.unwrap();
    let running = house.say("alice", "run slow", Some("m2")).run_id.unwrap();
    // Before that it is certain that nothing began, and a new attempt would be right.
    house.wait_for("the process", |house| house.processes().contains(&"sleep".to_owned()));

    house.kill();
    house.start();

    assert_eq!(std::fs::read_to_string(house.data().join("admin.token")).unwrap(), token);
    assert_eq!(house.status(&waiting), "AwaitingApproval");
    assert_eq!(house.say("alice", "run hello", Some("m1")).run_id, None);
    assert!(house.say("alice", &format!("yes {waiting}"), Some("m3")).dispatched_execution);
    house.wait_for_status(&waiting, "Succeeded");
    // It was adopted: the same attempt goes on.
    assert_eq!(house.status(&running), "Running");
    let attempts = block_on(house.client().list_attempts(&running)).unwrap();
    assert_eq!(attempts.items.len(), 1);
    block_on(house.client().cancel_run(&running)).unwrap();
    house.wait_for_status(&running, "Canceled");

    house.kill();
    let checked = house.json(&["db", "check", "--fold"]);
    assert_eq!((&checked["sound"], &checked["findings"]), (&true.into(), &serde_json::json!([])));
}

#[test]
fn one_process_owns_the_ledger() {
    let house = House::open();

    for args in [&["up", "--listen", "127.0.0.1:0"][..], &["serve", "--listen", "127.0.0.1:0"], &["db", "check"]] {
        let refused = house.run(args);
        assert_eq!(refused.code, 5, "{args:?}: {refused:?}");
        assert!(refused.stderr.contains("is held by the process with pid"), "{args:?}: {refused:?}");
    }
    let refused = house.run(&["work"]);
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(refused.stderr.contains("--database-url"), "{refused:?}");
    assert_eq!(house.run(&["status"]).code, 0);
}

#[test]
fn a_server_is_found_by_flag_by_environment_and_by_its_endpoint() {
    let house = House::open();
    let url = house.endpoint().unwrap()["url"].as_str().unwrap().to_owned();

    assert_eq!(house.run(&["status"]).code, 0);
    assert_eq!(house.run(&["status", "--server", &url]).code, 0);
    let by_environment = house.command(&["status"]).env("PILOTHOUSE_SERVER_URL", &url).output().unwrap();
    assert!(by_environment.status.success());
    let data = house.data();
    let by_directory =
        house.command(&["status", "--data-dir", data.to_str().unwrap()]).env_remove("PILOTHOUSE_DATA_DIR").output();
    assert!(by_directory.unwrap().status.success());
    let default = house.command(&["status"]).env_remove("PILOTHOUSE_DATA_DIR").output().unwrap();
    assert_eq!(default.status.code(), Some(9));
}

#[test]
fn what_cannot_be_served_is_refused_before_anything_is_written() {
    let house = House::new();
    let refused = |args: &[&str], code: i32, word: &str| {
        let ran = house.run(args);
        assert_eq!(ran.code, code, "{args:?}: {ran:?}");
        assert!(ran.stderr.contains(word), "{args:?}: {ran:?}");
        assert!(!house.data().join("pilothouse.db").exists(), "{args:?}");
    };
    std::fs::write(house.path().join("bad.toml"), "[job.x]\nfoo = 1\n").unwrap();

    refused(&["up", "--listen", "0.0.0.0:0", "--dev-channel"], 2, "not loopback");
    refused(&["up", "--listen", "nonsense"], 2, "ADDRESS:PORT");
    refused(&["up", "--listen", "127.0.0.1:0", "--jobs", "bad.toml"], 2, "bad.toml:2: job.x.foo: unknown key");
    refused(&["up", "--listen", "127.0.0.1:0", "--jobs", "none.toml"], 2, "none.toml");
}

#[test]
fn a_catalog_for_a_channel_that_is_off_loads_with_a_warning() {
    let mut house = House::new();

    house.start_with(&[]);

    assert!(house.log().contains("WARN"), "{}", house.log());
    assert!(house.log().contains("dev"), "{}", house.log());
    let message = house.run(&["job", "list"]);
    assert_eq!(message.code, 0);
}

#[test]
fn a_token_file_that_a_crash_left_is_made_valid() {
    let mut house = House::new();
    let secret = format!("ph_pat_{}_{}", "a".repeat(12), "b".repeat(43));
    std::fs::create_dir(house.data()).unwrap();
    std::fs::write(house.data().join("admin.token"), &secret).unwrap();

    house.start();

    assert_eq!(house.run(&["status"]).code, 0);
    assert_eq!(std::fs::read_to_string(house.data().join("admin.token")).unwrap(), secret);
}

#[test]
fn a_lost_token_is_replaced_while_no_server_runs() {
    let mut house = House::open();
    std::fs::remove_file(house.data().join("admin.token")).unwrap();
    assert_eq!(house.run(&["status"]).code, 4);
    assert_eq!(house.run(&["token", "reset"]).code, 5);
    house.stop();

    let reset = house.run(&["token", "reset"]);

    assert_eq!((reset.code, reset.stdout.as_str()), (0, ""), "{reset:?}");
    house.start();
    assert_eq!(house.run(&["status"]).code, 0);
}
