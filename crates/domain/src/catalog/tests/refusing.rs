use super::*;

fn refused(text: &str) -> Vec<String> {
    match Catalog::parse(text, "jobs.toml") {
        Ok(_) => Vec::new(),
        Err(error) => error.to_string().lines().map(str::to_owned).collect(),
    }
}

/// `SMALL` with parameters, and with the `exec` and `policy` tables replaced.
fn job(params: &str, exec: &str, policy: &str) -> String {
    format!(
        "[job.x]\ntitle = \"X\"\nowner = \"ops\"\nparams = {{ {params} }}\nexec = {{ {exec} }}\npolicy = {{ {policy} }}\n"
    )
}

fn with_params(params: &str) -> Vec<String> {
    refused(&job(params, "argv = [\"true\"]", "approve = \"none\""))
}

fn with_exec(exec: &str) -> Vec<String> {
    refused(&job(
        "p = { type = \"string\" }, q = { type = \"string\" }, o = { type = \"string\", required = false }",
        exec,
        "approve = \"none\"",
    ))
}

fn with_policy(policy: &str) -> Vec<String> {
    refused(&job("", "argv = [\"true\"]", policy))
}

#[test]
fn everything_wrong_is_reported_at_once_with_line_key_and_nearest() {
    let text = r#"
[job.deploy]
titel = "Deploy"
owner = "ops"
timeout = "5m"
schedule = { cron = "* * * * *" }
[job.deploy.exec]
argv = ["deploy", "{{servcie}}"]
timout = "5m"
[job.deploy.params.service]
type = "enum"
values = ["a"]
[job.deploy.policy]
approve = { of = [] }
lock = "env"
[jobs.other]
"#;

    let error = Catalog::parse(text, "/etc/jobs.toml").unwrap_err();

    assert_eq!(
        error.to_string().lines().collect::<Vec<_>>(),
        [
            "/etc/jobs.toml:2: job.deploy.title: is required",
            "/etc/jobs.toml:3: job.deploy.titel: unknown key, did you mean `title`?",
            "/etc/jobs.toml:5: job.deploy.timeout: `timeout` belongs into `[job.<name>.exec]`",
            "/etc/jobs.toml:6: job.deploy.schedule: `schedule` is not available yet; remove it",
            "/etc/jobs.toml:8: job.deploy.exec.argv: there is no parameter `servcie`, did you mean `service`?",
            "/etc/jobs.toml:9: job.deploy.exec.timout: unknown key, did you mean `timeout`?",
            "/etc/jobs.toml:14: job.deploy.policy.approve.of: an empty list means nobody could ever approve: name somebody, or write `approve = \"none\"`",
            "/etc/jobs.toml:15: job.deploy.policy.lock: `lock` is not available yet; remove it",
            "/etc/jobs.toml:16: jobs: unknown key, did you mean `job`?",
        ]
    );
    assert_eq!(
        error.problems[1],
        Problem {
            line: 3,
            key: "job.deploy.titel".to_owned(),
            message: "unknown key".to_owned(),
            nearest: Some("title".to_owned()),
        }
    );
}

#[test]
fn what_is_required_is_asked_for() {
    assert_eq!(
        refused("[job.x]\n"),
        [
            "jobs.toml:1: job.x.title: is required",
            "jobs.toml:1: job.x.owner: is required",
            "jobs.toml:1: job.x.exec.argv: is required: the program and its arguments, as a list",
            "jobs.toml:1: job.x.policy.approve: is required: name who approves with `approve = { of = [...] }`, or write `approve = \"none\"`",
        ]
    );
    assert_eq!(
        refused("[job.x]\ntitle = \"X\"\nowner = \"ops\"\n[job.x.exec]\n[job.x.policy]\n"),
        [
            "jobs.toml:4: job.x.exec.argv: is required: the program and its arguments, as a list",
            "jobs.toml:5: job.x.policy.approve: is required: name who approves with `approve = { of = [...] }`, or write `approve = \"none\"`",
        ]
    );
}

