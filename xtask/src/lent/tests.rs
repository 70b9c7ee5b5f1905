use super::*;

const KIND: Kind = Kind {
    what: "robots",
    directory: "PILOTHOUSE_TEST_ROBOTS",
    missing: "PILOTHOUSE_TEST_ROBOTS_MISSING",
    flag: "--no-robots",
    tests: "robots::",
    fetch: || Ok(Err("there are no robots".to_owned())),
};

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn left_out_tests_are_skipped_by_name_so_that_they_are_counted() {
    for (given, expected) in [
        ("--no-robots", "-- --skip robots::"),
        ("-p worker --no-robots", "-p worker -- --skip robots::"),
        ("--no-robots -p worker -- --nocapture", "-p worker -- --nocapture --skip robots::"),
    ] {
        let (mut arguments, mut command) = (words(given), Command::new("cargo"));

        let lent = KIND.prepare(&mut arguments).unwrap();
        lent.lend(&mut command, &mut arguments);

        assert_eq!(arguments, words(expected), "{given}");
        assert_eq!(command.get_envs().count(), 0);
    }
}

#[test]
fn a_flag_for_the_test_programs_is_not_the_task_s() {
    let (mut arguments, mut command) = (words("-- --no-robots"), Command::new("cargo"));

    let lent = KIND.prepare(&mut arguments).unwrap();
    lent.lend(&mut command, &mut arguments);

    assert_eq!(arguments, words("-- --no-robots"));
    let told = command.get_envs().find(|(name, _)| *name == KIND.missing).and_then(|(_, value)| value);
    assert_eq!(told, Some("there are no robots".as_ref()));
}

#[test]
fn their_tests_can_run_apart_from_all_others() {
    let lent = KIND.prepare(&mut Vec::new()).unwrap();
    assert_eq!(lent.others(), words("-- --skip robots::"));
    assert_eq!(lent.alone(4), words("--tests robots:: -- --test-threads=4"));
    assert!(lent.are_of(&KIND));
    let left_out = KIND.prepare(&mut words("--no-robots")).unwrap();
    assert!(!left_out.are_of(&KIND));
}
