//! What a run leaves for others to read: one JSON object a target, in the form of `chaos`, in `evidence/fuzz.jsonl`.

use std::fs::{self, File};
use std::io::Write as _;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::report::Verdict;
use super::{Row, WANTED};
use crate::process::{capture, workspace};

/// What was tested.
pub(super) struct Sources {
    commit: Option<String>,
    /// Whether the working tree differs from the commit, in anything but evidence, which grows with every run.
    is_dirty: Option<bool>,
}

impl Sources {
    /// Asks git; outside a repository nothing is known.
    pub(super) fn read() -> Self {
        let git = |arguments: &[&str]| capture(Command::new("git").args(arguments).current_dir(workspace())).ok();
        let commit = git(&["rev-parse", "HEAD"]).map(|out| out.trim().to_owned());
        let is_dirty = git(&["status", "--porcelain", "--untracked-files=no", "--", ":(top,exclude)evidence"])
            .map(|out| !out.trim().is_empty());
        Self { commit, is_dirty }
    }
}

/// Adds the line of a target. `fell`: whether the control did what it has to, and how long that took.
pub(super) fn append(sources: &Sources, row: &Row, fell: bool, control_took: Duration) -> Result<()> {
    let at = capture(Command::new("date").args(["-u", "+%Y-%m-%dT%H:%M:%SZ"]))?;
    let entry = entry(at.trim(), sources, row, fell, control_took);
    let dir = workspace().join("evidence");
    fs::create_dir_all(&dir)?;
    let path = dir.join("fuzz.jsonl");
    let mut file = File::options().append(true).create(true).open(&path)?;
    writeln!(file, "{entry}").with_context(|| format!("cannot write {}", path.display()))
}

fn entry(at: &str, sources: &Sources, row: &Row, fell: bool, control_took: Duration) -> Value {
    json!({
        "at": at,
        "commit": sources.commit,
        "dirty": sources.is_dirty,
        "fault": "fuzz",
        "target": row.target,
        "seed": row.seed,
        "wanted": WANTED,
        "done": row.report.n_inputs,
        "cut": row.cut,
        "verdict": row.report.verdict.name(),
        "passes": row.report.verdict == Verdict::Sound && fell,
        "why": row.report.details(),
        "controls": [{"name": super::CONTROL, "met": fell}],
        "figures": row.report.figures(),
        "seconds": row.took.as_secs_f64(),
        "control_seconds": control_took.as_secs_f64(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzz::report::Report;
    use std::path::Path;

    #[test]
    fn nothing_passes_whose_control_did_not_fall() {
        let log = "#9\tDONE   cov: 3 ft: 3 corp: 2/9b\nstat::number_of_executed_units: 9\n";
        let report = Report::of(log, true, Path::new("/x.log"));
        let row = Row { target: "plan".to_owned(), seed: 7, report, cut: None, took: Duration::from_secs(1) };
        let sources = Sources { commit: Some("abc".to_owned()), is_dirty: Some(false) };
        let entry = |fell| entry("2026-11-22T12:00:00Z", &sources, &row, fell, Duration::ZERO);

        assert_eq!((&entry(true)["passes"], &entry(false)["passes"]), (&json!(true), &json!(false)));
        assert_eq!((&entry(true)["done"], &entry(true)["verdict"]), (&json!(9), &json!("sound")));
    }
}