#[test]
fn every_key_of_later_is_refused_by_name() {
    let job = ["notify", "redact", "schedule"].map(|key| ("", key));
    let exec =
        ["runner", "user", "sandbox", "plan_argv", "heartbeat", "success", "no_change", "rollback", "on_failure"]
            .map(|key| (".exec", key));
    let policy = [
        "remind",
        "escalate",
        "invalidate_on",
        "windows",
        "freeze_override",
        "lock",
        "overlap",
        "max_queue",
        "limits",
        "budget",
        "visibility",
        "break_glass",
    ]
    .map(|key| (".policy", key));
    let approve = ["channels", "sms", "reverify", "when"].map(|key| (".policy.approve", key));
    let param = ["required_if", "from"].map(|key| (".params.env", key));
    for (table, key) in job.into_iter().chain(exec).chain(policy).chain(approve).chain(param) {
        let path = format!("job.deploy{table}.{key}");

        let text = FULL.replace("[job.deploy]", &format!("{path} = \"x\"\n[job.deploy]"));
        let text = match table {
            ".policy.approve" => FULL.replace("quorum = 2", &format!("{key} = 1")),
            ".params.env" => FULL.replace("default = \"staging\"", &format!("{key} = 1")),
            "" => FULL.replace("risk = ", &format!("{key} = 1\nrisk = ")),
            _ => text
                .replace(&format!("{path} = \"x\"\n"), "")
                .replace(&format!("[job.deploy{table}]"), &format!("[job.deploy{table}]\n{key} = 1")),
        };

        let problems = refused(&text);
        assert!(
            problems.iter().any(|line| line.ends_with(&format!("{path}: `{key}` is not available yet; remove it"))),
            "{path}: {problems:?}"
        );
    }
}

#[test]
fn values_whose_machinery_comes_later_are_refused_by_name() {
    for (problems, words) in [
        (with_params("p = { type = \"secret\" }"), "type `secret` are not available yet"),
        (with_exec("argv = [\"true\"], cwd = \"repo:ops@main\""), "not available yet"),
        (with_policy("approve = { of = [\"group:eng\"] }"), "groups are not available yet"),
        (with_policy("request = [\"group:eng\"], approve = \"none\""), "groups are not available yet"),
        (with_policy("approve = \"none\", on_timeout = \"approve\""), "expected \"deny\""),
    ] {
        assert!(problems.len() == 1 && problems[0].contains(words), "{problems:?}");
    }
}

#[test]
fn what_is_no_toml_is_refused_with_its_line() {
    for (text, line) in [("[job.x]\ntitle = \n", 2), ("[job.x]\n[job.x]\n", 2), ("\n\n???", 3), ("a = 1\na = 2\n", 2)] {
        let error = Catalog::parse(text, "jobs.toml").unwrap_err();
        assert_eq!((error.problems[0].line, error.problems[0].key.as_str()), (line, ""), "{text:?}: {error}");
    }
    assert!(Catalog::parse(&"#".repeat(5 << 20), "jobs.toml").is_err());
}

#[test]
fn wrong_types_are_refused() {
    for (text, words) in [
        ("job = 1", "job: expected a table, found a number"),
        ("[job]\nx = 1", "job.x: expected a table, found a number"),
        ("[job.x]\ntitle = 1", "job.x.title: expected a text in quotes, found a number"),
        ("[job.x]\nlabels = \"a\"", "job.x.labels: expected a list of texts, found a text"),
        ("[job.x]\nlabels = [1]", "job.x.labels: expected a text in quotes, found a number"),
        ("[job.x]\nexec = []", "job.x.exec: expected a table, found a list"),
        ("[job.x.exec]\nargv = \"rm -rf /\"", "job.x.exec.argv: expected a list of texts, found a text"),
        ("[job.x.exec]\ntimeout = 900", "job.x.exec.timeout: expected a duration such as \"15m\", found a number"),
        ("[job.x.policy]\napprove = true", "found true or false"),
    ] {
        let problems = refused(text);
        assert!(problems.iter().any(|line| line.contains(words)), "{text}: {problems:?}");
    }
}

