//! Longer texts: messages of people, catalogs, specs, plans, reviews, scenarios of the scripted models.

use promises::written;
use testkit::fuzz::Fuzz;
use testkit::fuzz::json::Corpus;
use testkit::fuzz::text::Samples;
use testkit::models::Scenario;

#[test]
fn a_message_means_what_it_says_or_nothing() {
    let samples = Samples::new(
        [
            "run deploy env=prod n=\"two words\" -- fix INC-812",
            "run d m=\u{201c}two words\u{201d} \u{2014} why",
            "yes J-7Q4K2MX looks good",
            "no p-7q4k2mx not on a Friday",
            "status A1B2C3",
            "log A1B2C3 2",
            "cancel A1B2C3",
            "retry",
            "jobs deploy",
        ],
        &["--", "\u{2014}", "=", "\"", "\\\"", "\\", "\u{201d}", "approve", "deny", "help"],
    );
    Fuzz::new("messages", 300_000).run(|random, input| {
        samples.draw(random, input);
        written::message(&String::from_utf8_lossy(input));
    });
}

const CATALOG: &str = r#"
[jobs.deploy]
title = "Deploy"
risk = "high"
exec = { argv = ["deploy", "--env", "{{ env }}"], timeout = "15m", retries = 2, backoff = "5s..1m" }
aliases = ["deploy to {env}"]

[jobs.deploy.params.env]
type = "enum"
values = ["staging", "prod"]
required = true

[jobs.deploy.policy]
approve = { when = "always", quorum = 2, approvers = ["role:admin"], timeout = "1h" }
"#;

#[test]
fn a_catalog_is_read_or_refused_with_its_places() {
    let words =
        ["[jobs.x]", "[jobs.deploy.params.n]", "type = \"int\"", "pattern = \"(a+)+$\"", "{{ nothing }}", "true"];
    let samples = Samples::new([CATALOG, "[jobs.a]\nargv = [\"true\"]\n"], &words);
    Fuzz::new("catalogs", 30_000).run(|random, input| {
        samples.draw(random, input);
        written::catalog(&String::from_utf8_lossy(input));
    });
}

#[test]
fn a_spec_is_read_back_as_it_was_or_refused() {
    let spec = r#"{"steps":[{"id":"setup","name":"00-setup.md","engine_id":"scripted"},{"id":"fix","name":"01-fix.md","checks":[["sh","test.sh"]],"retry":"ask","qa":{"policy":"light"},"depends_on":["setup"],"outputs":{"aux":{"x":"a/b.txt"}},"prompt_ref":"p.md","inputs":{"argv":["true"]}},{"id":"end","depends_on":["fix"],"gate":{"when":"before","approvers":["person:owner"],"self_approval":true,"timeout":"1h","quorum":2}}]}"#;
    let short = r#"{"steps":[{"id":"a","gate":"before"}],"plan":"p","version":"1","metadata":{"a":1}}"#;
    let corpus = Corpus::new([format!("{spec}\n"), format!("{short}\n")]);
    Fuzz::new("specs", 100_000).run(|random, input| {
        corpus.draw(random, input);
        for line in input.split(|&byte| byte == b'\n') {
            written::spec(line);
        }
    });
}

#[test]
fn a_plan_becomes_files_that_stay_where_they_belong() {
    let plan = r##"{"plan_md":"# Plan","context_md":"","log_md":"","step_files":[{"filename":"00-setup.md","content":"Look."},{"filename":"01-make.md","content":"Make."}]}"##;
    let other = r#"{"filename":"../../x.md","content":"99-x.md","a":"01-a/b.md","b":"02-é.md","c":"00-setup.md/"}"#;
    let corpus = Corpus::new([format!("{plan}\n"), format!("{other}\n")]);
    Fuzz::new("plans", 100_000).run(|random, input| {
        corpus.draw(random, input);
        for line in input.split(|&byte| byte == b'\n') {
            written::plan(line);
        }
    });
}

#[test]
fn a_review_is_read_back_as_it_was_or_refused() {
    let review = r#"{"verdict":"fail","summary":"It does not build.","findings":[{"severity":"blocking","file":"src/lib.rs","line":3,"message":"no semicolon"},{"severity":"note","message":"fine else"}]}"#;
    let other = r#"{"verdict":"pass","summary":"fine","findings":[],"a":"inconclusive","b":"warning","c":0}"#;
    let corpus = Corpus::new([format!("{review}\n"), format!("{other}\n")]);
    Fuzz::new("reviews", 100_000).run(|random, input| {
        corpus.draw(random, input);
        for line in input.split(|&byte| byte == b'\n') {
            written::review(line);
        }
    });
}

#[test]
fn a_scenario_of_the_scripted_models_is_read_or_refused() {
    let words = ["[[rules]]", "times = 0", "prompt = \"(\"", "status = 999", "cut_after = -1", "shell", "hang = true"];
    let samples = Samples::new([include_str!("../../scenarios/basic.toml")], &words);
    Fuzz::new("scenarios of models", 20_000).run(|random, input| {
        samples.draw(random, input);
        let text = String::from_utf8_lossy(input);
        if let Ok(scenario) = Scenario::from_toml(&text) {
            let _ = format!("{scenario:?}");
        }
    });
}
