//! Attempts and what they print.

use std::time::Duration;

use api::attempts::{AttemptEventView, AttemptStopView, AttemptView, ContainmentView, MeteredView, UsageView};
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
        AttemptCommand::Transcript { attempt, follow } => {
            let id = find(&client, &attempt).await?;
            print_transcript(context, &client, &id, follow).await
        }
        AttemptCommand::Diff { attempt, stat } => {
            let attempt = client.get_attempt(&find(&client, &attempt).await?).await?;
            let step = attempt.subject.strip_prefix("step:").and_then(|id| id.parse().ok());
            let step: i64 = step.ok_or_else(|| {
                Failure::new(
                    Exit::NotFound,
                    format!("attempt {} is of {}, which changes no files", attempt.id, attempt.subject),
                )
            })?;
            let latest = client.get_step(step).await?.attempt.map(|latest| latest.id);
            if latest.as_ref() != Some(&attempt.id) {
                let latest = latest.unwrap_or_else(|| "another".to_owned());
                return Err(Failure::new(
                    Exit::NotFound,
                    format!("only the result of attempt {latest} of step {step} is kept"),
                ));
            }
            super::diffs::show(context, &client, step, stat).await
        }
        AttemptCommand::Usage { attempt } => {
            let attempt = client.get_attempt(&find(&client, &attempt).await?).await?;
            context.output.one("usage", &attempt.usage, || usage(&attempt))
        }
        AttemptCommand::Cancel { attempt } => {
            stopped(context, &client.cancel_attempt(&find(&client, &attempt).await?).await?)
        }
        AttemptCommand::Kill { attempt } => {
            stopped(context, &client.kill_attempt(&find(&client, &attempt).await?).await?)
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
        ("held by", attempt.containment.as_ref().map(held)),
        ("started", Some(attempt.started_at.clone())),
        ("ended", attempt.ended_at.clone()),
        ("exit code", attempt.exit_code.map(|code| code.to_string())),
        ("summary", attempt.summary.clone()),
    ])
}

/// How what passed over the wire compares with what the engine said.
fn metered(metered: &MeteredView) -> String {
    let tokens = |usage: &UsageView| match (usage.input_tokens, usage.output_tokens) {
        (None, None) => "an unknown number of".to_owned(),
        (input, output) => (input.unwrap_or(0) + output.unwrap_or(0)).to_string(),
    };
    let said = metered.told.as_ref().map_or("nothing".to_owned(), |told| format!("{} tokens", tokens(told)));
    let mut text = format!("{} tokens in {} calls; the engine said {said}", tokens(&metered.wire), metered.calls);
    if metered.unmetered > 0 {
        text += &format!("; of {} calls nothing is known", metered.unmetered);
    }
    if metered.refused > 0 {
        text += &format!("; {} calls were refused for the budget", metered.refused);
    }
    text
}

fn held(containment: &ContainmentView) -> String {
    let ContainmentView { level, sandbox, means, network } = containment;
    match means {
        Some(means) => format!("{level}, sandbox {sandbox} by {means}, network {network}"),
        None => format!("{level}, no sandbox"),
    }
}

fn stopped(context: &Context, stopped: &AttemptStopView) -> Result {
    context.output.one("attempt_stop", stopped, || {
        let left = if stopped.ended { "nothing of it is left" } else { "its worker sees to what is left" };
        format!("{} {}: {left}; {}", stopped.attempt.id, stopped.stop, stopped.worktree)
    })
}

fn usage(attempt: &AttemptView) -> String {
    let Some(usage) = &attempt.usage else { return "its engine has not said what it used".to_owned() };
    let said = |value: Option<String>| Some(value.unwrap_or_else(|| "unknown".to_owned()));
    fields([
        ("input", said(usage.input_tokens.map(|n| format!("{n} tokens")))),
        ("cached", said(usage.cached_tokens.map(|n| format!("{n} tokens")))),
        ("output", said(usage.output_tokens.map(|n| format!("{n} tokens")))),
        ("cost", said(usage.cost_usd.as_ref().map(|cost| format!("${cost}")))),
        ("metered", attempt.metered.as_ref().map(metered)),
    ])
}

/// Prints what happened, and with `follow` what happens, until the attempt is over.
async fn print_transcript(context: &Context, client: &Client, attempt: &str, follow: bool) -> Result {
    let is_over = client.get_attempt(attempt).await?.ended_at.is_some();
    let mut events = client.follow_attempt(attempt).await?;
    loop {
        let next = events.next();
        let event = if follow || is_over {
            next.await?
        } else {
            // What there is comes at once; then it would wait for more.
            match tokio::time::timeout(Duration::from_secs(1), next).await {
                Ok(event) => event?,
                Err(_) => return Ok(()),
            }
        };
        let Some(event) = event else { return Ok(()) };
        if context.output.json {
            let shown = with_schema("attempt_event", serde_json::to_value(&event).unwrap_or_default());
            print_line(&shown.to_string())?;
        } else {
            print_clean(&format!("{}\n", tell(&event)))?;
        }
    }
}

/// One event in words.
fn tell(event: &AttemptEventView) -> String {
    let text = |name: &str| event.data.get(name).and_then(|value| value.as_str()).unwrap_or_default();
    match event.kind.as_str() {
        "text" => text("text").to_owned(),
        "reasoning" | "notice" | "question" => format!("[{}] {}", event.kind, text("text")),
        "tool_started" => format!("[tool] {} {}", text("name"), host::text::one_line(text("input"), 200)),
        "tool_finished" => format!("[tool done] {}", host::text::one_line(text("output"), 200)),
        "file_changed" => format!("[{}] {}", text("change"), text("path")),
        "finished" => format!("[{}] {}", text("outcome"), text("message")),
        kind => format!("[{kind}] {}", event.data),
    }
}
