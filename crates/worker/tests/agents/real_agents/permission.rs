//! What an agent may not do.

use testkit::models::{Reply, Rule, Scenario};

use super::{
    agent::Agent,
    house::{House, TASK, failure_of},
};

/// It asks for a tool that its policy does not name, is refused, and goes on without.
pub(crate) async fn what_is_not_allowed_is_denied_and_told(agent: Agent) {
    let scenario = Scenario::new()
        .rule(Rule::at(TASK, 0).reply([Reply::shell("echo 42 > made.txt")]))
        .rule(Rule::on(TASK).reply([Reply::text("I was not allowed to.")]));
    let house = House::new(agent, scenario).await.allowing(&["Read", "read"]);
    let worker = house.worker().await;

    let id = house.execute().await;

    // It says that all went well; that nothing came of it is what counts.
    let blocked = house.expect(id, "blocked").await;
    assert_eq!(failure_of(&blocked).code, "empty_diff", "{:?} {:?}", blocked.steps[0].state, blocked.branch);
    let summary = house.event(id, "step_execution_failed").await["end"]["summary"].to_string();
    assert!(summary.contains("(1 uses of tools were refused)"), "{summary}");
    worker.drain().await;
}