#[test]
fn bad_parameters_are_refused() {
    for (params, words) in [
        ("p = 1", "expected a table such as"),
        ("p = {}", "p.type: is required"),
        ("p = { type = \"strnig\" }", "did you mean `string`?"),
        ("p = { type = \"bool\", min = 1 }", "a parameter of type bool has no `min`"),
        ("p = { type = \"string\", pattern = \"(\" }", "bad pattern: "),
        ("p = { type = \"string\", pattern = \"a)|(b\" }", "bad pattern: "),
        ("p = { type = \"string\", pattern = \"[a-z]{999}{999}\" }", "bad pattern: "),
        ("p = { type = \"string\", max_length = 0 }", "expected 1 to 4096"),
        ("p = { type = \"string\", max_length = 9999999999999 }", "expected 1 to 4096"),
        ("p = { type = \"string\", pattern = \"[0-9]+\", default = \"x\" }", "expected text matching [0-9]+"),
        ("p = { type = \"string\", default = 1 }", "expected text"),
        ("p = { type = \"enum\" }", "p.values: is required"),
        ("p = { type = \"enum\", values = [] }", "needs at least one value"),
        ("p = { type = \"enum\", values = [\"a\", \"A\"] }", "stands there twice"),
        ("p = { type = \"enum\", values = [\"a\"], default = \"b\" }", "expected one of a"),
        ("p = { type = \"int\", min = 5, max = 1 }", "`max` is less than `min`"),
        ("p = { type = \"int\", max = 5, default = 6 }", "expected a whole number of at most 5"),
        ("p = { type = \"int\", min = 1.5 }", "expected a whole number, found a fraction"),
        ("p = { type = \"bool\", default = \"true\" }", "expected true or false"),
        ("p = { type = \"bool\", requird = true }", "did you mean `required`?"),
        ("\"p q\" = { type = \"bool\" }", "a parameter's name is"),
        ("\"--p\" = { type = \"bool\" }", "a parameter's name is"),
        ("p = { type = \"bool\" }, P = { type = \"bool\" }", "case makes no difference"),
    ] {
        let problems = with_params(params);
        assert!(problems.len() == 1 && problems[0].contains(words), "{params}: {problems:?}");
    }
}

#[test]
fn bad_exec_tables_are_refused() {
    for (exec, words) in [
        ("argv = []", "is required"),
        ("argv = [\"\"]", "the first element is the program"),
        ("argv = [\"-x\"]", "the first element is the program"),
        ("argv = [\"{{p}}\"]", "the program itself cannot be a parameter"),
        ("argv = [\"./{{p}}.sh\"]", "the program itself cannot be a parameter"),
        ("argv = [\"a\", \"{{p}}{{q}}\"]", "only one parameter"),
        ("argv = [\"a\", \"{{nope}}\"]", "there is no parameter `nope`"),
        ("argv = [\"a\", \"{{o}}\"]", "parameter `o` may have no value"),
        ("argv = [\"a\", \"{{p\"]", "without `}}`"),
        ("argv = [\"a\", \"x\\u0000\"]", "NUL"),
        ("argv = [\"sh\", \"-c\", \"echo {{p}}\"]", "must not become part of a script"),
        ("argv = [\"/usr/bin/env\", \"bash\", \"-euc\", \"{{p}}\"]", "must not become part of a script"),
        ("argv = [\"/usr/bin/python3.12\", \"-c\", \"{{p}}\"]", "must not become part of a script"),
        ("argv = [\"a\"], cwd = \"/srv\"", "expected `tmp` or `path:/absolute/path`"),
        ("argv = [\"a\"], cwd = \"path:srv\"", "expected an absolute path"),
        ("argv = [\"a\"], cwd = \"path:/srv/../etc\"", "expected an absolute path"),
        ("argv = [\"a\"], cwd = \"path:/srv/{{p}}\"", "a parameter cannot be part of the directory"),
        ("argv = [\"a\"], env = { lower = \"x\" }", "expected a variable's name"),
        ("argv = [\"a\"], env = { \"A=B\" = \"x\" }", "expected a variable's name"),
        ("argv = [\"a\"], env = { A = 1 }", "expected a text in quotes"),
        ("argv = [\"a\"], env = { A = \"{{p}}{{q}}\" }", "only one parameter"),
        ("argv = [\"a\"], env = { PATH = \"/x\" }", "PATH can only be inherited"),
        ("argv = [\"a\"], env = { LD_PRELOAD = \"x\" }", "is not passed on"),
        ("argv = [\"a\"], inherit_env = [\"LD_LIBRARY_PATH\"]", "is not passed on"),
        ("argv = [\"a\"], inherit_env = [\"BASH_ENV\"]", "is not passed on"),
        ("argv = [\"a\"], inherit_env = [\"ENV\"]", "is not passed on"),
        ("argv = [\"a\"], inherit_env = [\"IFS\"]", "is not passed on"),
        ("argv = [\"a\"], inherit_env = [\"PYTHONPATH\"]", "is not passed on"),
        ("argv = [\"a\"], inherit_env = [\"NODE_OPTIONS\"]", "is not passed on"),
        ("argv = [\"a\"], inherit_env = [\"GIT_SSH_COMMAND\"]", "is not passed on"),
        ("argv = [\"a\"], inherit_env = [\"DYLD_INSERT_LIBRARIES\"]", "is not passed on"),
        ("argv = [\"a\"], inherit_env = [\"PILOTHOUSE_DATABASE_URL\"]", "is not passed on"),
        ("argv = [\"a\"], env = { A = \"x\" }, inherit_env = [\"A\"]", "`A` is given twice"),
        ("argv = [\"a\"], inherit_env = [\"*\"]", "expected a variable's name"),
        ("argv = [\"a\"], timeout = \"0s\"", "from 1s to 7d"),
        ("argv = [\"a\"], timeout = \"15\"", "from 1s to 7d"),
        ("argv = [\"a\"], timeout = \"365d\"", "from 1s to 7d"),
        ("argv = [\"a\"], kill_grace = \"1h\"", "from 0s to 5m"),
        ("argv = [\"a\"], output_limit = \"2MB\"", "from 1KiB to 1GiB"),
        ("argv = [\"a\"], output_limit = 2", "from 1KiB to 1GiB"),
        ("argv = [\"a\"], retry = { max = 11 }", "expected 0 to 10"),
        ("argv = [\"a\"], retry = { max = -1 }", "expected 0 to 10"),
        ("argv = [\"a\"], retry = { backoff = \"5m..10s\" }", "expected a duration such as"),
        ("argv = [\"a\"], retry = { on = [\"exit:256\"] }", "a code from 1 to 255"),
        ("argv = [\"a\"], retry = { on = [\"exit:0\"] }", "a code from 1 to 255"),
        ("argv = [\"a\"], retry = { tries = 1 }", "unknown key"),
        ("argv = [\"a\"], idempotent = \"yes\"", "expected true or false"),
    ] {
        let problems = with_exec(exec);
        assert!(problems.len() == 1 && problems[0].contains(words), "{exec}: {problems:?}");
    }
}

