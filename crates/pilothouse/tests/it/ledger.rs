//! The ledger's files: checked, backed up, restored.

use crate::house::House;

#[test]
fn a_backup_brings_back_what_was_there() {
    let mut house = House::open();
    let kept = house.say("alice", "run hello", Some("m1")).run_id.unwrap();
    let backup = house.json(&["db", "backup"])["path"].as_str().unwrap().to_owned();
    let lost = house.say("alice", "run hello", Some("m2")).run_id.unwrap();
    assert_eq!(house.run(&["db", "restore", &backup, "--force"]).code, 5);
    house.stop();

    assert_eq!(house.run(&["db", "restore", &backup]).code, 5);
    let restored = house.run(&["db", "restore", &backup, "--force"]);
    assert_eq!(restored.code, 0, "{restored:?}");

    assert_eq!(house.json(&["db", "check", "--fold"])["sound"], true);
    house.start();
    assert_eq!(house.status(&kept), "AwaitingApproval");
    assert_eq!(house.run(&["runs", "get", &lost]).code, 3);
    let names: Vec<String> = std::fs::read_dir(house.data())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(names.iter().any(|name| name.starts_with("pilothouse.db.replaced-")), "{names:?}");
    assert!(!names.iter().any(|name| name.starts_with("restore-")), "{names:?}");
}

#[test]
fn a_cursor_of_before_a_restore_is_refused() {
    let mut house = House::open();
    house.say("alice", "run hello", Some("m1"));
    let cursor = house.json(&["events"])["next_cursor"].as_str().unwrap().to_owned();
    let backup = house.json(&["db", "backup"])["path"].as_str().unwrap().to_owned();
    house.stop();
    assert_eq!(house.run(&["db", "restore", &backup, "--force"]).code, 0);
    house.start();

    let refused = house.run(&["events", "--after", &cursor]);

    assert_eq!(refused.code, 2, "{refused:?}");
}

#[test]
fn a_damaged_ledger_is_refused_with_the_way_back() {
    let mut house = House::open();
    let kept = house.say("alice", "run hello", Some("m1")).run_id.unwrap();
    let backup = house.json(&["db", "backup"])["path"].as_str().unwrap().to_owned();
    house.stop();
    let ledger = house.data().join("pilothouse.db");
    let mut bytes = std::fs::read(&ledger).unwrap();
    let half = bytes.len() / 2;
    bytes[half..].fill(0xaa);
    std::fs::write(&ledger, bytes).unwrap();

    for args in [&["up", "--listen", "127.0.0.1:0"][..], &["db", "check"]] {
        let refused = house.run(args);
        assert_eq!(refused.code, 1, "{args:?}: {refused:?}");
        assert!(
            refused.stderr.contains("is damaged") && refused.stderr.contains("db restore"),
            "{args:?}: {refused:?}"
        );
    }

    assert_eq!(house.run(&["db", "restore", &backup, "--force"]).code, 0);
    house.start();
    assert_eq!(house.status(&kept), "AwaitingApproval");
}

#[test]
fn what_is_no_backup_is_not_restored() {
    let house = House::new();
    std::fs::write(house.path().join("letter"), "dear ledger").unwrap();

    let refused = house.run(&["db", "restore", "letter"]);

    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.contains("letter is no backup"), "{refused:?}");
    assert!(!house.data().join("pilothouse.db").exists());
    assert_eq!(house.run(&["db", "restore", "none"]).code, 3);
    assert_eq!(house.run(&["db", "check"]).code, 3);
}
