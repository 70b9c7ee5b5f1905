//! What an agent may not do, or only when people say so.

use domain::gate::{GateKind, Verdict};
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

/// Tools that are not listed are not even offered to its model.
pub(crate) async fn what_is_not_listed_is_not_offered(agent: Agent) {
    let scenario = Scenario::new().rule(Rule::on(TASK).reply([Reply::text("I have nothing to do it with.")]));
    let house = House::new(agent, scenario).await.allowing(&["read", "read_file"]);
    let worker = house.worker().await;

    let id = house.execute().await;

    let blocked = house.expect(id, "blocked").await;
    assert_eq!(failure_of(&blocked).code, "empty_diff", "{:?}", failure_of(&blocked));
    let asked = house.model.asked();
    let working = asked.iter().find(|asked| asked.prompt().contains(TASK) && !asked.tools.is_empty());
    let offered = working.expect("it was offered tools").tool_names();
    assert!(offered.iter().any(|tool| ["read", "read_file"].contains(tool)), "{offered:?}");
    for tool in ["bash", "edit", "write", "run_shell_command", "write_file", "replace"] {
        assert!(!offered.contains(&tool), "{tool} among {offered:?}");
    }
    worker.drain().await;
}

fn writing_by_shell() -> Scenario {
    Scenario::new()
        .rule(Rule::at(TASK, 0).reply([Reply::shell("echo 42 > made.txt")]))
        .rule(Rule::on(TASK).reply([Reply::text("That is all.")]))
}

/// It asks people for a tool, waits, is allowed, and what it did is the step's result.
pub(crate) async fn what_people_allow_is_done(agent: Agent) {
    let house = House::new(agent, writing_by_shell()).await.asking();
    let worker = house.worker().await;
    let id = house.execute().await;

    let gate = house.question(id).await;
    assert_eq!(gate.asks.kind, GateKind::Permission);
    assert!(gate.asks.lines.iter().any(|line| line.contains("echo 42 > made.txt")), "{:?}", gate.asks.lines);
    assert!(!house.in_worktree("made.txt"), "it did not wait");
    house.answer(&gate, Verdict::Approve { note: None }).await;

    house.expect(id, "completed").await;
    assert_eq!(house.on_branch("made.txt").await, "42");
    let events = house.events(id).await;
    assert_eq!(events.iter().filter(|kind| *kind == "gate_approved").count(), 1, "{events:?}");
    worker.drain().await;
    house.empty().await;
}

/// It asks people for a tool, is denied, and goes on without.
pub(crate) async fn what_people_deny_is_not_done(agent: Agent) {
    let house = House::new(agent, writing_by_shell()).await.asking();
    let worker = house.worker().await;
    let id = house.execute().await;

    let gate = house.question(id).await;
    house.answer(&gate, Verdict::Deny { reason: Some("not today".to_owned()) }).await;

    let blocked = house.expect(id, "blocked").await;
    assert_eq!(failure_of(&blocked).code, "empty_diff", "{:?}", failure_of(&blocked));
    worker.drain().await;
    house.empty().await;
}

/// Its worker is replaced while it waits; the answer reaches it all the same.
pub(crate) async fn its_question_outlives_the_worker(agent: Agent) {
    let house = House::new(agent, writing_by_shell()).await.asking();
    let first = house.worker().await;
    let id = house.execute().await;
    let gate = house.question(id).await;
    first.drain().await;

    let second = house.worker().await;
    house.answer(&gate, Verdict::Approve { note: None }).await;

    let done = house.expect(id, "completed").await;
    assert_eq!(done.gates.len(), 1, "{:#?}", done.gates);
    let events = house.events(id).await;
    assert_eq!(events.iter().filter(|kind| *kind == "step_started").count(), 1, "{events:?}");
    second.drain().await;
    house.empty().await;
}

/// It is killed while it waits: nobody has to answer any more.
pub(crate) async fn its_question_dies_with_it(agent: Agent) {
    let house = House::new(agent, writing_by_shell()).await.asking();
    let worker = house.worker().await;
    let id = house.execute().await;
    house.question(id).await;

    house.kill_driver().await;

    let blocked = house.expect(id, "blocked").await;
    assert_eq!(blocked.gates[0].state.name(), "withdrawn", "{:?}", failure_of(&blocked));
    worker.drain().await;
    house.empty().await;
}

/// It waits for people when it is cancelled.
pub(crate) async fn it_is_cancelled_while_it_waits(agent: Agent) {
    let house = House::new(agent, writing_by_shell()).await.asking();
    let worker = house.worker().await;
    let id = house.execute().await;
    house.question(id).await;

    house.cancel(id).await;

    house.expect(id, "cancelled").await;
    house.empty().await;
    worker.drain().await;
}