#[test]
fn a_parameter_may_be_an_argument_of_a_script() {
    for exec in [
        "argv = [\"sh\", \"-c\", \"echo \\\"$1\\\"\", \"sh\", \"{{p}}\"]",
        "argv = [\"./x.sh\", \"-c\", \"{{p}}\"]",
        "argv = [\"grep\", \"-e\", \"{{p}}\"]",
    ] {
        assert_eq!(with_exec(exec), [""; 0], "{exec}");
    }
}

#[test]
fn bad_policies_are_refused() {
    for (policy, words) in [
        ("approve = \"nobody\"", "expected \"none\" or a table"),
        ("approve = \"nnoe\"", "did you mean `none`?"),
        ("approve = []", "expected \"none\" or a table"),
        ("approve = {}", "approve.of: is required"),
        ("approve = { of = [] }", "nobody could ever approve"),
        ("approve = { of = [\"ada\"] }", "expected `person:<name>`"),
        ("approve = { of = [\"person:*\"] }", "expected `person:<name>`"),
        ("approve = { of = [\"person:ada\", \"person:ada\"] }", "stands there twice"),
        ("approve = { of = [\"person:ada\"], quorum = 0 }", "expected 1 to 100"),
        ("approve = { of = [\"dev:*\"], quorum = 101 }", "expected 1 to 100"),
        ("approve = { of = [\"person:ada\"], quorum = 2 }", "needs 2 approvals but names only 1"),
        ("approve = { of = [\"person:ada\"], quorom = 2 }", "did you mean `quorum`?"),
        ("approve = { of = [\"person:ada\"], distinct_from_requester = 1 }", "expected true or false"),
        ("approve = \"none\", request = []", "nobody could ask"),
        ("approve = \"none\", timeout = \"0s\"", "from 1s to 30d"),
        ("approve = \"none\", aprove = \"none\"", "did you mean `approve`?"),
    ] {
        let problems = with_policy(policy);
        assert!(problems.len() == 1 && problems[0].contains(words), "{policy}: {problems:?}");
    }
    assert_eq!(with_policy("approve = { of = [\"dev:*\"], quorum = 2 }"), [""; 0]);
}

