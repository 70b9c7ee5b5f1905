use proptest::prelude::*;

use super::*;

fn typed(text: &str) -> TypedRef {
    TypedRef(text.to_owned())
}

fn run(job: &str, args: &[(&str, &str)], reason: Option<&str>) -> Intent {
    Intent::RunJob {
        job: job.to_owned(),
        args: args.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        reason: reason.map(str::to_owned),
    }
}

fn approve(reference: &str, note: Option<&str>) -> Intent {
    Intent::ApproveRun { run: typed(reference), note: note.map(str::to_owned) }
}

fn deny(reference: &str, reason: Option<&str>) -> Intent {
    Intent::DenyRun { run: typed(reference), reason: reason.map(str::to_owned) }
}

#[test]
fn the_inherited_commands_mean_what_they_meant() {
    for (message, intent, number) in [
        ("run demo", run("demo", &[], None), 1),
        ("  RUN  Demo_1-x \n", run("Demo_1-x", &[], None), 1),
        ("run", Intent::Incomplete(Flaw::MissingJob), 1),
        ("yes A1B2C3", approve("A1B2C3", None), 2),
        ("approve a1b2c3", approve("a1b2c3", None), 2),
        ("Yes some_id", approve("some_id", None), 2),
        ("no A1B2C3", deny("A1B2C3", None), 3),
        ("DENY A1B2C3", deny("A1B2C3", None), 3),
        ("status A1B2C3", Intent::Status { run: Some(typed("A1B2C3")) }, 4),
        ("yes", Intent::Unknown, 0),
        ("no", Intent::Unknown, 0),
        ("approve", Intent::Unknown, 0),
        ("hello", Intent::Unknown, 0),
        ("", Intent::Unknown, 0),
        ("yes A1B2C3!", Intent::Unknown, 0),
        ("yesA1B2C3", Intent::Unknown, 0),
        ("run demo please", Intent::Unknown, 0),
        ("run ../x", Intent::Unknown, 0),
        ("please run demo", Intent::Unknown, 0),
        ("status A1B2C3 now", Intent::Unknown, 0),
    ] {
        let read = parse(message);
        assert_eq!(read, intent, "{message:?}");
        assert_eq!(read.kind().number(), number, "{message:?}");
    }
}

