//! Planning and executing.

use serde_json::json;
use testkit::models::{Reply, Rule, Scenario, Usage};

use super::{
    agent::{Agent, KEY},
    house::{House, TASK, failure_of, writing_after},
};

const PLANNING: &str = "Plan the following work";

fn plan() -> serde_json::Value {
    json!({"plan_md": "# Plan", "context_md": "", "log_md": "", "step_files": [
        {"filename": "00-setup.md", "content": "Look around."}, {"filename": "01-make.md", "content": TASK}]})
}

pub(crate) async fn it_plans_and_its_answer_is_held_to_the_schema(agent: Agent) {
    let scenario = Scenario::new()
        .rule(Rule::on(PLANNING).reply([Reply::json(plan())]))
        .rule(Rule::on("Look around").fail(400, "enough"));
    let house = House::new(agent, scenario).await;
    let worker = house.worker().await;

    let id = house.protocol(None).await;

    // The plan is what is looked at here: its first step is refused by the script.
    let planned = house.expect(id, "blocked").await;
    let names: Vec<&str> = planned.steps.iter().map(domain::step::Step::name).collect();
    assert_eq!(names, ["00-setup.md", "01-make.md"], "{planned:#?}");
    assert_eq!(house.on_branch(".protocols/0001-make/01-make.md").await, TASK);
    let events = house.events(id).await;
    assert_eq!(events.iter().filter(|kind| *kind == "planning_started").count(), 1, "{events:?}");
    worker.drain().await;
    house.empty().await;
}

pub(crate) async fn a_wrong_answer_is_given_back_once_for_correction(agent: Agent) {
    let scenario = Scenario::new()
        .rule(Rule::on(PLANNING).times(1).reply([Reply::json(json!({"plan_md": 7}))]))
        .rule(Rule::always().times(1).reply([Reply::json(plan())]))
        .rule(Rule::always().fail(400, "enough"));
    let house = House::new(agent, scenario).await;
    let worker = house.worker().await;

    let id = house.protocol(None).await;

    let planned = house.expect(id, "blocked").await;
    assert_eq!(planned.steps.len(), 2, "{:?}", failure_of(&planned));
    let asked = house.model.asked();
    let given_back = asked.iter().find(|asked| asked.prompts().len() > 1).expect("the session goes on");
    assert!(given_back.prompts()[0].contains(PLANNING));
    worker.drain().await;
}

pub(crate) async fn its_tool_writes_a_file_that_pilothouse_commits(agent: Agent) {
    let usage = Usage { input: 1200, cached: 1000, cache_write: 0, output: 34, reasoning: 5 };
    let house = House::new(agent, writing_after(Scenario::new().usage(usage))).await;
    let worker = house.worker().await;

    let id = house.execute().await;

    let done = house.expect(id, "completed").await;
    assert_eq!(house.on_branch("made.txt").await, "42");
    let log = house.git(&["log", "--format=%an %s", "main..0001-make"]).await;
    assert!(log.contains("feat(step): 01-make [protocol-0001/00]"), "{log}");
    // Nothing but the file came to be: no agent leaves anything of its own.
    let changed = house.git(&["diff", "--name-only", "main", "0001-make", "--", ".", ":!.protocols"]).await;
    assert_eq!(changed, "made.txt");
    // What opens the model went to the model alone, and never into what it was told.
    assert!(house.model.seen().iter().all(|seen| !seen.body.to_string().contains(KEY)));
    // In our own sandbox, with its model and nobody else to talk to.
    let held = &house.event(id, "attempt_contained").await["fact"]["contained"];
    let sandbox = (&held["sandbox"]["profile"], &held["sandbox"]["network"]);
    assert_eq!(sandbox, (&json!("workspace"), &json!("endpoints")), "{held}");
    let end = &house.event(id, "step_executed").await["end"];
    assert_eq!(end["ending"], "succeeded");
    if matches!(agent, Agent::Codex | Agent::Claude) {
        // Two calls, each counted once.
        assert_eq!(
            (&end["usage"]["output_tokens"], &end["usage"]["cached_tokens"]),
            (&json!(68), &json!(2000)),
            "{end}"
        );
    }
    assert_eq!(done.steps[0].retries, 0);
    worker.drain().await;
    house.empty().await;
}
