use proptest::prelude::*;

use super::*;

fn args(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn bind(catalog: &Catalog, pairs: &[(&str, &str)]) -> Result<BoundJob, BindError> {
    catalog.jobs().next().unwrap().bind(&args(pairs))
}

#[test]
fn a_bound_job_says_exactly_what_will_run() {
    let catalog = load(FULL);

    let bound = bind(&catalog, &[("service", "API"), ("Version", "1.9.2"), ("count", "007")]).unwrap();

    let expected = BoundJob {
        job: "deploy".to_owned(),
        catalog: catalog.digest(),
        title: "Deploy api 1.9.2 to staging".to_owned(),
        owner: "team:platform".to_owned(),
        params: args(&[
            ("service", "api"),
            ("version", "1.9.2"),
            ("env", "staging"),
            ("count", "7"),
            ("force", "false"),
        ]),
        argv: ["./deploy.sh", "api", "1.9.2", "--env=staging", "--count", "7"].map(str::to_owned).to_vec(),
        cwd: Cwd::Path("/srv/ops".to_owned()),
        env: args(&[
            ("PATH", "/usr/local/bin:/usr/bin:/bin"),
            ("LANG", "C.UTF-8"),
            ("DEPLOY_ENV", "staging"),
            ("FORCE", "force-false"),
        ]),
        inherit_env: vec!["SSH_AUTH_SOCK".to_owned(), "PATH".to_owned()],
        timeout_ms: 1_200_000,
        kill_grace_ms: 20_000,
        output_limit: 1 << 20,
        retry: Retry { max: 2, backoff_min_ms: 10_000, backoff_max_ms: 300_000, on_exit: vec![75] },
        idempotent: true,
        policy: BoundPolicy {
            request: Requesters::Only(vec![Principal::AnyDev, Principal::Person("owner".to_owned())]),
            approve: Approval::Approvers {
                of: vec![
                    Principal::Person("ada".to_owned()),
                    Principal::Person("bob".to_owned()),
                    Principal::Dev("carol".to_owned()),
                ],
                quorum: 2,
                distinct_from_requester: false,
            },
            timeout_ms: 1_800_000,
        },
    };
    assert_eq!(bound, expected);
}

#[test]
fn a_bound_job_survives_its_document_and_refuses_unknown_members() {
    for catalog in [load(SMALL), load(FULL)] {
        let bound =
            bind(&catalog, &[]).or_else(|_| bind(&catalog, &[("service", "web"), ("version", "1.0.0")])).unwrap();
        let mut document = serde_json::to_value(&bound).unwrap();

        let read: BoundJob = serde_json::from_value(document.clone()).unwrap();
        assert_eq!(read, bound);
        assert_eq!(read.digest(), bound.digest());

        document["shell"] = serde_json::json!(true);
        assert!(serde_json::from_value::<BoundJob>(document).is_err());
    }
}

#[test]
fn the_digest_changes_with_everything_that_will_run_or_decide() {
    let catalog = load(FULL);
    let bound = bind(&catalog, &[("service", "api"), ("version", "1.9.2")]).unwrap();
    let document = serde_json::to_value(&bound).unwrap();
    let members = document.as_object().unwrap();
    let mut digests = std::collections::BTreeSet::from([bound.digest()]);

    for key in members.keys().filter(|key| *key != "catalog") {
        let mut changed = document.clone();
        let value = &mut changed[key];
        *value = match (key.as_str(), value.clone()) {
            ("cwd", _) => serde_json::json!("tmp"),
            ("retry", mut retry) => {
                retry["max"] = serde_json::json!(3);
                retry
            }
            ("policy", mut policy) => {
                policy["approve"]["approvers"]["quorum"] = serde_json::json!(1);
                policy
            }
            (_, serde_json::Value::String(text)) => serde_json::json!(format!("{text}x")),
            (_, serde_json::Value::Number(number)) => serde_json::json!(number.as_u64().unwrap() + 1),
            (_, serde_json::Value::Bool(flag)) => serde_json::json!(!flag),
            (_, serde_json::Value::Array(mut items)) => {
                items.push(serde_json::json!("X"));
                serde_json::Value::Array(items)
            }
            (_, serde_json::Value::Object(mut members)) => {
                members.insert("X".to_owned(), serde_json::json!("x"));
                serde_json::Value::Object(members)
            }
            (_, serde_json::Value::Null) => panic!("{key} is null"),
        };
        let changed: BoundJob = serde_json::from_value(changed).unwrap_or_else(|error| panic!("{key}: {error}"));
        assert!(digests.insert(changed.digest()), "{key}");
    }
}

#[test]
fn a_change_to_another_job_changes_no_digest_of_this_one() {
    let other = load(&format!("{FULL}{SMALL}"));
    let given = args(&[("service", "api"), ("version", "1.9.2")]);

    let (before, after) =
        (bind(&load(FULL), &[("service", "api"), ("version", "1.9.2")]), other.find("deploy").unwrap().bind(&given));

    let (before, after) = (before.unwrap(), after.unwrap());
    assert_ne!(before.catalog, after.catalog);
    assert_eq!(before.digest(), after.digest());
}

#[test]
fn every_wrong_argument_is_listed() {
    let catalog = load(FULL);

    let error = bind(&catalog, &[("servce", "api"), ("env", "prd"), ("ENV", "prod"), ("count", "11")]).unwrap_err();

    assert_eq!(
        error.to_string().lines().collect::<Vec<_>>(),
        [
            "parameter env is given twice",
            "unknown parameter servce, did you mean service?",
            "parameter service is missing: expected one of api, web",
            "parameter version is missing: expected text matching ^[0-9]+\\.[0-9]+\\.[0-9]+$ of at most 20 characters",
            "parameter env is wrong: expected one of staging, prod",
            "parameter count is wrong: expected a whole number from 1 to 10",
        ]
    );
    assert_eq!(error.job, "deploy");
    assert_eq!(error.problems[0].name(), "env");
}

/// Every way a value can reach the arguments.
fn free() -> Catalog {
    load(
        r#"
[job.free]
title = "Free {{whole}}"
owner = "ops"
[job.free.params]
whole = { type = "string", pattern = "(?s).*", max_length = 4096 }
start = { type = "string", default = "s" }
inner = { type = "string", default = "i" }
number = { type = "int", default = 1 }
choice = { type = "enum", values = ["-a", "b"], default = "b" }
spare = { type = "string", required = false }
[job.free.exec]
argv = ["prog", "{{whole}}", "{{start}}-end", "--x={{inner}}", "fixed", "{{number}}", "{{choice}}"]
env = { WHOLE = "{{whole}}" }
[job.free.policy]
approve = "none"
"#,
    )
}

#[test]
fn no_value_can_become_an_option() {
    let catalog = free();
    for (name, value) in [
        ("whole", "-rf"),
        ("whole", "--upload-pack=x"),
        ("whole", "-"),
        ("start", "-x"),
        ("start", ""),
        ("number", "-1"),
        ("choice", "-a"),
    ] {
        let mut given = vec![(name, value)];
        if name != "whole" {
            given.push(("whole", "w"));
        }
        let error = bind(&catalog, &given).unwrap_err();
        assert_eq!(error.problems, [BindProblem::LeadingDash { name: name.to_owned() }], "{name}={value}");
    }
    let bound = bind(&catalog, &[("whole", "w"), ("inner", "-rf")]).unwrap();
    assert_eq!(bound.argv[3], "--x=-rf");
}

#[test]
fn a_value_is_never_read_as_a_template_or_as_several_arguments() {
    let bound = bind(&free(), &[("whole", "{{inner}} $(id) ; 'x' \"y\" `z` *")]).unwrap();

    assert_eq!(bound.argv[1], "{{inner}} $(id) ; 'x' \"y\" `z` *");
    assert_eq!(bound.env["WHOLE"], bound.argv[1]);
    assert_eq!(bound.argv.len(), 7);
}

#[test]
fn hidden_characters_and_long_values_are_refused() {
    let long = "x".repeat(4097);
    for value in ["a\0b", "a\nb", "\u{1b}[2J", "a\u{202e}b", "a\u{200b}b", &long] {
        let error = bind(&free(), &[("whole", value)]).unwrap_err();
        assert!(matches!(error.problems[..], [BindProblem::Wrong { .. }]), "{value:?}");
        assert!(!error.to_string().contains(value), "a refused value is not repeated");
    }
}

#[test]
fn hostile_parameter_names_are_shown_harmlessly() {
    let error = bind(&free(), &[("whole", "w"), ("a\u{202e}\n", "x"), (&"n".repeat(100_000), "x")]).unwrap_err();

    assert_eq!(error.problems.len(), 2);
    for problem in error.problems {
        assert!(problem.name().chars().count() <= 80 && !problem.name().chars().any(crate::text::is_hidden));
    }
}

proptest! {
    #[test]
    fn the_arguments_are_the_template_with_one_value_each(
        whole in "\\PC{0,20}|-\\PC{0,5}|[\\x00-\\x20a\u{202e}]{0,6}",
        start in "\\PC{0,20}|-\\PC{0,5}",
        inner in "\\PC{0,20}|-\\PC{0,5}",
        number in any::<i64>(),
    ) {
        let number = number.to_string();
        let given = [("whole", &*whole), ("start", &*start), ("inner", &*inner), ("number", &*number)];
        let hidden = [&whole, &start, &inner].iter().any(|v| v.chars().any(crate::text::is_hidden));
        let dashed = start.is_empty() || [&whole, &start, &number].iter().any(|v| v.starts_with('-'));
        match bind(&free(), &given) {
            Ok(bound) => {
                prop_assert!(!hidden && !dashed);
                let expected = ["prog".to_owned(), whole, format!("{start}-end"), format!("--x={inner}"),
                    "fixed".to_owned(), number, "b".to_owned()];
                prop_assert_eq!(&bound.argv[..], &expected[..]);
                prop_assert!(bound.argv.iter().all(|a| !a.starts_with('-') || a.starts_with("--x=")));
                prop_assert_eq!(free().find("free").unwrap().bind(&bound.params).unwrap(), bound);
            }
            Err(_) => prop_assert!(hidden || dashed),
        }
    }

    #[test]
    fn any_text_loads_or_is_refused(text in ".{0,200}|(\\[job\\.[a-z]\\]\n|[a-z]+ = (1|\"x\"|\\{\\}|\\[\\])\n){0,8}") {
        if let Err(error) = Catalog::parse(&text, "jobs.toml") {
            prop_assert!(!error.problems.is_empty());
            prop_assert!(error.problems.iter().all(|p| p.line >= 1 && p.line <= text.lines().count() + 1));
        }
    }
}
