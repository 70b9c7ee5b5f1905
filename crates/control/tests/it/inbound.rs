//! Jobs by text.

use domain::{grammar::IntentKind, run::RunState};
use store::{EventQuery, Order};

use crate::TestApp;

const JOBS: &str = r#"
[job.demo]
title = "Say hello"
owner = "team:ops"
aliases = ["greet {name}"]
[job.demo.params]
name = { type = "string", pattern = "[a-z]+", default = "world" }
[job.demo.exec]
argv = ["/bin/echo", "hello {{name}}"]
[job.demo.policy]
approve = { of = ["dev:*"] }

[job.pair]
title = "Needs two"
owner = "team:ops"
[job.pair.exec]
argv = ["/bin/true"]
[job.pair.policy]
approve = { of = ["dev:bob", "dev:carol"], quorum = 2 }
"#;

#[tokio::test]
async fn a_job_is_asked_for_approved_and_dispatched() {
    let app = TestApp::start(JOBS).await;

    let asked = app.say("alice", "run demo name=bob -- for the demo").await;
    let run = app.run(&asked).await;
    let approved = app.say("bob", &format!("YES {}", run.id.as_str().to_lowercase())).await;

    assert_eq!(
        (asked.intent, asked.job_key.as_deref(), asked.dispatched_execution),
        (IntentKind::RunJob, Some("demo"), false)
    );
    let first_line = asked.outbound[0].body.lines().next().unwrap().to_owned();
    assert_eq!(first_line, format!("Job \"demo\" is ready. Reply YES {0} to approve or NO {0} to deny.", run.id));
    assert_eq!(run.job.argv, ["/bin/echo", "hello bob"]);
    assert_eq!(
        (approved.intent, approved.job_key.as_deref(), approved.dispatched_execution),
        (IntentKind::ApproveRun, None, true)
    );
    assert_eq!(approved.outbound[0].body, format!("Approved. Starting run {} for job \"demo\"\u{2026}", run.id));
    assert_eq!(app.run(&approved).await.state, RunState::Dispatching { attempt: 1 });
}

