//! The demo, as the first thing a newcomer runs.

use crate::house::House;

#[test]
fn the_demo_needs_a_terminal_or_a_yes() {
    let house = House::new();

    let refused = house.command(&["demo"]).env("TMPDIR", house.path()).output().unwrap();

    assert_eq!(refused.status.code(), Some(2));
    assert!(refused.stdout.is_empty());
    assert!(String::from_utf8(refused.stderr).unwrap().contains("--yes"));
    let left = std::fs::read_dir(house.path()).unwrap().count();
    assert_eq!(left, 1, "only the catalog is there: nothing was started");
}

#[test]
fn the_demo_runs_to_its_end_and_leaves_nothing() {
    let house = House::new();
    let temporary = house.path().join("tmp");
    std::fs::create_dir(&temporary).unwrap();

    let played = house.command(&["demo", "--yes"]).env("TMPDIR", &temporary).output().unwrap();

    let (stdout, stderr) = (String::from_utf8(played.stdout).unwrap(), String::from_utf8(played.stderr).unwrap());
    assert_eq!(played.status.code(), Some(0), "{stdout}\n{stderr}");
    for word in ["scripted", "self-approval"] {
        assert!(stderr.contains(word), "{word}: {stderr}");
    }
    for word in [
        "the repository's test fails: expected 'Hello, World!', got 'Hello World'",
        "Gate opened",
        "Qa passed: 2 of 2 checks passed",
        "+    printf 'Hello, %s!\\n' \"$1\"",
        "feat(step): 01-fix-the-greeting [protocol-0001/01]",
        "protocol 1: completed",
        "you> run hello",
        "printed: Hello, world!",
        "the protocol completed and the job succeeded",
    ] {
        assert!(stdout.contains(word), "{word}: {stdout}\n{stderr}");
    }
    assert_eq!(std::fs::read_dir(&temporary).unwrap().count(), 0, "the directory is gone");
}

#[test]
fn a_kept_demo_says_where_it_is() {
    let house = House::new();

    let played = house.command(&["demo", "--yes", "--keep"]).env("TMPDIR", house.path()).output().unwrap();

    let stderr = String::from_utf8(played.stderr).unwrap();
    assert!(played.status.success(), "{stderr}");
    let kept = stderr.lines().find_map(|line| line.strip_prefix("kept ")).expect("a line that says where");
    let mut data = std::path::PathBuf::from(kept);
    data.push("data");
    let branch = std::path::Path::new(kept).join("repository/.git/refs/heads/0001-make-the-test-pass");
    assert!(branch.exists(), "the branch was pushed back");
    let checked = house.run(&["--data-dir", data.to_str().unwrap(), "db", "check", "--fold"]);
    assert_eq!(checked.code, 0, "{checked:?}");
}
