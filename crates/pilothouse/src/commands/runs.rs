//! Runs: asked for, waited for, looked at.

use std::{collections::BTreeMap, time::Duration};

use api::{
    runs::{NewRunBody, ParamValue, RunView},
    timeline::RunTimeline,
};
use client::Client;

use super::Context;
use crate::{
    cli::{PageArgs, RunArgs, RunsArgs, RunsCommand},
    failure::{Exit, Failure, Result},
    output::{fields, say},
};

pub(super) async fn request(context: &Context, args: RunArgs) -> Result {
    let wait = args.wait.as_deref().map(parse_wait).transpose()?;
    let params = parse_params(&args.params)?;
    let client = context.client()?;
    let new = NewRunBody { job: args.job, params, reason: args.reason };
    let run = client.request_run(&new, args.idempotency_key.as_deref()).await?;
    let Some(limit) = wait else {
        return context.output.one("run", &run, || describe(&run));
    };
    if run.gate_id.is_some() {
        say(&format!("{} waits for an approval: pilothouse yes {}", run.id, run.id));
    }
    let run = wait_for(&client, run, limit).await?;
    context.output.one("run", &run, || describe(&run))?;
    verdict(&run)
}

pub(super) async fn run(context: &Context, args: RunsArgs) -> Result {
    let client = context.client()?;
    let changed = match args.command {
        None => return list(context, &client, &args.page).await,
        Some(RunsCommand::List(page)) => return list(context, &client, &page).await,
        Some(RunsCommand::Get { run }) => {
            let view = client.get_run_details(&run).await?;
            if context.output.json {
                return context.output.one("run", &view, String::new);
            }
            let timeline = client.get_run(&run).await?;
            return context.output.one("run", &view, || format!("{}\n{}", describe(&view), tell(&timeline)));
        }
        Some(RunsCommand::Cancel { run }) => client.cancel_run(&run).await?,
        Some(RunsCommand::Retry { run }) => client.retry_run(&run).await?,
    };
    context.output.one("run", &changed, || describe(&changed))
}

async fn list(context: &Context, client: &Client, page: &PageArgs) -> Result {
    let runs = client.list_runs(page.status.as_deref(), page.after.as_deref(), page.limit).await?;
    let head = ["run", "job", "status", "by", "created", "summary"];
    context.output.list("runs", &runs.items, runs.next_cursor.as_deref(), &head, |run| {
        vec![
            run.id.clone(),
            run.job.clone(),
            run.status.clone(),
            run.requester.clone(),
            run.created_at.clone(),
            run.summary.clone().unwrap_or_default(),
        ]
    })
}

pub(super) fn describe(run: &RunView) -> String {
    fields([
        ("run", Some(run.id.clone())),
        ("job", Some(run.job.clone())),
        ("status", Some(run.status.clone())),
        ("runs", Some(run.command.clone())),
        ("by", Some(run.requester.clone())),
        ("reason", run.reason.clone()),
        ("created", Some(run.created_at.clone())),
        ("finished", run.finished_at.clone()),
        ("summary", run.summary.clone()),
        ("attempt", run.attempt.as_ref().map(|attempt| attempt.id.clone())),
        ("waits", run.gate_id.as_ref().map(|_| format!("for an approval: pilothouse yes {}", run.id))),
    ])
}

fn tell(timeline: &RunTimeline) -> String {
    timeline.events.iter().map(|event| format!("{}  {:<20} {}\n", event.at, event.kind, event.actor)).collect()
}

/// Parameters as they are typed: `key=value`, each key once.
fn parse_params(typed: &[String]) -> Result<BTreeMap<String, ParamValue>> {
    let mut params = BTreeMap::new();
    for param in typed {
        let Some((key, value)) = param.split_once('=').filter(|(key, _)| !key.is_empty()) else {
            return Err(Failure::usage(format!("{param} is not KEY=VALUE")).remedy("Write env=prod."));
        };
        if params.insert(key.to_owned(), ParamValue::Text(value.to_owned())).is_some() {
            return Err(Failure::usage(format!("{key} is given twice")));
        }
    }
    Ok(params)
}

fn parse_wait(text: &str) -> Result<Duration> {
    domain::catalog::parse_duration(text)
        .ok_or_else(|| Failure::usage(format!("--wait={text}: not a span")).remedy("Write 30s or 15m."))
}

/// Looks until the run is over or the time is.
pub(crate) async fn wait_for(client: &Client, mut run: RunView, limit: Duration) -> Result<RunView> {
    let started = host::clock::monotonic();
    let mut pause = Duration::from_millis(20);
    while !run.finished {
        let left = limit.saturating_sub(started.elapsed());
        if left.is_zero() {
            let waiting = run.gate_id.is_some();
            let exit = if waiting { Exit::Waiting } else { Exit::TimedOut };
            let stands = if waiting { "still waits for an approval" } else { "is not over yet" };
            return Err(Failure::new(exit, format!("run {} {stands}", run.id))
                .remedy(format!("It goes on; `pilothouse status {}` tells how it stands.", run.id)));
        }
        tokio::time::sleep(pause.min(left)).await;
        pause = (pause * 2).min(Duration::from_secs(1));
        run = client.get_run_details(&run.id).await?;
    }
    Ok(run)
}

/// The exit code of a run that is over.
fn verdict(run: &RunView) -> Result {
    let told = run.summary.clone().unwrap_or_else(|| run.status.clone());
    let exit = match run.status.as_str() {
        "Succeeded" => return Ok(()),
        "Denied" | "Expired" => Exit::Denied,
        "TimedOut" => Exit::TimedOut,
        _ => Exit::Failed,
    };
    Err(Failure::new(exit, format!("run {}: {told}", run.id)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_pairs_and_may_hold_equals_signs() {
        let params = parse_params(&["env=prod".to_owned(), "q=a=b".to_owned(), "empty=".to_owned()]).unwrap();

        assert_eq!(params["q"], ParamValue::Text("a=b".to_owned()));
        assert_eq!(params["empty"], ParamValue::Text(String::new()));
        for wrong in [&["env"][..], &["=x"], &["a=1", "a=2"]] {
            let wrong: Vec<String> = wrong.iter().map(|&param| param.to_owned()).collect();
            assert_eq!(parse_params(&wrong).unwrap_err().exit, Exit::Usage);
        }
    }
}
