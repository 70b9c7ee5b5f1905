//! The job catalog.

use std::path::Path;

use api::jobs::JobView;

use super::Context;
use crate::{
    cli::JobCommand,
    failure::{Failure, Result},
    node::catalog,
    output::{Output, fields, say},
};

pub(super) async fn run(context: &Context, command: JobCommand) -> Result {
    let client = context.client()?;
    match command {
        JobCommand::List => {
            let catalog = client.list_jobs().await?;
            for warning in &catalog.warnings {
                say(&format!("warning: {warning}"));
            }
            let head = ["job", "title", "owner", "risk", "approval"];
            context.output.list("jobs", &catalog.items, catalog.next_cursor.as_deref(), &head, |job| {
                vec![job.key.clone(), job.title.clone(), job.owner.clone(), job.risk.clone(), approval(job)]
            })
        }
        JobCommand::Get { job } => {
            let job = client.get_job(&job).await?;
            context.output.one("job", &job, || describe(&job))
        }
        JobCommand::Check { file } => check(context.output, &file),
    }
}

/// Checks a file without a server.
pub(super) fn check(output: Output, file: &Path) -> Result {
    let text = host::fs::read_text(file, 4 << 20)?;
    let warnings = catalog::check(&text, file, true)?;
    let jobs = domain::catalog::Catalog::parse(&text, &file.display().to_string())
        .map_err(|error| Failure::usage(error.to_string()))?;
    let n_jobs = jobs.jobs().count();
    let result = serde_json::json!({
        "file": file.display().to_string(),
        "jobs": n_jobs,
        "digest": jobs.digest().to_string(),
        "warnings": warnings,
    });
    for warning in &warnings {
        say(&format!("warning: {warning}"));
    }
    output.one("job_check", &result, || format!("{}: {n_jobs} jobs, no problems", file.display()))
}

fn approval(job: &JobView) -> String {
    match &job.approval {
        None => "none".to_owned(),
        Some(approval) => format!("{} of {}", approval.quorum, approval.of.join(", ")),
    }
}

fn describe(job: &JobView) -> String {
    let mut text = fields([
        ("job", Some(job.key.clone())),
        ("title", Some(job.title.clone())),
        ("owner", Some(job.owner.clone())),
        ("about", job.description.clone()),
        ("runbook", job.runbook.clone()),
        ("risk", Some(job.risk.clone())),
        ("aliases", Some(job.aliases.join("; ")).filter(|aliases| !aliases.is_empty())),
        ("runs", Some(domain::text::command_line(&job.argv))),
        ("approval", Some(approval(job))),
        ("timeout", Some(format!("{} s", job.timeout_seconds))),
    ]);
    for param in &job.params {
        let needed = match (&param.default, param.required) {
            (Some(default), _) => format!(", {default} when missing"),
            (None, true) => ", required".to_owned(),
            (None, false) => String::new(),
        };
        text.push_str(&format!("  {}: {}{needed}\n", param.name, param.expected));
    }
    text
}
