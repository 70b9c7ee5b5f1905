//! Whether this machine can do what Pilothouse promises: one finding for each thing it rests on, with what to do.
//!
//! Everything is found out by trying it, here and now; nothing is asked of a server except whether it is well. What may
//! be put right without asking is only what nobody but us uses: the permissions of our own files.

mod machine;
mod sandboxes;

use serde::Serialize;

use crate::{
    config::Settings,
    failure::{Failure, Result},
    output::Output,
    session::Wanted,
};

/// How one thing stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Status {
    Ok,
    /// It works, and less well or less safely than it could.
    Warning,
    Failed,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    pub(crate) check: &'static str,
    pub(crate) status: Status,
    pub(crate) found: String,
    /// What to do about it.
    pub(crate) remedy: Option<String>,
    /// Whether `--fix` has just put it right.
    pub(crate) fixed: bool,
}

impl Finding {
    fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, status: Status::Ok, found: found.into(), remedy: None, fixed: false }
    }

    fn warning(check: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { status: Status::Warning, remedy: Some(remedy.into()), ..Self::ok(check, found) }
    }

    fn failed(check: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { status: Status::Failed, remedy: Some(remedy.into()), ..Self::ok(check, found) }
    }
}

#[derive(Serialize)]
struct Report<'f> {
    healthy: bool,
    findings: &'f [Finding],
}

/// Looks at everything, and says so.
pub(crate) async fn run(settings: &Settings, wanted: &Wanted, output: Output, fix: bool) -> Result {
    let mut findings = machine::look(settings, wanted, fix).await;
    findings.extend(sandboxes::look(settings).await);
    let n_failed = findings.iter().filter(|finding| finding.status == Status::Failed).count();
    let report = Report { healthy: n_failed == 0, findings: &findings };
    output.one("doctor", &report, || findings.iter().map(line).collect::<Vec<_>>().join("\n"))?;
    match n_failed {
        0 => Ok(()),
        n => Err(Failure::failed(format!("{n} of {} checks failed", findings.len()))),
    }
}

fn line(finding: &Finding) -> String {
    let word = match finding.status {
        Status::Ok if finding.fixed => "fixed",
        Status::Ok => "ok",
        Status::Warning => "warning",
        Status::Failed => "FAILED",
    };
    let remedy = finding.remedy.as_ref().map(|remedy| format!(" -> {remedy}")).unwrap_or_default();
    let found = host::text::one_line(&finding.found, 300);
    format!("{word:<8}{:<20}{found}{remedy}", finding.check)
}
