use proptest::prelude::*;

use super::*;

#[test]
fn inherited_texts_are_exact() {
    let created = Timestamp::from_micros(1_766_866_530_123_456);
    for (text, expected) in [
        (run_created("demo", "A1B2C3"), "Job \"demo\" is ready. Reply YES A1B2C3 to approve or NO A1B2C3 to deny."),
        (approved_starting("demo", "A1B2C3"), "Approved. Starting run A1B2C3 for job \"demo\"…"),
        (run_succeeded("A1B2C3", "done"), "Run A1B2C3 succeeded: done"),
        (run_failed("A1B2C3", "exit 1"), "Run A1B2C3 failed: exit 1"),
        (denied("demo", "A1B2C3"), "Denied run A1B2C3 for job \"demo\"."),
        (
            status("A1B2C3", "demo", "AwaitingApproval", created),
            "Run A1B2C3\nJob: demo\nState: AwaitingApproval\nCreated: 2025-12-27T20:15:30.1234560+00:00",
        ),
        (wrong_state("approve", "A1B2C3", "Denied"), "Cannot approve run A1B2C3 in state Denied."),
        (wrong_state("deny", "A1B2C3", "Running"), "Cannot deny run A1B2C3 in state Running."),
        (wrong_state("start", "A1B2C3", "Denied"), "Cannot start run A1B2C3 in state Denied."),
        (wrong_state("complete", "A1B2C3", "Denied"), "Cannot complete run A1B2C3 in state Denied."),
        (unknown_run("XYZ"), "Unknown run id: XYZ"),
        (unknown_job("nope"), "Unknown job: nope"),
        (missing_job_key(), "Missing job key. Usage: run <jobKey>"),
        (missing_run_id("yes"), "Missing run id. Usage: yes <runId>"),
        (unknown_command(), "Unknown command.\nTry:\n- run <jobKey>\n- yes <runId>\n- no <runId>\n- status <runId>"),
        (execution_for_unknown_run("start", "A1B2C3"), "Error: Cannot start execution for unknown run A1B2C3."),
        (execution_for_unknown_run("complete", "A1B2C3"), "Error: Cannot complete execution for unknown run A1B2C3."),
        (not_available("lock"), "The command \"lock\" is not available yet."),
    ] {
        assert_eq!(text, expected);
    }
}

#[test]
fn inherited_keys_are_exact() {
    for (key, expected) in [
        (approval_request_key("A1B2C3"), "approval-request:A1B2C3"),
        (approved_starting_key("A1B2C3"), "approved-starting:A1B2C3"),
        (execution_completed_key("A1B2C3"), "execution-completed:A1B2C3"),
        (execution_started_error_key("A1B2C3"), "execution-started-error:A1B2C3"),
        (execution_started_error_state_key("A1B2C3"), "execution-started-error-state:A1B2C3"),
        (execution_completed_error_key("A1B2C3"), "execution-completed-error:A1B2C3"),
        (execution_completed_error_state_key("A1B2C3"), "execution-completed-error-state:A1B2C3"),
        (reply_key("dev", "m1"), "reply:dev:m1"),
    ] {
        assert_eq!(key, expected);
    }
}

#[test]
fn help_names_every_command() {
    for verb in ["run", "yes", "no", "status", "jobs", "log", "cancel", "retry", "help"] {
        assert!(help().lines().any(|line| line.split(' ').nth(1) == Some(verb)), "{verb}");
    }
}

#[test]
fn an_approval_request_shows_what_will_run_and_who_decides() {
    let catalog = crate::catalog::Catalog::parse(
        r#"
        [job.deploy]
        title = "Deploy {{service}} to prod"
        owner = "team:platform"
        [job.deploy.params]
        service = { type = "string" }
        [job.deploy.exec]
        argv = ["./deploy.sh", "{{service}}", "it's"]
        cwd = "path:/srv/ops"
        [job.deploy.policy]
        approve = { of = ["person:ada", "dev:*"], quorum = 2 }
        "#,
        "jobs.toml",
    )
    .unwrap();
    let args = [("service".to_owned(), "the api".to_owned())].into();
    let work = catalog.find("deploy").unwrap().bind(&args).unwrap();
    let request = ApprovalRequest {
        run: "A1B2C3",
        work: &work,
        digest: work.digest(),
        requested_by: "dev:bob",
        reason: Some("INC-812\n\u{202e}now"),
        approved_by: &["ada".to_owned()],
        deadline: Timestamp::from_micros(1_766_866_530_123_456),
    };

    let expected = format!(
        "Job \"deploy\" is ready. Reply YES A1B2C3 to approve or NO A1B2C3 to deny.\n\
         Deploy the api to prod\n\
         asked by dev:bob (reason: INC-812 now)\n\
         $ ./deploy.sh 'the api' 'it'\\''s'\n\
         in /srv/ops\n\
         approvals 1 of 2 (ada) from person:ada, dev:*; whoever asked does not count\n\
         digest {}\n\
         expires 2025-12-27 20:15:30 UTC, then DENIED",
        work.digest().short()
    );
    assert_eq!(approval_request(&request), expected);
}

#[test]
fn hidden_characters_are_shown_as_escapes() {
    assert_eq!(printable("a\u{202e}b\nc\0 é😀"), "a\\u{202e}b\\u{a}c\\u{0} é😀");
}

proptest! {
    #[test]
    fn a_note_is_one_clean_line_and_stays_so(text in ".{0,600}|[\\s\\x00a\u{202e}]{0,700}") {
        let once = note(&text);
        prop_assert!(!once.chars().any(is_hidden));
        prop_assert!(once.chars().count() <= MAX_NOTE);
        prop_assert_eq!(note(&once), once);
    }
}
