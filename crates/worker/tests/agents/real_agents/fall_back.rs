//! Agents that take each other's place.

use serde_json::{Map, json};
use testkit::models::{Dialect, Failure, Rule, Scenario, When};

use super::{
    agent::Agent,
    house::{House, TASK, writing_after},
};

/// The agent's model is spent until next year; Claude Code is behind it.
pub(crate) async fn one_that_is_spent_is_followed_by_another(agent: Agent) {
    let extra = [("plan_type", json!("pro")), ("resets_at", json!(4_000_000_000_u64))];
    let spent = Failure {
        status: 429,
        kind: Some("usage_limit_reached".to_owned()),
        message: "The usage limit has been reached".to_owned(),
        extra: extra.into_iter().map(|(name, value)| (name.to_owned(), value)).collect::<Map<_, _>>(),
    };
    let when = When::default().prompt(TASK).dialect(Dialect::Responses);
    let house = House::new(agent, writing_after(Scenario::new().rule(Rule::new(when).failure(spent)))).await;
    let next = Agent::Claude.configured(house.dir(), &house.model.url());
    let worker = house.worker_with(|config| config.engines.insert(next)).await;

    let step = json!({"id": "make", "name": "01-make.md", "description": TASK, "checks": [["grep", "42", "made.txt"]],
        "engine_id": agent.id(), "fallback": ["claude"]});
    let id = house.protocol(Some(json!({"steps": [step]}))).await;

    house.expect(id, "completed").await;
    assert_eq!(house.on_branch("made.txt").await, "42");
    let fell_back = house.event(id, "step_fell_back").await;
    assert_eq!((&fell_back["from"], &fell_back["to"]), (&json!(agent.id()), &json!("claude")), "{fell_back}");
    assert_eq!(fell_back["failure"]["code"], "engine_usage_limit", "{fell_back}");
    let started = house.events(id).await.iter().filter(|kind| *kind == "step_started").count();
    assert_eq!(started, 2);
    worker.drain().await;
    house.empty().await;
}