#[tokio::test]
async fn a_repeated_message_changes_nothing_and_is_answered_with_nothing() {
    let app = TestApp::start(JOBS).await;

    let first = app.try_say("alice", "run demo", Some("m1")).await.unwrap();
    let again = app.try_say("alice", "run demo", Some("m1")).await.unwrap();

    assert!(first.run_id.is_some());
    assert_eq!(
        (again.intent, again.job_key.as_deref(), again.run_id, again.outbound),
        (IntentKind::RunJob, Some("demo"), None, vec![])
    );
    assert_eq!(app.control.store().list_runs(&[], None, 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn one_message_delivered_many_times_at_once_makes_one_run() {
    let app = TestApp::start(JOBS).await;

    let deliveries: Vec<_> = (0..8).map(|_| app.try_say("alice", "run demo", Some("m1"))).collect();
    let replies = futures_util::future::join_all(deliveries).await;

    let made = replies.iter().filter(|reply| reply.as_ref().unwrap().run_id.is_some()).count();
    assert_eq!(made, 1);
    assert_eq!(app.control.store().list_runs(&[], None, 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn of_approve_and_deny_at_once_one_wins_and_the_other_is_told() {
    let app = TestApp::start(JOBS).await;
    for round in 0..10 {
        let run = app.run(&app.say("alice", "run demo").await).await;
        let (yes, no) = (format!("yes {}", run.id), format!("no {}", run.id));

        let (yes, no) = tokio::join!(app.say("bob", &yes), app.say("carol", &no));

        let state = app.run(&yes).await.state.name();
        let (winner, loser, refusal) = match state {
            "Dispatching" => (yes, no, "Cannot deny"),
            _ => (no, yes, "Cannot approve"),
        };
        assert_eq!(winner.dispatched_execution, state == "Dispatching", "round {round}");
        assert!(!loser.dispatched_execution);
        assert_eq!(loser.outbound[0].body, format!("{refusal} run {} in state {state}.", run.id));
    }
}

#[tokio::test]
async fn a_quorum_counts_people_and_says_how_many_are_missing() {
    let app = TestApp::start(JOBS).await;
    let run = app.run(&app.say("alice", "run pair").await).await;
    let yes = format!("yes {}", run.id);

    assert_eq!(app.answer("bob", &yes).await, format!("Approval 1 of 2 for run {}.", run.id));
    assert_eq!(app.answer("bob", &yes).await, format!("You have approved run {} already: 1 of 2 approvals.", run.id));
    assert_eq!(app.answer("mallory", &yes).await, format!("dev:mallory is not among the approvers of run {}.", run.id));
    assert!(app.say("carol", &yes).await.dispatched_execution);
}

#[tokio::test]
async fn whoever_asked_is_told_which_policy_keeps_them_from_approving() {
    let app = TestApp::start(JOBS).await;
    let run = app.run(&app.say("alice", "run demo").await).await;

    let told = app.answer("alice", &format!("yes {}", run.id)).await;

    assert!(told.contains("policy.approve.distinct_from_requester"), "{told}");
    assert_eq!(app.run(&app.say("alice", &format!("status {}", run.id)).await).await.state.name(), "AwaitingApproval");
}

#[tokio::test]
async fn inherited_answers_are_word_for_word() {
    let app = TestApp::start(JOBS).await;
    let run = app.run(&app.say("alice", "run demo").await).await;

    assert_eq!(app.answer("alice", "run nosuch").await, "Unknown job: nosuch");
    assert_eq!(app.answer("alice", "run").await, "Missing job key. Usage: run <jobKey>");
    assert_eq!(app.answer("alice", "yes ZZZZZZ").await, "Unknown run id: ZZZZZZ");
    assert_eq!(
        app.answer("alice", "sing").await,
        "Unknown command.\nTry:\n- run <jobKey>\n- yes <runId>\n- no <runId>\n- status <runId>"
    );
    assert_eq!(
        app.answer("bob", &format!("status {}", run.id)).await,
        format!("Run {}\nJob: demo\nState: AwaitingApproval\nCreated: 2025-12-27T12:00:00.0000000+00:00", run.id)
    );
    assert_eq!(app.answer("bob", &format!("no {}", run.id)).await, format!("Denied run {} for job \"demo\".", run.id));
    assert_eq!(
        app.answer("bob", &format!("yes {}", run.id)).await,
        format!("Cannot approve run {} in state Denied.", run.id)
    );
    assert_eq!(app.answer("alice", "pause X").await, "The command \"pause\" is not available yet.");
}

#[tokio::test]
async fn an_alias_of_the_catalog_is_a_request_for_its_job() {
    let app = TestApp::start(JOBS).await;

    let asked = app.say("alice", "greet bob").await;

    assert_eq!((asked.intent, asked.job_key.as_deref()), (IntentKind::RunJob, Some("demo")));
    assert_eq!(app.run(&asked).await.job.argv[1], "hello bob");
}

#[tokio::test]
async fn a_gate_that_nobody_answers_counts_as_denied() {
    let app = TestApp::start(JOBS).await;
    let run = app.run(&app.say("alice", "run demo").await).await;

    app.advance(25);
    let told = app.say("bob", &format!("yes {}", run.id)).await;

    assert_eq!(app.run(&told).await.state.name(), "Expired");
    assert!(!told.dispatched_execution);
}

#[tokio::test]
async fn a_changed_job_voids_the_question_and_asks_again() {
    let app = TestApp::start(JOBS).await;
    let asked = app.say("alice", "run demo").await;
    let before = app.run(&asked).await;

    app.advance(1);
    app.control.load_catalog(&JOBS.replace("hello {{name}}", "goodbye {{name}}"), "jobs.toml").await.unwrap();

    let after = app.run(&asked).await;
    assert_eq!(after.job.argv[1], "goodbye world");
    assert_ne!(after.digest, before.digest);
    assert_eq!(after.gates.iter().map(|gate| gate.state.name()).collect::<Vec<_>>(), ["superseded", "open"]);
}

#[tokio::test]
async fn a_change_to_another_job_voids_nothing() {
    let app = TestApp::start(JOBS).await;
    let asked = app.say("alice", "run demo").await;

    app.control.load_catalog(&JOBS.replace("Needs two", "Needs a pair"), "jobs.toml").await.unwrap();

    assert_eq!(app.run(&asked).await.gates.len(), 1);
}

#[tokio::test]
async fn a_waiting_run_is_canceled_by_whoever_it_concerns() {
    let app = TestApp::start(JOBS).await;
    let run = app.run(&app.say("alice", "run demo").await).await;

    assert_eq!(app.answer("alice", &format!("cancel {}", run.id)).await, format!("Run {} was canceled.", run.id));
    assert_eq!(
        app.answer("bob", &format!("yes {}", run.id)).await,
        format!("Cannot approve run {} in state Canceled.", run.id)
    );
}

#[tokio::test]
async fn the_timeline_of_a_run_is_complete_and_ordered() {
    let app = TestApp::start(JOBS).await;
    let run = app.run(&app.say("alice", "run demo").await).await;
    app.say("bob", &format!("yes {}", run.id)).await;

    let query = EventQuery {
        subject: Some(run.subject()),
        project: None,
        step: None,
        kinds: Vec::new(),
        order: Order::Ascending,
        after: None,
        limit: 50,
    };
    let events = app.control.store().list_events(&query).await.unwrap().events;

    let seen: Vec<_> = events.iter().map(|event| (event.kind.as_str(), event.actor.as_str())).collect();
    assert_eq!(
        seen,
        [
            ("RunCreated", "user:dev:alice"),
            ("ApprovalRequested", "user:dev:alice"),
            ("ApprovalGiven", "user:dev:bob"),
            ("RunApproved", "user:dev:bob"),
            ("ExecutionDispatched", "user:dev:bob"),
        ]
    );
}