#[test]
fn parameters_and_a_reason_follow_the_job() {
    for (message, intent) in [
        ("run deploy env=prod", run("deploy", &[("env", "prod")], None)),
        ("run deploy a=1 b=2 -- fix INC-812", run("deploy", &[("a", "1"), ("b", "2")], Some("fix INC-812"))),
        ("run deploy -- fix", run("deploy", &[], Some("fix"))),
        ("run deploy --", run("deploy", &[], None)),
        ("run deploy \u{2014} fix\tit\n now", run("deploy", &[], Some("fix it now"))),
        ("run d m=\"two words\"", run("d", &[("m", "two words")], None)),
        ("run d m=\u{201c}two words\u{201d} n=1", run("d", &[("m", "two words"), ("n", "1")], None)),
        (r#"run d m="a \"b\" \\c""#, run("d", &[("m", r#"a "b" \c"#)], None)),
        ("run d m=\"\"", run("d", &[("m", "")], None)),
        ("run d m=", run("d", &[("m", "")], None)),
        ("run d m= n=1", run("d", &[("m", ""), ("n", "1")], None)),
        ("run d m=a=b", run("d", &[("m", "a=b")], None)),
        (r"run d m=C:\x", run("d", &[("m", r"C:\x")], None)),
        ("run d m=--force", run("d", &[("m", "--force")], None)),
        ("run d m=\"a -- b\" -- why", run("d", &[("m", "a -- b")], Some("why"))),
        ("run d m=\"a", Intent::Unknown),
        ("run d m=\"a\"b", Intent::Unknown),
        (r#"run d m="\n""#, Intent::Unknown),
        ("run d m=a\"b", Intent::Unknown),
        ("run d =1", Intent::Unknown),
        ("run d m.n=1", Intent::Unknown),
        ("run d m", Intent::Unknown),
    ] {
        assert_eq!(parse(message), intent, "{message:?}");
    }
}

#[test]
fn a_parameter_given_twice_is_named() {
    let intent = parse("run deploy env=prod env=staging");

    assert_eq!(intent, Intent::Incomplete(Flaw::RepeatedParameter { job: "deploy".to_owned(), key: "env".to_owned() }));
    assert_eq!((intent.kind(), intent.job()), (IntentKind::RunJob, Some("deploy")));
}

#[test]
fn a_note_may_follow_only_what_can_be_a_reference() {
    for (message, intent) in [
        ("yes A1B2C3 looks good", approve("A1B2C3", Some("looks good"))),
        ("no j-7q4k2mx not on a Friday", deny("j-7q4k2mx", Some("not on a Friday"))),
        ("yes A1B2C3 \u{202e}drow", approve("A1B2C3", Some("drow"))),
        ("yes A1B2C3 \u{200b}", approve("A1B2C3", None)),
        ("yes, please", Intent::Unknown),
        ("no thanks, not now", Intent::Unknown),
        ("yes we can", Intent::Unknown),
    ] {
        assert_eq!(parse(message), intent, "{message:?}");
    }
}

#[test]
fn the_new_commands_are_read() {
    for (message, intent) in [
        ("status", Intent::Status { run: None }),
        ("HELP", Intent::Help),
        ("help me", Intent::Unknown),
        ("jobs", Intent::Jobs { filter: None }),
        ("jobs  deploy  prod", Intent::Jobs { filter: Some("deploy prod".to_owned()) }),
        ("log A1B2C3", Intent::Log { run: typed("A1B2C3"), lines: None }),
        ("log A1B2C3 50", Intent::Log { run: typed("A1B2C3"), lines: Some(50) }),
        ("log A1B2C3 0", Intent::Unknown),
        ("log A1B2C3 +5", Intent::Unknown),
        ("log A1B2C3 99999999999", Intent::Unknown),
        ("log A1B2C3 5 6", Intent::Unknown),
        ("log", Intent::Incomplete(Flaw::MissingRun { verb: RunVerb::Log })),
        ("cancel A1B2C3", Intent::Cancel { run: typed("A1B2C3") }),
        ("cancel", Intent::Incomplete(Flaw::MissingRun { verb: RunVerb::Cancel })),
        ("cancel A1B2C3 now", Intent::Unknown),
        ("retry A1B2C3", Intent::Retry { run: typed("A1B2C3") }),
        ("retry", Intent::Incomplete(Flaw::MissingRun { verb: RunVerb::Retry })),
    ] {
        assert_eq!(parse(message), intent, "{message:?}");
    }
}

#[test]
fn verbs_of_later_are_recognised_whatever_follows() {
    for verb in LATER_VERBS {
        for message in [verb.to_owned(), verb.to_uppercase(), format!(" {verb} prod \"x")] {
            assert_eq!(parse(&message), Intent::NotAvailable { verb }, "{message}");
        }
    }
}

#[test]
fn every_verb_is_reserved() {
    for verb in LATER_VERBS {
        assert!(VERBS.contains(&verb));
    }
    for verb in VERBS {
        let with_run = parse(&format!("{verb} A1B2C3")).kind();
        assert!(with_run != IntentKind::Unknown || verb == "help", "{verb}");
    }
}

#[test]
fn flaws_are_answered_with_the_inherited_usage() {
    assert_eq!(Flaw::MissingJob.text(), "Missing job key. Usage: run <jobKey>");
    assert_eq!(Flaw::MissingRun { verb: RunVerb::Cancel }.text(), "Missing run id. Usage: cancel <runId>");
}

#[test]
fn hostile_messages_are_unknown() {
    let long = format!("run {}", "a".repeat(201));
    let longer = format!("run d m={}", "a".repeat(9000));
    let many: String = (0..101).map(|n| format!(" p{n}=1")).collect();
    let many = format!("run d{many}");
    let long_id = format!("yes {}", "A".repeat(51));
    for message in [
        "run demo\0",
        "run d\u{e9}mo",
        "run \u{202e}omed",
        "y\u{200b}es A1B2C3",
        "\u{feff}yes A1B2C3",
        "ｙｅｓ A1B2C3",
        "run --upload-pack=x",
        "status ../..",
        "run demo; rm -rf /",
        "run $(id)",
        &long,
        &longer,
        &many,
        &long_id,
    ] {
        assert_eq!(parse(message), Intent::Unknown, "{message:?}");
    }
}

#[test]
fn an_intent_kind_is_its_name_on_the_wire() {
    assert_eq!(serde_json::to_string(&IntentKind::NotAvailable).unwrap(), "\"NotAvailable\"");
    assert_eq!(IntentKind::ApproveRun.name(), "ApproveRun");
}

proptest! {
    #[test]
    fn every_text_is_one_intent_and_rendering_it_settles(message in ".{0,60}") {
        let intent = parse(&message);
        prop_assert_eq!(parse(&intent.to_string()), intent);
    }

    #[test]
    fn what_looks_like_a_command_settles_as_well(
        verb in "(?i:run|yes|approve|no|deny|status|jobs|log|cancel|retry|where)",
        rest in prop::collection::vec(
            "[ \t\n]|[A-Za-z0-9_-]{1,8}|[a-z]{1,3}=|\"|\u{201c}|\u{201d}|\\\\|--|\u{2014}|\u{202e}|\u{0}|é",
            0..12,
        ),
    ) {
        let intent = parse(&format!("{verb} {}", rest.concat()));
        prop_assert_eq!(parse(&intent.to_string()), intent);
    }

    #[test]
    fn any_arguments_survive_being_written_and_read(
        args in prop::collection::btree_map("[a-zA-Z0-9_-]{1,8}", "\\PC{0,12}|[ \"\\\\“”\n]{1,6}", 0..5),
        reason in prop::option::of("[a-z]{1,5}( [a-z]{1,5}){0,3}"),
    ) {
        let intent = Intent::RunJob { job: "deploy".to_owned(), args, reason };
        prop_assert_eq!(parse(&intent.to_string()), intent);
    }
}
