//! The second scene: a catalogued job, asked for, approved and run by text.

use std::path::Path;

use api::inbound::{InboundBody, InboundView};

use super::Stage;
use crate::failure::{Exit, Failure, Result};

pub(super) const FILE: &str = "jobs.toml";

const CATALOG: &str = r#"# A catalog: what people may ask for, with which parameters, and who has to agree.
[job.hello]
title = "Greet {{name}}"
owner = "demo"
aliases = ["greet {name}"]

[job.hello.params.name]
type = "string"
pattern = "^[A-Za-z]{1,20}$"
default = "world"

[job.hello.exec]
argv = ["echo", "Hello, {{name}}!"]
timeout = "10s"

[job.hello.policy]
approve = { of = ["dev:*"], quorum = 1, distinct_from_requester = false }
"#;

const YOU: &str = "dev:you";

pub(super) fn prepare(dir: &Path) -> Result {
    Ok(host::fs::write_atomic(&dir.join(FILE), CATALOG.as_bytes())?)
}

pub(super) async fn play(stage: &Stage) -> Result {
    stage.show("\n== a job by text ==")?;
    let asked = speak(stage, "run hello").await?;
    let Some(run) = asked.run_id else { return Err(Failure::failed("the message `run hello` made no run")) };
    let answer = if stage.ask(&format!("Approve {run}?")).await? { "yes" } else { "no" };
    speak(stage, &format!("{answer} {run}")).await?;
    let view = stage.client.get_run_details(&run).await?;
    let view = crate::commands::wait_for_run(&stage.client, view, super::PATIENCE).await?;
    let outcome = view.summary.clone().unwrap_or_else(|| view.status.clone());
    if view.status != "Succeeded" {
        let exit = if view.status == "Denied" { Exit::Denied } else { Exit::Failed };
        return Err(Failure::new(exit, format!("run {run}: {outcome}")));
    }
    let log = match &view.attempt {
        Some(attempt) => stage.client.read_log(&attempt.id, 0).await?.text,
        None => String::new(),
    };
    stage.show(&format!("run {run} printed: {}", log.trim_end()))?;
    stage.show(&format!("run {run}: {} ({outcome})", view.status))?;
    let timeline = stage.client.get_run(&run).await?;
    let told: String =
        timeline.events.iter().map(|event| format!("  {}  {:<20} {}\n", event.at, event.kind, event.actor)).collect();
    stage.show(&format!("timeline of run {run}:\n{told}"))
}

/// Says something on the development channel and shows both sides of it.
async fn speak(stage: &Stage, text: &str) -> Result<InboundView> {
    stage.show(&format!("you> {text}"))?;
    let message = InboundBody {
        from: Some(YOU.to_owned()),
        conversation: Some(YOU.to_owned()),
        body: Some(text.to_owned()),
        provider_message_id: Some(host::random::base62(16)),
    };
    let answer = stage.client.send_inbound(&message).await?;
    for reply in &answer.outbound {
        for line in reply.body.lines() {
            stage.show(&format!("pilothouse> {line}"))?;
        }
    }
    Ok(answer)
}
