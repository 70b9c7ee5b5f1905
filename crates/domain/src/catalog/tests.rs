//! What loads, what is refused and in which words, and what is bound.

mod binding;
mod refusing;

use super::*;

/// A job with every kind of parameter and every key that works.
const FULL: &str = r#"# Comments and layout are no part of the digest.
[job.deploy]
title = "Deploy {{service}} {{version}} to {{env}}"
owner = "team:platform"
description = "Ships one service."
runbook = "https://wiki.example/deploy"
labels = ["prod", "ship"]
aliases = ["ship {service} {version}"]
risk = "high"

[job.deploy.params]
service = { type = "enum", values = ["api", "web"], required = true }
version = { type = "string", pattern = "^[0-9]+\\.[0-9]+\\.[0-9]+$", max_length = 20, required = true }
env = { type = "enum", values = ["staging", "prod"], default = "staging" }
count = { type = "int", min = 1, max = 10, default = 3 }
force = { type = "bool", default = false }

[job.deploy.exec]
argv = ["./deploy.sh", "{{service}}", "{{version}}", "--env={{env}}", "--count", "{{count}}"]
cwd = "path:/srv/ops"
env = { DEPLOY_ENV = "{{env}}", FORCE = "force-{{force}}" }
inherit_env = ["SSH_AUTH_SOCK", "PATH"]
timeout = "20m"
kill_grace = "20s"
output_limit = "1MiB"
retry = { max = 2, backoff = "10s..5m", on = ["exit:75"] }
idempotent = true

[job.deploy.policy]
request = ["dev:*", "person:owner"]
approve = { of = ["person:ada", "person:bob", "dev:carol"], quorum = 2, distinct_from_requester = false }
timeout = "30m"
on_timeout = "deny"
"#;

/// The least that loads.
const SMALL: &str = r#"
[job.hello]
title = "Say hello"
owner = "ops"
exec = { argv = ["echo", "hello"] }
policy = { approve = "none" }
"#;

