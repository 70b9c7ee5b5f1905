//! Attempts and what they print.

use std::time::Duration;

use api::attempts::AttemptView;
use client::Client;

use super::Context;
use crate::{
    cli::AttemptCommand,
    failure::{Exit, Failure, Result},
    output::{fields, print_clean, print_line, with_schema},
};

pub(super) async fn run(context: &Context, command: AttemptCommand) -> Result {
    let client = context.client()?;
    match command {
        AttemptCommand::Get { attempt } => {
            let attempt = client.get_attempt(&attempt).await?;
            context.output.one("attempt", &attempt, || describe(&attempt))
        }
        AttemptCommand::Logs { attempt, follow } => {
            let id = find(&client, &attempt).await?;
            print_log(context, &client, &id, follow).await
        }
    }
}

/// An attempt's id, or the latest attempt of a run.
async fn find(client: &Client, typed: &str) -> Result<String> {
    if typed.contains('-') && !typed.to_ascii_uppercase().starts_with("J-") {
        return Ok(typed.to_owned());
    }
    let run = client.get_run_details(typed).await?;
    run.attempt
        .map(|attempt| attempt.id)
        .ok_or_else(|| Failure::new(Exit::NotFound, format!("run {} has not been attempted yet", run.id)))
}

/// Prints what there is, and with `follow` what comes, until the attempt is over.
pub(crate) async fn print_log(context: &Context, client: &Client, attempt: &str, follow: bool) -> Result {
    let mut offset = 0;
    loop {
        let piece = client.read_log(attempt, offset).await?;
        if context.output.json {
            if !piece.text.is_empty() || !follow {
                let shown = with_schema("log", serde_json::to_value(&piece).unwrap_or_default());
                print_line(&shown.to_string())?;
            }
        } else {
            print_clean(&piece.text)?;
        }
        let moved = piece.next_offset > offset;
        offset = piece.next_offset;
        if piece.ended || (!follow && (!moved || offset >= piece.total)) {
            return Ok(());
        }
        if !moved {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

fn describe(attempt: &AttemptView) -> String {
    fields([
        ("attempt", Some(attempt.id.clone())),
        ("of", Some(attempt.subject.clone())),
        ("engine", Some(attempt.engine.clone())),
        ("status", Some(attempt.status.clone())),
        ("worker", Some(attempt.worker.clone())),
        ("started", Some(attempt.started_at.clone())),
        ("ended", attempt.ended_at.clone()),
        ("exit code", attempt.exit_code.map(|code| code.to_string())),
        ("summary", attempt.summary.clone()),
    ])
}
