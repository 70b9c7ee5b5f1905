//! The process that holds a conversation: the engine as its child, our events on its output.
//!
//! Told to end, it asks the engine to stop first, then ends it. An engine that does not leave when it is done is ended,
//! too; what it left running is for the supervisor, whose tree this is.

use super::answers::{Answer, Asking};
use super::{Conversation, Lost, Out, Script, read_script};
use crate::engine::{EngineEvent, ErrorClass, Finished};
use host::process::{Command, Piped, Status, spawn_piped};
use serde::de::DeserializeOwned;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{ChildStdin, ChildStdout};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The longest message that is looked at.
const MAX_LINE: u64 = 4 << 20;
/// How long a text may grow before it is told.
const PAUSE: Duration = Duration::from_millis(300);
/// How often an answer is looked for.
const LOOK: Duration = Duration::from_millis(100);
/// How long a cancelled engine has to say so, and one that is done to leave.
const PATIENCE: Duration = Duration::from_secs(3);

/// Runs a driver; `args` are those after the subcommand, the answer is the process's exit code.
pub(crate) fn run<S, C>(name: &str, args: impl IntoIterator<Item = OsString>, begin: impl FnOnce(S) -> C) -> i32
where
    S: DeserializeOwned,
    C: Conversation,
{
    // Whoever runs as the same user must find neither the key of the answers in this memory nor this output.
    if let Err(error) = host::contain::hide_memory() {
        return fail(name, &format!("cannot hide the memory: {error}"));
    }
    let (script, home) = match take_script::<S>(args) {
        Ok(taken) => taken,
        Err(problem) => {
            eprintln!("{name}: {problem}\nusage: pilothouse {name} --script=FILE");
            return 2;
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("{name}: {error}");
            return 1;
        }
    };
    let Script { command, cwd, asking, about } = script;
    let place = Place { home, asking };
    runtime.block_on(drive(name, &command, &cwd, place, begin(about)))
}

/// Reads the script and removes it: what it says is for nobody who is started from here.
fn take_script<S: DeserializeOwned>(args: impl IntoIterator<Item = OsString>) -> Result<(Script<S>, PathBuf), String> {
    let mut args = args.into_iter().map(|arg| arg.into_string().map_err(|_| "an argument is not UTF-8".to_owned()));
    let path = match (args.next().transpose()?, args.next().transpose()?) {
        (Some(arg), None) => arg.strip_prefix("--script=").map(PathBuf::from).ok_or(format!("{arg} is not known"))?,
        _ => return Err("one argument is expected".to_owned()),
    };
    let script = read_script(&path)?;
    host::fs::remove_file(&path).map_err(|error| error.to_string())?;
    Ok((script, path.parent().unwrap_or(Path::new("/")).to_owned()))
}

/// Where answers come to.
struct Place {
    home: PathBuf,
    asking: Option<Asking>,
}

/// What happened next.
enum Heard {
    Line(Vec<u8>),
    /// A message that was too long to be looked at.
    TooLong,
    Silence,
    /// It is time to look for an answer.
    Look,
    Told,
    /// Its process is gone.
    Ended(Lost),
    /// Nobody is left who could write.
    Gone,
}

async fn drive<C: Conversation>(name: &str, command: &[String], cwd: &str, place: Place, client: C) -> i32 {
    // From here on a request to end is ours to carry out.
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
        return fail(name, "cannot listen for signals");
    };
    let Some((program, args)) = command.split_first() else {
        return fail(name, "there is nothing to start");
    };
    let (mut agent, stdin, stdout) = match spawn_piped(Command::new(program).args(args).cwd(cwd)) {
        Ok(started) => started,
        Err(error) => {
            tell(&EngineEvent::Finished(Finished::of_class(ErrorClass::Unavailable, error.to_string())));
            return 1;
        }
    };
    let mut talk = Talk { client, place, asked: None, stdin: Some(stdin), stdout: BufReader::new(stdout) };
    let code = talk.hold(&mut agent, &mut term, &mut int).await;
    drop(talk.stdin.take());
    leave(agent).await;
    code
}

