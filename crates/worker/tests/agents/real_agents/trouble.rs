//! Models that are busy, spent, dead, silent, or break off.

use std::time::Duration;

use domain::task::{TaskKind, TaskState};
use serde_json::{Map, json};
use testkit::models::{Failure, ModelServer, Rule, Scenario, Unreachable, When};

use super::{
    agent::Agent,
    house::{House, TASK, failure_of, writing_after},
};

pub(crate) async fn a_busy_model_is_asked_again(agent: Agent) {
    let busy = Rule::new(When::default().prompt(TASK).tools(true));
    let busy = busy.times(1).fail(429, "slow down").header("retry-after", "1");
    let house = House::new(agent, writing_after(Scenario::new().rule(busy))).await;
    let worker = house.worker().await;

    let id = house.execute().await;

    house.expect(id, "completed").await;
    let statuses: Vec<_> =
        house.model.seen().iter().filter(|seen| seen.asked.is_some()).map(|seen| seen.status).collect();
    assert!(statuses.contains(&Some(429)) && statuses.contains(&Some(200)), "{statuses:?}");
    assert_eq!(house.on_branch("made.txt").await, "42");
    worker.drain().await;
}

/// What a host says when nothing more is to be had for a while, or at all.
fn spent(agent: Agent) -> (Failure, &'static str) {
    let failure = |status, kind: &str, message: &str, extra: &[(&str, serde_json::Value)]| {
        let extra: Map<_, _> = extra.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        Failure { status, kind: Some(kind.to_owned()), message: message.to_owned(), extra }
    };
    match agent {
        Agent::Claude => {
            let message = "Your credit balance is too low to access the Anthropic API.";
            (failure(400, "invalid_request_error", message, &[]), "engine_billing")
        }
        Agent::Opencode => (failure(402, "insufficient_quota", "Insufficient credit.", &[]), "engine_billing"),
        _ => {
            let extra = [("plan_type", json!("pro")), ("resets_at", json!(4_000_000_000_u64))];
            (failure(429, "usage_limit_reached", "The usage limit has been reached", &extra), "engine_usage_limit")
        }
    }
}

pub(crate) async fn a_used_up_quota_is_a_reason_to_stop(agent: Agent) {
    let (failure, code) = spent(agent);
    let house = House::new(agent, Scenario::new().rule(Rule::on(TASK).failure(failure))).await;
    let worker = house.worker().await;

    let id = house.execute().await;

    let blocked = house.expect(id, "blocked").await;
    assert_eq!(failure_of(&blocked).code, code, "{:?}", failure_of(&blocked));
    worker.drain().await;
    house.empty().await;
}

pub(crate) async fn a_dead_model_is_tried_again_later_and_nothing_stays_behind(agent: Agent) {
    let nobody = Unreachable::new().unwrap();
    let model = ModelServer::start(Scenario::new()).unwrap();
    let house = House::with_model_at(agent, model, &nobody.url()).await;
    let worker = house.worker_with(|config| config.engine_limits.stall = Duration::from_secs(2)).await;

    let id = house.execute().await;

    let put_off =
        async || house.find_task(TaskKind::ExecuteStep).await.filter(|task| task.state == TaskState::Scheduled);
    house.wait("the step to be put off", async || put_off().await.is_some()).await;
    let task = put_off().await.unwrap();
    assert!(task.error.as_deref().unwrap_or_default().contains("engine_network"), "{task:?}");
    house.empty().await;
    house.cancel(id).await;
    house.expect(id, "cancelled").await;
    worker.drain().await;
}

pub(crate) async fn a_silent_model_is_given_up_after_the_idle_limit(agent: Agent) {
    let house = House::new(agent, Scenario::new().rule(Rule::on(TASK).hang())).await;
    let worker = house.worker_with(|config| config.engine_limits.idle = Duration::from_secs(4)).await;

    let id = house.execute().await;

    let blocked = house.expect(id, "blocked").await;
    assert_eq!(failure_of(&blocked).code, "timed_out", "{:?}", failure_of(&blocked));
    worker.drain().await;
    house.empty().await;
}

pub(crate) async fn a_cut_stream_is_taken_up_again(agent: Agent) {
    let cut = Rule::new(When::default().prompt(TASK).tools(true)).times(1).cut_after(3);
    let house = House::new(agent, writing_after(Scenario::new().rule(cut))).await;
    let worker = house.worker().await;

    let id = house.execute().await;

    house.expect(id, "completed").await;
    let rules: Vec<_> = house.model.seen().iter().filter(|seen| seen.asked.is_some()).map(|seen| seen.rule).collect();
    // Some agents ask for a title beside their work, so that only the set of the answers is certain.
    assert!(rules.contains(&Some(0)) && rules.contains(&Some(1)), "{rules:?}");
    worker.drain().await;
}