#[test]
fn bad_heads_are_refused() {
    for (from, to, words) in [
        ("title = \"Say hello\"", "title = \" \"", "one line of visible text"),
        ("title = \"Say hello\"", "title = \"a\\nb\"", "one line of visible text"),
        ("title = \"Say hello\"", "title = \"a\\u202Eb\"", "one line of visible text"),
        ("title = \"Say hello\"", "title = \"{{who}}\"", "there is no parameter `who`"),
        ("owner = \"ops\"", "owner = \"ops\"\nrisk = \"hihg\"", "did you mean `high`?"),
        ("owner = \"ops\"", "owner = \"ops\"\nrunbook = \"javascript:x\"", "starts with `https://`"),
        ("owner = \"ops\"", "owner = \"ops\"\nargv = [\"x\"]", "`argv` belongs into `[job.<name>.exec]`"),
        ("[job.hello]", "[job.\"a b\"]", "a job's name has"),
        ("[job.hello]", "[job.\"../x\"]", "a job's name has"),
        ("[job.hello]", "[job.\"\"]", "a job's name has"),
        ("[job.hello]", "title = \"x\"\n[job.hello]", "`title` belongs into `[job.<name>]`"),
    ] {
        let problems = refused(&SMALL.replace(from, to));
        assert!(problems.len() == 1 && problems[0].contains(words), "{to}: {problems:?}");
    }
}

#[test]
fn jobs_that_differ_in_case_only_are_refused() {
    let text = format!("{SMALL}{}", SMALL.replace("hello]", "Hello]"));

    let problems = refused(&text);

    assert_eq!(
        problems,
        ["jobs.toml:8: job.hello: there is a job `Hello` already: case makes no difference"
            .replace("job.hello", "job.Hello")
            .replace("`Hello`", "`hello`")]
    );
}

#[test]
fn ambiguous_aliases_are_refused() {
    let with = |aliases: &str| {
        SMALL.replace("owner", &format!("params = {{ p = {{ type = \"string\", default = \"x\" }}, r = {{ type = \"string\", default = \"x\" }} }}\naliases = {aliases}\nowner"))
    };
    for (aliases, words) in [
        ("[\"say {p}\", \"say hello\"]", "`say hello` is ambiguous: `say {p}` of job `hello` can mean the same"),
        ("[\"greet\", \"Greet\"]", "is ambiguous"),
        ("[\"run {p}\"]", "`run` belongs to the text commands"),
        ("[\"plan it\"]", "`plan` belongs to the text commands"),
        ("[\"stop\"]", "SMS providers"),
        ("[\"{p}\"]", "starts with a word"),
        ("[\"\"]", "at least one word"),
        ("[\"greet {q}\"]", "there is no parameter `q`"),
        ("[\"greet {p} {p}\"]", "`{p}` stands there twice"),
        ("[\"greet v{p}\"]", "a placeholder is written"),
    ] {
        let problems = refused(&with(aliases));
        assert!(problems.len() == 1 && problems[0].contains(words), "{aliases}: {problems:?}");
    }
    let other = SMALL.replace("hello]", "other]").replace("owner", "aliases = [\"greet\"]\nowner");
    let problems = refused(&format!("{}{other}", with("[\"greet\"]")));
    assert!(problems[0].contains("`greet` of job `hello`"), "{problems:?}");
    let incomplete = FULL.replace("ship {service} {version}", "ship {service}");
    assert!(refused(&incomplete)[0].contains("does not give the required parameter `version`"));
}

#[test]
fn a_hostile_file_is_refused_quickly_and_briefly() {
    let keys: String = (0..20_000).map(|n| format!("k{n} = 1\n")).collect();
    let jobs: String = (0..20_000).map(|n| format!("[job.j{n}]\n")).collect();
    let deep = format!("a = {}{}", "[".repeat(100_000), "]".repeat(100_000));
    for text in [keys, jobs, deep] {
        let error = Catalog::parse(&text, "jobs.toml").unwrap_err();
        assert!(error.problems.len() <= 200);
    }
}
