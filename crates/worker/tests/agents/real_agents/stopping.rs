//! Agents that are ended, by us or by others.

use std::time::Duration;

use host::process::{self, Command};
use serde_json::json;
use testkit::{
    agents::have_written_usage,
    models::{Reply, Rule, Scenario},
};

use super::{
    agent::Agent,
    house::{House, TASK, failure_of},
};

/// A tool that says that it runs and then does not end. Claude Code refuses to sleep.
const ENDLESS: &str = "echo yes > started.txt; tail -f /dev/null";

fn endless(before: Scenario) -> Scenario {
    before.rule(Rule::at(TASK, 0).reply([Reply::shell(ENDLESS)]))
}

async fn in_the_middle_of_a_tool(house: &House) {
    house.wait("the tool to run", async || house.in_worktree("started.txt")).await;
}

async fn kill(pid: i32) {
    let killed = process::run(Command::new("/bin/kill").args(["-9".to_owned(), pid.to_string()])).await.unwrap();
    assert!(killed.status.success(), "{killed:?}");
}

pub(crate) async fn it_is_cancelled_in_the_middle_of_a_tool(agent: Agent) {
    let house = House::new(agent, endless(Scenario::new())).await;
    let worker = house.worker().await;
    let id = house.execute().await;
    in_the_middle_of_a_tool(&house).await;

    let started = host::clock::monotonic();
    house.cancel(id).await;

    house.expect(id, "cancelled").await;
    house.empty().await;
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
    worker.drain().await;
}

pub(crate) async fn killed_it_fails_and_its_tool_goes_with_it(agent: Agent) {
    let house = House::new(agent, endless(Scenario::new())).await;
    let worker = house.worker().await;
    let id = house.execute().await;
    in_the_middle_of_a_tool(&house).await;
    let tells_at_once = matches!(agent, Agent::Claude | Agent::Gemini);
    if tells_at_once {
        house.wait("the session's file", async || have_written_usage(&house.dir().join("attempts"))).await;
    }

    kill(house.engine()).await;

    let blocked = house.expect(id, "blocked").await;
    assert_eq!(failure_of(&blocked).code, "engine_killed", "{:?}", failure_of(&blocked));
    if tells_at_once {
        // Its stream never said so; the file of its session does. Others write there only once the tool has ended.
        let end = &house.event(id, "step_execution_failed").await["end"];
        assert_eq!((&end["usage"]["input_tokens"], &end["usage"]["output_tokens"]), (&json!(100), &json!(20)), "{end}");
    }
    house.empty().await;
    worker.drain().await;
}

pub(crate) async fn its_session_goes_on_after_its_supervisor_was_killed(agent: Agent) {
    let scenario = Scenario::new()
        .rule(Rule::at("cut off", 0).reply([Reply::write("made.txt", "42\n")]))
        .rule(Rule::on("cut off").reply([Reply::text("The answer is there.")]));
    let house = House::new(agent, endless(scenario)).await;
    let first = house.worker().await;
    let id = house.execute().await;
    in_the_middle_of_a_tool(&house).await;
    first.drain().await;
    kill(house.supervisor()).await;
    house.empty().await;

    let second = house.worker().await;

    house.expect(id, "completed").await;
    let asked = house.model.asked();
    // Some ask for a title of it beside.
    let told = |asked: &&testkit::models::Asked| asked.prompt().contains("cut off") && !asked.tools.is_empty();
    let resumed = asked.iter().find(told).expect("it was told");
    assert!(resumed.prompts().len() > 1, "{:?}", resumed.prompts());
    let events = house.events(id).await;
    assert_eq!(events.iter().filter(|kind| *kind == "step_started").count(), 1, "{events:?}");
    assert!(events.iter().any(|kind| kind == "attempt_adopted"), "{events:?}");
    second.drain().await;
    house.empty().await;
}
