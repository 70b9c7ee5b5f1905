//! Judging what others made.

use domain::{attempt::AttemptState, protocol::Protocol};
use serde_json::{Value, json};
use testkit::models::{Reply, Rule, Scenario};

use super::{
    agent::Agent,
    house::{House, failure_of},
};

const REVIEWING: &str = "Review the following result";

fn answer(verdict: &str) -> Value {
    let severity = if verdict == "fail" { "blocking" } else { "note" };
    let finding = json!({"severity": severity, "file": "made.txt", "line": 1, "message": "It is a number."});
    json!({"verdict": verdict, "summary": "It was looked at.", "findings": [finding]})
}

/// A step that a command carries out, judged by a command and then by the agent.
async fn judged_by(agent: Agent, house: &House, state: &str) -> Protocol {
    let step = json!({"id": "make", "name": "01-make.md", "description": "Put the answer into a file.",
        "engine_id": "shell", "inputs": {"argv": ["sh", "-c", "echo 42 > made.txt"]},
        "checks": [["grep", "42", "made.txt"]], "qa": {"engine_id": agent.id()}});
    let id = house.protocol(Some(json!({"steps": [step]}))).await;
    house.expect(id, state).await
}

pub(crate) async fn what_it_passes_is_integrated(agent: Agent) {
    let house = House::new(agent, Scenario::new().rule(Rule::on(REVIEWING).reply([Reply::json(answer("pass"))]))).await;
    let worker = house.worker().await;

    let done = judged_by(agent, &house, "completed").await;

    assert_eq!(house.on_branch("made.txt").await, "42");
    let report = house.on_branch(".protocols/0001-make/quality-report.md").await;
    let row = format!("| review by {} | pass | - |", agent.id());
    assert!(report.contains(&row) && report.contains("note made.txt:1: It is a number."), "{report}");
    let asked = house.model.asked();
    assert!(asked.iter().any(|asked| asked.prompt().contains("+42")), "it was shown what was changed");
    let attempt = done.steps[0].attempt.clone().unwrap();
    assert_eq!((attempt.engine.as_str(), attempt.phase.as_str()), (agent.id(), "qa"));
    // It only reads, whatever it is told.
    let sandbox = attempt.containment.unwrap().sandbox.unwrap();
    assert_eq!(sandbox.profile, "read-only");
    if matches!(agent, Agent::Codex | Agent::Claude) {
        let AttemptState::Ended { usage: Some(usage), .. } = attempt.state else { panic!("{:?}", attempt.state) };
        assert!(usage.output_tokens.is_some_and(|tokens| tokens > 0), "{usage:?}");
    }
    worker.drain().await;
    house.empty().await;
}

pub(crate) async fn what_it_fails_stays_off_the_branch(agent: Agent) {
    let house = House::new(agent, Scenario::new().rule(Rule::on(REVIEWING).reply([Reply::json(answer("fail"))]))).await;
    let worker = house.worker().await;

    let blocked = judged_by(agent, &house, "blocked").await;

    let failure = failure_of(&blocked);
    assert_eq!((failure.code.as_str(), failure.why), ("qa_failed", format!("review by {} failed", agent.id())));
    let left = std::fs::read_to_string(house.dir().join("attempts/step-1-2/quality-report.md")).unwrap();
    assert!(left.contains("blocking made.txt:1: It is a number."), "{left}");
    let branch = house.git(&["ls-tree", "--name-only", "0001-make"]).await;
    assert!(!branch.contains("made.txt"), "{branch}");
    worker.drain().await;
    house.empty().await;
}

pub(crate) async fn a_verdict_that_is_none_is_given_back_once(agent: Agent) {
    let scenario = Scenario::new()
        .rule(Rule::on(REVIEWING).times(1).reply([Reply::json(json!({"verdict": "approved"}))]))
        .rule(Rule::always().reply([Reply::json(answer("fail"))]));
    let house = House::new(agent, scenario).await;
    let worker = house.worker().await;

    let blocked = judged_by(agent, &house, "blocked").await;

    assert_eq!(failure_of(&blocked).code, "qa_failed", "{:?}", failure_of(&blocked));
    let asked = house.model.asked();
    let given_back = asked.iter().find(|asked| asked.prompts().len() > 1).expect("the session goes on");
    assert!(given_back.prompts()[0].contains(REVIEWING));
    worker.drain().await;
}