fn load(text: &str) -> Catalog {
    Catalog::parse(text, "jobs.toml").unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn every_working_key_is_read() {
    let catalog = load(FULL);
    let job = catalog.find("DEPLOY").unwrap();

    assert_eq!(job.key, "deploy");
    assert_eq!(job.title.as_str(), "Deploy {{service}} {{version}} to {{env}}");
    assert_eq!(job.owner, "team:platform");
    assert_eq!(job.description.as_deref(), Some("Ships one service."));
    assert_eq!(job.runbook.as_deref(), Some("https://wiki.example/deploy"));
    assert_eq!(job.labels, ["prod", "ship"]);
    assert_eq!(job.risk, Risk::High);
    assert_eq!(
        job.params
            .iter()
            .map(|p| (p.name.as_str(), p.kind.name(), p.required, p.default.as_deref()))
            .collect::<Vec<_>>(),
        [
            ("service", "enum", true, None),
            ("version", "string", true, None),
            ("env", "enum", false, Some("staging")),
            ("count", "int", false, Some("3")),
            ("force", "bool", false, Some("false")),
        ]
    );
    assert_eq!(job.exec.cwd, Cwd::Path("/srv/ops".to_owned()));
    assert_eq!(job.exec.inherit_env, ["SSH_AUTH_SOCK", "PATH"]);
    assert_eq!(job.exec.timeout.as_secs(), 1200);
    assert_eq!(job.exec.kill_grace.as_secs(), 20);
    assert_eq!(job.exec.output_limit, 1 << 20);
    assert_eq!(job.exec.retry, Retry { max: 2, backoff_min_ms: 10_000, backoff_max_ms: 300_000, on_exit: vec![75] });
    assert!(job.exec.idempotent);
    assert_eq!(job.policy.request, Requesters::Only(vec![Principal::AnyDev, Principal::Person("owner".to_owned())]));
    assert_eq!(
        job.policy.approve,
        Approval::Approvers {
            of: vec![
                Principal::Person("ada".to_owned()),
                Principal::Person("bob".to_owned()),
                Principal::Dev("carol".to_owned())
            ],
            quorum: 2,
            distinct_from_requester: false,
        }
    );
    assert_eq!(job.policy.timeout.as_secs(), 1800);
}

#[test]
fn defaults_are_filled_in() {
    let catalog = load(SMALL);
    let job = catalog.find("hello").unwrap();

    assert_eq!(job.exec.cwd, Cwd::Tmp);
    assert_eq!(job.exec.timeout.as_secs(), 15 * 60);
    assert_eq!(job.exec.kill_grace.as_secs(), 10);
    assert_eq!(job.exec.output_limit, 2 << 20);
    assert_eq!((job.exec.retry.max, job.exec.idempotent), (0, false));
    assert_eq!(job.policy.request, Requesters::Anyone);
    assert_eq!(job.policy.timeout.as_secs(), 24 * 60 * 60);
    assert_eq!(job.risk, Risk::None);
    assert!(!job.needs_approval());
    assert!(catalog.warnings().is_empty());
}

#[test]
fn approvers_have_defaults_too() {
    let catalog = load(&SMALL.replace("\"none\"", "{ of = [\"person:ada\"] }"));

    assert_eq!(
        catalog.find("hello").unwrap().policy.approve,
        Approval::Approvers { of: vec![Principal::Person("ada".to_owned())], quorum: 1, distinct_from_requester: true }
    );
}

#[test]
fn the_digest_is_of_the_content() {
    let same = FULL.replace("# Comments", "#  Other comments").replace("[job.deploy.exec]", "\n\n[job.deploy.exec]");

    assert_eq!(load(&same).digest(), load(FULL).digest());
    for (from, to) in
        [("high", "low"), ("20m", "21m"), ("\"bob\"", "x"), ("quorum = 2", "quorum = 3"), ("min = 1", "min = 0")]
    {
        let changed = FULL.replace(from, to);
        assert_eq!(changed == FULL, load(&changed).digest() == load(FULL).digest(), "{from}");
    }
    assert_ne!(load(SMALL).digest(), Catalog::empty().digest());
    assert_eq!(load("").digest(), Catalog::empty().digest());
}

#[test]
fn a_mistyped_job_finds_its_nearest() {
    let catalog = load(FULL);

    assert_eq!(catalog.nearest("depoly"), Some("deploy"));
    assert_eq!(catalog.nearest("xyzzy-plugh"), None);
    assert!(catalog.find("depoly").is_none());
}

#[test]
fn an_alias_is_matched_and_bound() {
    let catalog = load(FULL);

    let found = catalog.match_alias("Ship api 1.9.2 -- for INC-812").unwrap();

    assert_eq!(found.job.key, "deploy");
    assert_eq!(found.reason.as_deref(), Some("for INC-812"));
    assert_eq!(found.job.bind(&found.args).unwrap().title, "Deploy api 1.9.2 to staging");
    assert_eq!(catalog.match_alias("ship api"), None);
}

#[test]
fn what_loads_but_may_surprise_is_warned_about() {
    let catalog = load(
        r#"
[job.a]
title = "A"
owner = "ops"
params = { note = { type = "string", default = "-" }, must = { type = "bool", required = true, default = true } }
exec = { argv = ["true"] }
[job.a.policy]
request = ["person:ada"]
approve = { of = ["person:ada"] }
[job.b]
title = "B"
owner = "ops"
exec = { argv = ["true"] }
policy = { approve = { of = ["dev:*"] } }
"#,
    );

    let warnings: Vec<_> = catalog.warnings().iter().map(|w| (w.kind, w.line, w.key.as_str())).collect();
    assert_eq!(
        warnings,
        [
            (WarningKind::UselessDefault, 5, "job.a.params.must"),
            (WarningKind::Unapprovable, 9, "job.a.policy.approve"),
            (WarningKind::UnusedParameter, 5, "job.a.params.note"),
            (WarningKind::UnusedParameter, 5, "job.a.params.must"),
            (WarningKind::DevChannel, 14, "job.b.policy.approve.of"),
        ]
    );
    assert_eq!(
        catalog.warnings()[4].to_string(),
        "14: job.b.policy.approve.of: `dev:*` means nobody while the dev channel is off"
    );
}