struct Talk<C> {
    client: C,
    place: Place,
    /// The question that is waited for, and since when.
    asked: Option<(String, std::time::Instant)>,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl<C: Conversation> Talk<C> {
    async fn hold(&mut self, agent: &mut Piped, term: &mut Signal, int: &mut Signal) -> i32 {
        let mut out = self.client.start();
        let mut partial = Vec::new();
        let mut told_to_end = false;
        // Somebody whom it started may hold its output open: its end is waited for beside its words.
        let mut ended = None;
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            if let Some(ok) = self.carry_out(out).await {
                return exit_code(ok, ended);
            }
            let asks = self.client.question().is_some();
            let patience = if told_to_end && ended.is_none() { PATIENCE } else { PAUSE };
            let heard = tokio::select! {
                heard = next_line(&mut self.stdout, &mut partial) => heard,
                status = agent.ended(), if ended.is_none() => Heard::Ended(how(status)),
                _ = term.recv(), if !told_to_end => Heard::Told,
                _ = int.recv(), if !told_to_end => Heard::Told,
                _ = looks.tick(), if asks && !told_to_end && ended.is_none() => Heard::Look,
                () = tokio::time::sleep(patience) => Heard::Silence,
            };
            out = match (heard, ended) {
                (Heard::Line(line), _) => self.client.receive(&String::from_utf8_lossy(&line)),
                (Heard::TooLong, _) => {
                    vec![Out::Tell(EngineEvent::notice("a message of the engine was too long to be read"))]
                }
                // What it said before is still in the pipe.
                (Heard::Ended(how), _) => {
                    ended = Some(how);
                    Vec::new()
                }
                (Heard::Silence | Heard::Gone, Some(how)) => self.client.lost(how),
                (Heard::Gone, None) => {
                    let how = how(agent.wait(PAUSE).await);
                    ended = Some(how);
                    self.client.lost(how)
                }
                (Heard::Silence, None) if told_to_end => self.client.lost(Lost::Deaf),
                (Heard::Silence, None) => self.client.pause(),
                (Heard::Look, _) => self.look_for_answer(),
                (Heard::Told, _) => {
                    told_to_end = true;
                    match self.client.cancel() {
                        Some(cancel) => vec![Out::Send(cancel)],
                        None => self.client.lost(Lost::Unwanted),
                    }
                }
            };
        }
    }

    /// Looks whether people have answered; a question that waits for too long is answered with no.
    fn look_for_answer(&mut self) -> Vec<Out> {
        let Some(wanted) = self.client.question() else { return Vec::new() };
        let no = |by: &str| Answer {
            question: wanted.question.clone(),
            asked: wanted.asked.clone(),
            allowed: false,
            by: by.to_owned(),
        };
        let Some(asking) = &self.place.asking else {
            let no = no("nobody can be asked");
            return self.client.answered(&no);
        };
        let since = match &self.asked {
            Some((question, since)) if *question == wanted.question => *since,
            _ => host::clock::monotonic(),
        };
        self.asked = Some((wanted.question.clone(), since));
        let answer = asking
            .read(&self.place.home, &wanted.question, &wanted.asked)
            .or_else(|| (since.elapsed() > asking.patience()).then(|| no("nobody answered in time")));
        match answer {
            Some(answer) => self.client.answered(&answer),
            None => Vec::new(),
        }
    }

    /// Sends and tells; whether all went well when the conversation is over.
    async fn carry_out(&mut self, out: Vec<Out>) -> Option<bool> {
        for step in out {
            match step {
                Out::Tell(event) => tell(&event),
                Out::Pass(line) => crate::scripted::emit_line(&line),
                Out::Close => self.stdin = None,
                Out::Done { ok } => return Some(ok),
                Out::Send(message) => {
                    let Some(stdin) = &mut self.stdin else { continue };
                    let line = format!("{message}\n");
                    // An engine that does not listen is about to be seen as gone.
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

fn how(status: Option<Status>) -> Lost {
    match status {
        Some(Status::Signaled(signal)) => Lost::Killed { signal },
        Some(Status::Exited(_)) | None => Lost::Ended,
    }
}

/// A driver whose engine was killed ends as a shell would, so that it is told from one that failed.
fn exit_code(ok: bool, ended: Option<Lost>) -> i32 {
    match (ok, ended) {
        (true, _) => 0,
        (false, Some(Lost::Killed { signal })) => 128 + signal,
        (false, _) => 1,
    }
}

/// Lets the engine leave, or ends it.
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

fn fail(name: &str, message: &str) -> i32 {
    tell(&EngineEvent::Finished(Finished::failed(format!("{name}: {message}"))));
    1
}
