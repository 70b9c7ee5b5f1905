//! The process that holds the conversation: the agent as its child, our events on its output.
//!
//! Told to end, it asks the agent to stop first, then ends it. An agent that does not leave when it is done is ended,
//! too; what it left running is for the supervisor, whose tree this is.

use super::client::{Client, Out};
use super::script::Script;
use crate::engine::{EngineEvent, ErrorClass, Finished};
use host::process::{Command, Piped, spawn_piped};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{ChildStdin, ChildStdout};
use tokio::signal::unix::{Signal, SignalKind, signal};

const MAX_SCRIPT: u64 = 16 << 20;
/// The longest message that is looked at.
const MAX_LINE: u64 = 4 << 20;
/// How long a text may grow before it is told.
const PAUSE: Duration = Duration::from_millis(300);
/// How long a cancelled agent has to say so, and one that is done to leave.
const PATIENCE: Duration = Duration::from_secs(3);

/// Runs the driver; `args` are those after `engine-acp`, the answer is the process's exit code.
pub fn main(args: impl IntoIterator<Item = OsString>) -> i32 {
    let script = match read_script(args) {
        Ok(script) => script,
        Err(problem) => {
            eprintln!("engine-acp: {problem}\nusage: pilothouse engine-acp --script=FILE");
            return 2;
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("engine-acp: {error}");
            return 1;
        }
    };
    runtime.block_on(drive(script))
}

fn read_script(args: impl IntoIterator<Item = OsString>) -> Result<Script, String> {
    let mut args = args.into_iter().map(|arg| arg.into_string().map_err(|_| "an argument is not UTF-8".to_owned()));
    let path = match (args.next().transpose()?, args.next().transpose()?) {
        (Some(arg), None) => arg.strip_prefix("--script=").map(PathBuf::from).ok_or(format!("{arg} is not known"))?,
        _ => return Err("one argument is expected".to_owned()),
    };
    let bytes = host::fs::read(&path, MAX_SCRIPT).map_err(|error| error.to_string())?;
    serde_json::from_slice(&bytes).map_err(|error| format!("the script is not understood: {error}"))
}

/// What happened next.
enum Heard {
    Line(Vec<u8>),
    /// A message that was too long to be looked at.
    TooLong,
    Silence,
    Told,
    Gone,
}

async fn drive(script: Script) -> i32 {
    // From here on a request to end is ours to carry out.
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
        return fail("cannot listen for signals");
    };
    let Some((program, args)) = script.agent.split_first() else {
        return fail("there is no agent to start");
    };
    let command = Command::new(program).args(args).cwd(&script.cwd);
    let (agent, stdin, stdout) = match spawn_piped(command) {
        Ok(started) => started,
        Err(error) => {
            tell(&EngineEvent::Finished(Finished::of_class(ErrorClass::Unavailable, error.to_string())));
            return 1;
        }
    };
    let mut talk = Talk { client: Client::new(script), stdin: Some(stdin), stdout: BufReader::new(stdout) };
    let code = talk.hold(&mut term, &mut int).await;
    drop(talk.stdin.take());
    leave(agent).await;
    code
}

struct Talk {
    client: Client,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Talk {
    async fn hold(&mut self, term: &mut Signal, int: &mut Signal) -> i32 {
        let mut out = self.client.start();
        let mut partial = Vec::new();
        let mut told_to_end = false;
        loop {
            if let Some(code) = self.carry_out(out).await {
                return code;
            }
            let heard = tokio::select! {
                heard = next_line(&mut self.stdout, &mut partial) => heard,
                _ = term.recv(), if !told_to_end => Heard::Told,
                _ = int.recv(), if !told_to_end => Heard::Told,
                () = tokio::time::sleep(if told_to_end { PATIENCE } else { PAUSE }) => Heard::Silence,
            };
            out = match heard {
                Heard::Line(line) => self.client.receive(&String::from_utf8_lossy(&line)),
                Heard::TooLong => {
                    vec![Out::Tell(EngineEvent::notice("a message of the agent was too long to be read"))]
                }
                Heard::Silence if told_to_end => self.client.lost("did not stop when it was asked to"),
                Heard::Silence => self.client.pause(),
                Heard::Gone => self.client.lost("ended"),
                Heard::Told => {
                    told_to_end = true;
                    match self.client.cancel() {
                        Some(cancel) => vec![Out::Send(cancel)],
                        None => self.client.lost("was told to end"),
                    }
                }
            };
        }
    }

    /// Sends and tells; an exit code when the conversation is over.
    async fn carry_out(&mut self, out: Vec<Out>) -> Option<i32> {
        for step in out {
            match step {
                Out::Tell(event) => tell(&event),
                Out::Done { ok } => return Some(i32::from(!ok)),
                Out::Send(message) => {
                    let Some(stdin) = &mut self.stdin else { continue };
                    let line = format!("{message}\n");
                    // An agent that does not listen is about to be seen as gone.
                    if stdin.write_all(line.as_bytes()).await.is_err() || stdin.flush().await.is_err() {
                        self.stdin = None;
                    }
                }
            }
        }
        None
    }
}

/// The next line, of which `partial` holds what came so far: the future may be dropped at any await.
async fn next_line(stdout: &mut BufReader<ChildStdout>, partial: &mut Vec<u8>) -> Heard {
    let room = MAX_LINE.saturating_sub(partial.len() as u64);
    match (&mut *stdout).take(room).read_until(b'\n', partial).await {
        Ok(0) if partial.is_empty() => Heard::Gone,
        Err(_) => Heard::Gone,
        Ok(_) if partial.ends_with(b"\n") => Heard::Line(std::mem::take(partial)),
        Ok(_) if partial.len() as u64 >= MAX_LINE => {
            // The rest of it is read and forgotten piece by piece: it is no message, and is told as such.
            partial.clear();
            Heard::TooLong
        }
        // The end came in the middle of a line.
        Ok(_) => Heard::Line(std::mem::take(partial)),
    }
}

/// Lets the agent leave, or ends it.
async fn leave(mut agent: Piped) {
    if agent.wait(PATIENCE).await.is_some() {
        return;
    }
    agent.terminate();
    if agent.wait(PATIENCE).await.is_none() {
        agent.kill();
        agent.wait(PATIENCE).await;
    }
}

fn tell(event: &EngineEvent) {
    crate::scripted::emit(event);
}

fn fail(message: &str) -> i32 {
    tell(&EngineEvent::Finished(Finished::failed(format!("engine-acp: {message}"))));
    1
}
