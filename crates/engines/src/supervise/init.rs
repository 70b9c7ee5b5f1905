//! The first process of a namespace: starts the program, buries what it orphans, and tells how it ended.
//!
//! It is this same binary again. Its stdin is a pipe to the supervisor; when it ends, the kernel ends everybody else in
//! the namespace, and when the supervisor dies, the kernel ends it.

use host::contain::{self, Pid, Spawn};
use host::process::Status;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::Duration;

/// What the supervisor puts in place of a spec's path.
pub(super) const FLAG: &str = "--init";

/// How long a program may take from fork to exec on a machine under load.
const PATIENCE: Duration = Duration::from_secs(30);

/// Starts the first process and, through it, the program; answers when that runs or was refused.
pub(super) fn start(program: Spawn) -> io::Result<(Pid, File)> {
    let (status, writer) = contain::output_pipe()?;
    let mut argv: Vec<OsString> = vec!["pilothouse".into(), "supervise".into(), FLAG.into()];
    argv.push(program.program.into_os_string());
    argv.extend(program.argv);
    let first = contain::spawn(Spawn {
        // Not the file's path: it may have been replaced by a newer version since.
        program: PathBuf::from("/proc/self/exe"),
        argv,
        stdin: Some(writer),
        first_of_namespace: true,
        ..program
    })?;
    let mut status = File::from(status);
    match read_line(&mut status)?.split_once(' ') {
        Some(("started", _)) => Ok((first, status)),
        Some(("refused", code)) => match code.parse() {
            Ok(code) => Err(io::Error::from_raw_os_error(code)),
            Err(_) => Err(io::Error::other("it was refused without a code")),
        },
        _ => Err(io::Error::other("the first process of its namespace ended before it started anything")),
    }
}

/// What the first process said about the program's end, once it is gone itself; `None` if it was killed.
pub(super) fn read_end(status: &mut File) -> Option<Status> {
    match read_line(status).ok()?.split_once(' ')? {
        ("exited", code) => code.parse().ok().map(Status::Exited),
        ("signaled", signal) => signal.parse().ok().map(Status::Signaled),
        _ => None,
    }
}

/// Runs inside the namespace; `args` are the program's path and all of its arguments.
pub(super) fn main(args: Vec<OsString>) -> i32 {
    // Anywhere else, handing signals on to "everybody" would mean everybody.
    if !contain::is_first_process() {
        eprintln!("supervise {FLAG}: only for the first process of a namespace");
        return 2;
    }
    match keep(args) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("supervise {FLAG}: {error}");
            1
        }
    }
}

fn keep(args: Vec<OsString>) -> io::Result<()> {
    let mut args = args.into_iter();
    let program = PathBuf::from(args.next().unwrap_or_default());
    let mut status = contain::take_stdin()?;
    contain::pass_on_termination()?;
    let spawn = Spawn {
        program,
        argv: args.collect(),
        env: None,
        cwd: None,
        stdin: None,
        stdout: None,
        stderr: None,
        dies_with_parent: false,
        first_of_namespace: false,
    };
    let child = match contain::spawn(spawn) {
        Ok(child) => child,
        Err(error) => return writeln!(status, "refused {}", error.raw_os_error().unwrap_or(0)),
    };
    writeln!(status, "started {}", child.as_raw_nonzero())?;
    while let Some((pid, ended)) = contain::wait_for_any() {
        if pid == child {
            return match ended {
                Status::Exited(code) => writeln!(status, "exited {code}"),
                Status::Signaled(signal) => writeln!(status, "signaled {signal}"),
            };
        }
    }
    Err(io::Error::other("the program was lost"))
}

/// Reads up to the end of a line, byte by byte: what follows it is for the next reader.
fn read_line(pipe: &mut File) -> io::Result<String> {
    let started = host::clock::monotonic();
    let mut line = Vec::new();
    let mut byte = [0];
    loop {
        match pipe.read(&mut byte) {
            Ok(0) => break,
            Ok(_) if byte[0] == b'\n' => break,
            Ok(_) => line.push(byte[0]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if started.elapsed() > PATIENCE {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                contain::wait_readable(&[pipe.as_fd()], Duration::from_millis(100));
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(String::from_utf8_lossy(&line).into_owned())
}
