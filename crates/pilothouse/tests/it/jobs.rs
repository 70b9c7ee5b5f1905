//! A job from request to result, by command line and by text.

use crate::house::{House, block_on};

#[test]
fn a_run_is_asked_for_approved_and_watched_from_the_command_line() {
    let house = House::open();

    let asked = house.json(&["run", "owned", "--reason", "to see it"]);
    let run = asked["id"].as_str().unwrap().to_owned();
    assert_eq!(asked["schema"], "pilothouse.run/v1");
    assert_eq!((&asked["status"], &asked["reason"]), (&"AwaitingApproval".into(), &"to see it".into()));
    let gates = house.json(&["gate", "list"]);
    assert_eq!(gates["schema"], "pilothouse.gates/v1");
    assert_eq!(gates["items"][0]["run_id"], run);

    let gate = house.json(&["yes", &run.to_lowercase(), "looks", "good"]);
    assert_eq!(gate["status"], "approved");
    assert_eq!(gate["approvals"][0]["note"], "looks good");

    house.wait_for_status(&run, "Succeeded");
    assert_eq!(house.json(&["status", &run])["status"], "Succeeded");
    let logs = house.run(&["attempt", "logs", &run, "-f"]);
    assert_eq!((logs.code, logs.stdout.as_str()), (0, "owned\n"));
    let shown = house.run(&["runs", "get", &run]);
    for event in ["RunCreated", "ApprovalRequested", "RunApproved", "ExecutionDispatched", "ExecutionSucceeded"] {
        assert!(shown.stdout.contains(event), "{event} in {}", shown.stdout);
    }
    assert_eq!(house.json(&["runs", "--status", "Succeeded"])["items"][0]["id"], run);
    let events = house.json(&["events", "--subject", &format!("run:{run}")]);
    assert_eq!(events["items"][0]["type"], "RunCreated");
    assert!(events["next_cursor"].is_string());
}

#[test]
fn a_run_goes_by_text_from_request_to_result() {
    let house = House::open();

    let asked = house.say("alice", "run hello name=Bob", Some("m1"));
    let run = asked.run_id.clone().unwrap();
    assert_eq!((asked.intent_type.as_str(), asked.job_key.as_deref()), ("RunJob", Some("hello")));
    let first = asked.outbound[0].body.lines().next().unwrap_or_default();
    assert_eq!(first, format!("Job \"hello\" is ready. Reply YES {run} to approve or NO {run} to deny."));

    let repeated = house.say("alice", "run hello name=Bob", Some("m1"));
    assert_eq!((repeated.run_id, repeated.outbound.len()), (None, 0));

    let approved = house.say("alice", &format!("yes {run}"), Some("m2"));
    assert!(approved.dispatched_execution);

    house.wait_for_status(&run, "Succeeded");
    let timeline = block_on(house.client().get_run(&run)).unwrap();
    let kinds: Vec<_> = timeline.events.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(
        kinds,
        [
            "RunCreated",
            "ApprovalRequested",
            "RunApproved",
            "ExecutionDispatched",
            "ExecutionStarted",
            "ExecutionSucceeded"
        ]
    );
    assert_eq!(house.run(&["attempt", "logs", &run]).stdout, "Hello, Bob!\n");
}

#[test]
fn exit_codes_tell_how_it_ended() {
    let house = House::open();
    let code = |args: &[&str]| house.run(args).code;

    assert_eq!(code(&["run", "now", "--wait"]), 0);
    assert_eq!(code(&["run", "broken", "--wait"]), 1);
    assert_eq!(code(&["run", "now", "name"]), 2);
    assert_eq!(code(&["run", "hello", "name=not a name"]), 2);
    assert_eq!(code(&["runs", "get", "ZZZZZZZ"]), 3);
    assert_eq!(code(&["run", "nothing"]), 3);
    assert_eq!(code(&["run", "hello", "--wait=50ms"]), 10);
    assert_eq!(code(&["run", "slow", "--wait=50ms"]), 6);
    assert_eq!(code(&["run", "slow", "--wait="]), 2);
    assert_eq!(code(&["run", "slow", "--wait=soon"]), 2);
    assert_eq!(code(&["--server", "http://127.0.0.1:9", "status"]), 9);
    assert_eq!(code(&["--bogus"]), 2);
    assert_eq!(code(&["help", "exit-codes"]), 0);
    assert!(house.run(&["help", "run"]).stdout.contains("1h when only --wait is said"));
    let refused = house.json(&["run", "owned"])["id"].as_str().unwrap().to_owned();
    assert_eq!(code(&["no", &refused]), 0);
    assert_eq!(code(&["help", "run"]), 0);
    assert_eq!(code(&["help", "nothing"]), 2);

    let url = house.endpoint().unwrap()["url"].as_str().unwrap().to_owned();
    let stranger = house.command(&["status", "--server", &url]).env("PILOTHOUSE_TOKEN", "ph_pat_x").output().unwrap();
    assert_eq!(stranger.status.code(), Some(4));
}

