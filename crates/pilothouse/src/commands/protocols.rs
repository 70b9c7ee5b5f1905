//! Protocols.

use std::{path::Path, time::Duration};

use api::protocols::{ActionView, AdvanceBody, NewProtocolBody, ProtocolView};
use client::Client;

use super::{Context, events, steps};
use crate::{
    cli::ProtocolCommand,
    failure::{Exit, Failure, Result},
    output::{fields, say},
};

const MAX_SPEC: u64 = 1 << 20;

pub(super) async fn run(context: &Context, command: ProtocolCommand) -> Result {
    let client = context.client()?;
    let protocol = match command {
        ProtocolCommand::New { project, name, description, base, spec, manual, start } => {
            let new = NewProtocolBody {
                protocol_name: name,
                status: None,
                base_branch: base,
                worktree_path: None,
                protocol_root: None,
                description,
                template_config: None,
                template_source: None,
                spec: spec.as_deref().map(read_spec).transpose()?,
                advance: Some(if manual { AdvanceBody::Manual } else { AdvanceBody::Auto }),
            };
            let made = client.create_protocol(project, &new).await?;
            if start {
                client.start_protocol(made.id).await?;
                client.get_protocol(made.id).await?
            } else {
                made
            }
        }
        ProtocolCommand::List { project } => {
            let protocols = client.list_protocols(project).await?;
            let head = ["protocol", "name", "status", "steps", "reason"];
            return context.output.list("protocols", &protocols, None, &head, |protocol| {
                vec![
                    protocol.id.to_string(),
                    protocol.protocol_name.clone(),
                    protocol.status.clone(),
                    format!("{}/{}", protocol.steps_done, protocol.steps_total),
                    protocol.reason.clone().unwrap_or_default(),
                ]
            });
        }
        ProtocolCommand::Get { protocol } => return show(context, &client, protocol).await,
        ProtocolCommand::Start { protocol } => return act(context, &client.start_protocol(protocol).await?),
        ProtocolCommand::RunNext { protocol } => return act(context, &client.run_next_step(protocol).await?),
        ProtocolCommand::Retry { protocol } => return act(context, &client.retry_latest_step(protocol).await?),
        ProtocolCommand::Pause { protocol } => client.pause_protocol(protocol).await?,
        ProtocolCommand::Resume { protocol } => client.resume_protocol(protocol).await?,
        ProtocolCommand::Cancel { protocol } => client.cancel_protocol(protocol).await?,
        ProtocolCommand::Watch { protocol } => return watch(context, &client, protocol).await,
    };
    context.output.one("protocol", &protocol, || describe(&protocol))
}

fn read_spec(file: &Path) -> Result<serde_json::Value> {
    let text = host::fs::read_text(file, MAX_SPEC)?;
    serde_json::from_str(&text).map_err(|error| Failure::usage(format!("{} is no JSON: {error}", file.display())))
}

/// What an action answered.
pub(super) fn act(context: &Context, action: &ActionView) -> Result {
    context.output.one("action", action, || match &action.job {
        Some(job) => format!("{} ({} {})", action.message, job.job_type, job.job_id),
        None => action.message.clone(),
    })
}

async fn show(context: &Context, client: &Client, id: i64) -> Result {
    let protocol = client.get_protocol(id).await?;
    if context.output.json {
        return context.output.one("protocol", &protocol, String::new);
    }
    let steps = client.list_steps(id).await?;
    context.output.one("protocol", &protocol, || {
        let steps: String = steps.iter().map(|step| format!("  {}\n", steps::line(step))).collect();
        format!("{}{steps}", describe(&protocol))
    })
}

fn describe(protocol: &ProtocolView) -> String {
    fields([
        ("protocol", Some(protocol.id.to_string())),
        ("name", Some(protocol.protocol_name.clone())),
        ("project", Some(protocol.project_id.to_string())),
        ("status", Some(protocol.status.clone())),
        ("reason", protocol.reason.clone()),
        ("waits", protocol.gate_id.as_ref().map(|gate| format!("for an approval: pilothouse yes {gate}"))),
        ("about", protocol.description.clone()),
        ("advance", Some(protocol.advance.clone())),
        ("base", Some(protocol.base_branch.clone())),
        ("tip", protocol.branch.tip.clone()),
        ("steps", Some(format!("{} of {} done", protocol.steps_done, protocol.steps_total))),
    ])
}

/// Tells every event until the protocol is over; the exit code says how.
async fn watch(context: &Context, client: &Client, id: i64) -> Result {
    let subject = format!("protocol:{id}");
    let mut after = None;
    let mut waits = None;
    loop {
        // Looked at before the events: what happens in between is told in the next round.
        let protocol = client.get_protocol(id).await?;
        loop {
            let page = client.list_events(Some(&subject), after.as_deref(), Some(500)).await?;
            for event in &page.items {
                events::show(context.output, event)?;
            }
            after = page.next_cursor.or(after);
            if page.items.is_empty() {
                break;
            }
        }
        if protocol.gate_id.is_some() && protocol.gate_id != waits {
            say(&format!("waits for an approval: pilothouse yes {}", protocol.gate_id.as_deref().unwrap_or_default()));
        }
        waits.clone_from(&protocol.gate_id);
        let told = || format!("protocol {id} is {}: {}", protocol.status, protocol.reason.as_deref().unwrap_or("-"));
        match protocol.status.as_str() {
            "completed" => return Ok(()),
            "failed" | "cancelled" => return Err(Failure::new(Exit::Failed, told())),
            _ => tokio::time::sleep(Duration::from_millis(300)).await,
        }
    }
}
