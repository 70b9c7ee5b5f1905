//! A child that is talked with over its input and output, for as long as its starter lives.

use super::{Command, Group, ProcessError, Status, prepare};
use std::io;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::{Child, ChildStdin, ChildStdout};

/// A running child; its whole process group is killed when this value goes away.
#[derive(Debug)]
pub struct Piped {
    child: Child,
    group: Group,
}

/// Starts a child whose stdin and stdout are pipes; its stderr and its environment are this process's own, which must
/// itself have been started with an environment made for it.
///
/// `timeout`, `stdin` and `output_limit` of the command are not used.
pub fn spawn_piped(mut command: Command) -> Result<(Piped, ChildStdin, ChildStdout), ProcessError> {
    command.env = std::env::vars_os().collect();
    let program = command.shown();
    let spawn = |source| ProcessError::Spawn { program: program.clone(), source };
    let mut child = prepare(&command)?
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(spawn)?;
    let group = Group::of(&child);
    let gone = || spawn(io::Error::other("it ended before it could be talked to"));
    let stdin = child.stdin.take().ok_or_else(gone)?;
    let stdout = child.stdout.take().ok_or_else(gone)?;
    Ok((Piped { child, group }, stdin, stdout))
}

impl Piped {
    /// Waits for its end and says how it ended, where the system tells. The future may be dropped at any time.
    pub async fn ended(&mut self) -> Option<Status> {
        self.child.wait().await.ok().map(Status::of)
    }

    /// How it ended, if it does within that time.
    pub async fn wait(&mut self, patience: Duration) -> Option<Status> {
        tokio::time::timeout(patience, self.ended()).await.ok()?
    }

    /// Asks its group to end.
    pub fn terminate(&self) {
        self.group.terminate();
    }

    /// Ends its group.
    pub fn kill(&self) {
        self.group.kill();
    }
}