#[test]
fn a_no_is_final() {
    let house = House::open();
    let run = house.json(&["run", "owned"])["id"].as_str().unwrap().to_owned();

    assert_eq!(house.run(&["no", &run, "not", "today"]).code, 0);

    assert_eq!(house.json(&["status", &run])["summary"], "denied by owner: not today");
    let late = house.run(&["yes", &run]);
    assert_eq!(late.code, 5, "{late:?}");
    assert!(late.stderr.contains("error: "), "{late:?}");
}

#[test]
fn a_failure_is_a_problem_for_programs_and_a_remedy_for_people() {
    let house = House::open();

    let told = house.run(&["run", "hell"]);
    assert_eq!(told.stdout, "");
    assert!(told.stderr.contains("did you mean hello?"), "{told:?}");
    assert!(told.stderr.contains("GET /jobs"), "{told:?}");

    let problem = house.run(&["run", "hell", "--json"]);
    let problem: serde_json::Value = serde_json::from_str(&problem.stderr).unwrap();
    assert_eq!((&problem["code"], &problem["status"]), (&"unknown_job".into(), &404.into()));
}

#[test]
fn a_cancelled_run_leaves_no_process() {
    let house = House::open();
    let run = house.json(&["run", "slow"])["id"].as_str().unwrap().to_owned();
    house.wait_for_status(&run, "Running");

    assert_eq!(house.run(&["runs", "cancel", &run]).code, 0);

    house.wait_for_status(&run, "Canceled");
    // Only its supervisor, which has written its last word, may still be on its way out.
    let left = house.processes();
    assert!(left.iter().all(|name| name == "pilothouse"), "{left:?}");
    house.wait_for("the supervisor's end", |house| house.processes().is_empty());
}

#[test]
fn the_catalog_the_queue_and_tokens_are_shown() {
    let house = House::open();

    assert_eq!(house.json(&["job", "list"])["items"].as_array().unwrap().len(), 5);
    assert_eq!(house.json(&["job", "get", "hello"])["argv"][1], "Hello, {{name}}!");
    assert_eq!(house.json(&["queue"])["backend"], "sqlite");
    assert_eq!(house.json(&["queue", "jobs"])["schema"], "pilothouse.queue_jobs/v1");
    assert_eq!(house.json(&["status"])["health"], "ok");

    let made = house.run(&["token", "new", "for a script", "--scope", "read"]);
    assert_eq!(made.code, 0, "{made:?}");
    let secret = made.stdout.trim();
    assert!(secret.starts_with("ph_pat_") && !made.stderr.contains(secret), "{made:?}");
    let reads = |args: &[&str]| house.command(args).env("PILOTHOUSE_TOKEN", secret).output().unwrap().status.code();
    assert_eq!(reads(&["job", "list"]), Some(0));
    assert_eq!(reads(&["run", "now"]), Some(4));

    let tokens = house.json(&["token", "list"]);
    let id =
        tokens["items"].as_array().unwrap().iter().find(|token| token["name"] == "for a script").unwrap()["id"].clone();
    assert_eq!(house.json(&["token", "revoke", id.as_str().unwrap()])["status"], "revoked");
    assert_eq!(reads(&["job", "list"]), Some(4));
}

#[test]
fn a_catalog_is_checked_without_a_server() {
    let house = House::new();
    let check = |text: &str| {
        std::fs::write(house.path().join("try.toml"), text).unwrap();
        house.run(&["job", "check", "try.toml"])
    };

    let good = check(crate::house::CATALOG);
    assert_eq!((good.code, good.stdout.as_str()), (0, "try.toml: 5 jobs, no problems\n"));
    let bad = check("[job.x]\ntitel = \"X\"\nowner = \"o\"\nexec.argv = [\"true\"]\npolicy.approve = \"none\"\n");
    assert_eq!(bad.code, 2);
    assert!(bad.stderr.contains("try.toml:2: job.x.titel: unknown key, did you mean `title`?"), "{bad:?}");
    assert_eq!(house.run(&["job", "check", "none.toml"]).code, 3);
}
