//! One call of the product's command line: what it said and whether it succeeded.

use std::{path::Path, process::Stdio, time::Duration};

use anyhow::{Context, Result};
use tokio::process::Command;

use crate::place::Place;

const PATIENCE: Duration = Duration::from_secs(60);
/// Characters of what was said that are worth repeating.
const REPEATED: usize = 400;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    pub succeeded: bool,
    /// The end of stdout and stderr.
    pub said: String,
}

/// Runs `program arguments… --data-dir DATA` in a place and waits for its end.
pub async fn run(program: &Path, arguments: &[&str], place: &Place) -> Result<Said> {
    #[expect(clippy::disallowed_methods, reason = "drives the product from outside, which host's spawner cannot")]
    let mut command = Command::new(program);
    command
        .args(arguments)
        .arg("--data-dir")
        .arg(place.data())
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("HOME", &place.dir)
        .current_dir(&place.dir)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let ended = tokio::time::timeout(PATIENCE, command.output());
    let ended = ended.await.with_context(|| format!("{arguments:?} did not end within {PATIENCE:?}"))??;
    let text = format!("{}{}", String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    let skipped = text.trim().chars().count().saturating_sub(REPEATED);
    Ok(Said { succeeded: ended.status.success(), said: text.trim().chars().skip(skipped).collect() })
}
