//! The process between a task and its cluster.
//!
//! A task that is killed cannot clean up, so it never owns the server. It starts a guard, which starts the server,
//! says one line about it, and reads from a pipe. However the task ends, the pipe closes, and the guard stops the server
//! and removes its directory. Who wants a server that crashes writes [`RESTART`], or [`HALT`] and later [`START`], into
//! the pipe and reads a line again.

use std::io::{BufRead, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdin, Command, ExitCode, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use super::cluster::{Cluster, Facts};
use super::find::Binaries;

pub(crate) const TASK: &str = "guard-postgres";
/// Asks for an immediate shutdown and a start at the same address.
const RESTART: &str = "restart immediate";
/// The first half of it.
const HALT: &str = "halt immediate";
/// The second half.
const START: &str = "start";

#[derive(Serialize, Deserialize)]
enum Report {
    Ready(Facts),
    Failed(String),
}

/// The task's end of the arrangement.
pub(crate) struct Guarded {
    guard: Child,
    pipe: Option<ChildStdin>,
    facts: Facts,
}

impl Guarded {
    pub(crate) fn start(binaries: &Binaries) -> Result<Guarded> {
        let [program, arguments @ ..] = &command(binaries)?[..] else { bail!("the guard has no program") };
        let mut guard = Command::new(program)
            .args(arguments)
            // Ctrl-C reaches the terminal's whole group; the guard must outlive it.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let pipe = guard.stdin.take();
        let mut line = String::new();
        BufReader::new(guard.stdout.take().context("the guard has no stdout")?).read_line(&mut line)?;
        match serde_json::from_str(&line).context("the guard ended without a word")? {
            Report::Ready(facts) => Ok(Guarded { guard, pipe, facts }),
            Report::Failed(reason) => {
                guard.wait()?;
                bail!(reason)
            }
        }
    }

    pub(crate) fn facts(&self) -> &Facts {
        &self.facts
    }

    pub(crate) fn stop(mut self) -> Result<()> {
        drop(self.pipe.take());
        let status = self.guard.wait()?;
        ensure!(status.success(), "PostgreSQL (process {}) did not stop cleanly", self.facts.pid);
        let directory = &self.facts.directory;
        ensure!(!directory.exists(), "{} is still there", directory.display());
        Ok(())
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        drop(self.pipe.take());
        let _ = self.guard.wait();
    }
}

/// The command line of a guard over a cluster of these programs.
pub(crate) fn command(binaries: &Binaries) -> Result<Vec<String>> {
    let program = std::env::current_exe()?.display().to_string();
    Ok(vec![program, TASK.to_owned(), serde_json::to_string(binaries)?])
}

/// The guard's whole life.
pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    let (binaries, also) = match arguments {
        [binaries] => (binaries, None),
        // A network namespace may have an address of its own.
        [binaries, address] => (binaries, Some(address.parse().context("an address to listen on")?)),
        _ => bail!("{TASK} is started by other tasks"),
    };
    let binaries: Binaries = serde_json::from_str(binaries)?;
    match Cluster::start(&binaries, also) {
        Ok(mut cluster) => {
            report(&Report::Ready(cluster.facts.clone()))?;
            let obeyed = obey(&mut cluster, std::io::stdin().lock());
            cluster.stop()?;
            obeyed?;
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            report(&Report::Failed(format!("{error:#}")))?;
            Ok(ExitCode::FAILURE)
        }
    }
}

/// A task that is gone cannot read the report, which is no reason to leave its server behind.
fn report(report: &Report) -> Result<()> {
    let line = serde_json::to_string(report)?;
    let _ = writeln!(std::io::stdout(), "{line}");
    Ok(())
}

/// Does as the pipe says until it closes.
fn obey(cluster: &mut Cluster, pipe: impl BufRead) -> Result<()> {
    // A pipe that cannot be read any more is closed.
    for line in pipe.lines().map_while(Result::ok) {
        let obeyed = match line.as_str() {
            RESTART => cluster.crash().and_then(|()| cluster.start_again()),
            HALT => cluster.crash(),
            START => cluster.start_again(),
            _ => continue,
        };
        if let Err(error) = obeyed {
            report(&Report::Failed(format!("{error:#}")))?;
            bail!("{line}: {error:#}");
        }
        report(&Report::Ready(cluster.facts.clone()))?;
    }
    Ok(())
}
