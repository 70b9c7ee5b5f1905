//! A broker of ours between an agent and its model.

use serde_json::json;
use testkit::models::{Reply, Rule, Scenario, Usage};

use super::{
    agent::{Agent, KEY},
    house::{House, TASK, failure_of, writing_after},
};

const USAGE: Usage = Usage { input: 1200, cached: 1000, cache_write: 0, output: 34, reasoning: 5 };

pub(crate) async fn the_key_stays_with_the_broker_which_meters_the_wire(agent: Agent) {
    let house = House::new(agent, writing_after(Scenario::new().usage(USAGE))).await.brokered(None);
    let worker = house.worker().await;

    let id = house.execute().await;

    house.expect(id, "completed").await;
    assert_eq!(house.on_branch("made.txt").await, "42");
    let seen = house.model.seen();
    assert!(seen.iter().all(|seen| seen.headers.values().any(|value| value.ends_with(KEY))), "the broker put it there");
    let metered = &house.event(id, "attempt_metered").await["fact"]["metered"];
    // opencode also asks for a title, and may leave before it has one.
    let calls = metered["calls"].as_u64().unwrap();
    let answered = seen.iter().filter(|seen| seen.asked.is_some() && seen.status == Some(200)).count();
    let whole = calls == u64::try_from(answered).unwrap() && metered["unmetered"] == 0;
    assert!(calls >= 2 && (whole || agent == Agent::Opencode), "{answered} answers: {metered}");
    assert_eq!(metered["wire"]["output_tokens"], json!(34 * calls), "{metered}");
    let usage = &house.event(id, "step_executed").await["end"]["usage"];
    assert_eq!(usage["output_tokens"], metered["wire"]["output_tokens"], "the wire is believed");
    worker.drain().await;
    house.empty().await;
}

pub(crate) async fn a_used_up_budget_ends_the_attempt(agent: Agent) {
    let again = Rule::on(TASK).reply([Reply::shell("echo again >> more.txt")]);
    let house = House::new(agent, Scenario::new().usage(USAGE).rule(again)).await.brokered(Some(3000));
    let worker = house.worker().await;

    let id = house.execute().await;

    let blocked = house.expect(id, "blocked").await;
    let failure = failure_of(&blocked);
    assert_eq!(failure.code, "engine_limits_reached", "{failure:?}");
    assert!(failure.why.contains("the budget of the attempt is used up"), "{failure:?}");
    let metered = &house.event(id, "attempt_metered").await["fact"]["metered"];
    assert_eq!(metered["calls"], json!(3), "three of 1234 tokens are more than 3000: {metered}");
    assert_eq!(house.model.seen().iter().filter(|seen| seen.asked.is_some()).count(), 3);
    worker.drain().await;
    house.empty().await;
}
