//! What a run leaves for others to read: one JSON object a row, appended to `<dir>/<fault>.jsonl`.

use std::{io::Write, path::Path};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::row::Row;

/// What was tested.
#[derive(Clone, Debug)]
pub struct Sources {
    commit: Option<String>,
    /// Whether the working tree differs from the commit, in anything but evidence, which grows with every run.
    is_dirty: Option<bool>,
}

impl Sources {
    /// Asks git; outside a repository nothing is known.
    pub async fn read() -> Self {
        let commit = git(&["rev-parse", "HEAD"]).await.map(|out| out.trim().to_owned());
        let is_dirty = git(&["status", "--porcelain", "--untracked-files=no", "--", ":(top,exclude)evidence"])
            .await
            .map(|out| !out.trim().is_empty());
        Self { commit, is_dirty }
    }
}

async fn git(arguments: &[&str]) -> Option<String> {
    let command = host::process::Command::new("git")
        .args(arguments.iter().copied())
        .cwd(env!("CARGO_MANIFEST_DIR"))
        .env("PATH", host::env::var("PATH").unwrap_or_default());
    let output = host::process::run(command).await.ok().filter(|output| output.status.success())?;
    String::from_utf8(output.stdout).ok()
}

pub fn append(dir: &Path, sources: &Sources, row: &Row) -> Result<()> {
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let mut entry = json!({
        "at": domain::time::Timestamp::from_micros(host::clock::now_micros()).to_string(),
        "commit": sources.commit,
        "dirty": sources.is_dirty,
    });
    if let (Value::Object(entry), Value::Object(row)) = (&mut entry, row.json()) {
        entry.extend(row);
    }
    let path = dir.join(format!("{}.jsonl", row.fault));
    let mut file = std::fs::OpenOptions::new().append(true).create(true).open(&path)?;
    writeln!(file, "{entry}").with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{fault::Backend, faults};

    #[test]
    fn each_row_is_one_more_line() {
        let dir = host::fs::create_temporary_dir(&host::fs::temporary_root(), "evidence-").unwrap();
        let sources = Sources { commit: Some("abc".to_owned()), is_dirty: Some(true) };
        let row = Row::new(faults::ALL[0], Backend::Sqlite, 10, 7);

        append(&dir, &sources, &row).unwrap();
        append(&dir, &sources, &row).unwrap();

        let text = std::fs::read_to_string(dir.join(format!("{}.jsonl", row.fault))).unwrap();
        std::fs::remove_dir_all(dir).unwrap();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(
            (&lines[1]["commit"], &lines[1]["dirty"], &lines[1]["seed"]),
            (&json!("abc"), &json!(true), &json!(7))
        );
    }
}
