//! The first scene: a protocol that makes a failing test pass, from plan to branch.

use std::time::Duration;

use api::{
    gates::{ApproveBody, DenyBody},
    projects::{EngineBody, EnginesBody, NewProjectBody},
    protocols::{AdvanceBody, NewProtocolBody, ProtocolView},
};
use serde_json::{Value, json};

use super::{Stage, repository::Repository};
use crate::failure::{Exit, Failure, Result};

const NAME: &str = "0001-make-the-test-pass";
const SCENARIO: &str = "scenario.json";
const PAUSE: Duration = Duration::from_millis(15);

pub(super) async fn play(stage: &Stage) -> Result {
    stage.show("== a protocol on a repository ==")?;
    let repository = Repository::create(&stage.dir).await?;
    let (passes, told) = repository.test().await?;
    if passes {
        return Err(Failure::failed("the test of the demo's repository passes already"));
    }
    stage.show(&format!("the repository's test fails: {told}"))?;
    let id = begin(stage, &repository).await?;
    let waiting = until(stage, id, |protocol| protocol.gate_id.is_some()).await?;
    answer(stage, &waiting).await?;
    let done = until(stage, id, |_| false).await?;
    stage.quiet().await;
    tell(stage, &repository, &done).await
}

/// Makes the project and the protocol, and starts it.
async fn begin(stage: &Stage, repository: &Repository) -> Result<i64> {
    let scenario = stage.dir.join(SCENARIO);
    host::fs::write_atomic(&scenario, scenes().to_string().as_bytes())?;
    let engine =
        EngineBody { id: "scripted".to_owned(), scenario: scenario.to_str().map(str::to_owned), fallback: Vec::new() };
    let project = NewProjectBody {
        name: "greet".to_owned(),
        git_url: repository.dir.display().to_string(),
        base_branch: Some("main".to_owned()),
        ci_provider: None,
        default_models: None,
        secrets: None,
        engines: Some(EnginesBody { planning: Some(engine.clone()), execution: Some(engine), qa: None }),
        checks: None,
    };
    let project = stage.client.create_project(&project).await?;
    let protocol = NewProtocolBody {
        protocol_name: NAME.to_owned(),
        status: None,
        base_branch: None,
        worktree_path: None,
        protocol_root: None,
        description: Some("Make the test pass.".to_owned()),
        template_config: None,
        template_source: None,
        spec: Some(spec()),
        advance: Some(AdvanceBody::Auto),
    };
    let protocol = stage.client.create_protocol(project.id, &protocol).await?;
    stage.client.start_protocol(protocol.id).await?;
    Ok(protocol.id)
}

/// What is to be done: set up, fix, and after an approval write down what was fixed.
fn spec() -> Value {
    json!({
        "plan": "# Make the test pass\n\nThe greeting lacks its comma and its exclamation mark.\n",
        "steps": [
            {"id": "setup", "name": "00-setup.md", "description": "Look at the repository."},
            {"id": "fix", "name": "01-fix-the-greeting.md", "step_type": "work",
             "description": "Make `greet` say `Hello, World!`.", "checks": [["sh", "test.sh"]]},
            {"id": "finalize", "name": "02-finalize.md", "step_type": "work",
             "description": "Write down what changed.", "checks": [["sh", "test.sh"]],
             "gate": {"when": "before", "self_approval": true}},
        ],
    })
}

/// What the scripted engine does for each step.
fn scenes() -> Value {
    json!({
        "version": 1,
        "title": "make the test pass",
        "scenes": [
            {"step": "00-setup.md", "actions": [
                {"do": "message", "text": "Looked at greet.sh and test.sh; nothing has to be installed."}]},
            {"step": "01-fix-the-greeting.md", "actions": [
                {"do": "message", "text": "The greeting lacks a comma and an exclamation mark."},
                {"do": "replace", "path": "greet.sh", "find": "Hello %s", "with": "Hello, %s!"},
                {"do": "usage", "input_tokens": 812, "output_tokens": 64}]},
            {"step": "02-finalize.md", "actions": [
                {"do": "write", "path": "CHANGES.md", "text": "# Changes\n\n- The greeting is polite.\n"},
                {"do": "message", "text": "Wrote CHANGES.md."}]},
        ],
    })
}

/// Waits for what is asked for, or for the end; anything but a good end is a failure.
async fn until(stage: &Stage, id: i64, reached: impl Fn(&ProtocolView) -> bool) -> Result<ProtocolView> {
    loop {
        let protocol = stage.client.get_protocol(id).await?;
        if reached(&protocol) || protocol.status == "completed" {
            return Ok(protocol);
        }
        let waits = protocol.gate_id.is_some();
        let stuck =
            matches!(protocol.status.as_str(), "failed" | "cancelled") || protocol.status == "blocked" && !waits;
        if stuck {
            let why = protocol.reason.as_deref().unwrap_or("no reason was given");
            return Err(Failure::new(Exit::Failed, format!("the protocol is {}: {why}", protocol.status)));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn answer(stage: &Stage, protocol: &ProtocolView) -> Result {
    let Some(gate) = &protocol.gate_id else {
        return Err(Failure::failed("the protocol completed without asking"));
    };
    let shown = stage.client.get_gate(gate).await?;
    stage.quiet().await;
    stage.show(&format!("the protocol waits: {}", shown.title))?;
    for line in &shown.lines {
        stage.show(&format!("  {line}"))?;
    }
    if stage.ask(&format!("Approve {gate}?")).await? {
        let body = ApproveBody { digest: Some(shown.digest), note: None };
        stage.client.approve_gate(gate, &body).await?;
        return Ok(());
    }
    stage.client.deny_gate(gate, &DenyBody::default()).await?;
    Err(Failure::new(Exit::Denied, "the protocol was denied; nothing more happens to the branch"))
}

async fn tell(stage: &Stage, repository: &Repository, done: &ProtocolView) -> Result {
    let range = format!("main..{NAME}");
    let diff = repository.git(&["diff", "--no-color", &range, "--", ".", ":(exclude).protocols"]).await?;
    stage.show(&format!("\nthe diff of branch {NAME} against main, without the protocol's own files:\n{diff}"))?;
    let report = repository.git(&["show", &format!("{NAME}:.protocols/{NAME}/quality-report.md")]).await?;
    stage.show(&format!("the quality report on the branch:\n{}", indented(&report)))?;
    let commits = repository.git(&["log", "--reverse", "--format=%h %s", &range]).await?;
    stage.show(&format!("the commits of the branch:\n{}", indented(&commits)))?;
    let events = stage.client.list_events(Some(&format!("protocol:{}", done.id)), None, Some(500)).await?;
    let timeline: String = events
        .items
        .iter()
        .map(|event| {
            let subject = crate::commands::event_subject(event);
            format!("  {}  {subject:<18} {}  ({})\n", event.at, event.message, event.actor)
        })
        .collect();
    stage.show(&format!("the timeline of protocol {}:\n{timeline}", done.id))?;
    stage.show(&format!("protocol {}: {}", done.id, done.status))
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}\n")).collect()
}
