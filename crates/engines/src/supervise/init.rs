//! The first process of a namespace: puts up what walls it was told, starts the program, buries what it orphans, and
//! tells how it ended.
//!
//! It is this same binary again. Its stdin is a socket to the supervisor, over which it learns everything: nothing of it
//! is on a command line or in an environment that others could read. When it ends, the kernel ends everybody else in the
//! namespace, and when the supervisor dies, the kernel ends it.

use host::contain::{self, Ceilings, Cover, Pid, Signal, Spawn, Walls, channel};
use host::process::Status;
use serde::{Deserialize, Serialize};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

/// What the supervisor puts in place of a spec's path.
pub(super) const FLAG: &str = "--init";

/// How long a program may take from fork to exec on a machine under load.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

const STREAMS: u8 = b'S';
const LISTENERS: u8 = b'L';

/// What is to be started, and within what.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Setup {
    pub(super) program: PathBuf,
    pub(super) argv: Vec<String>,
    pub(super) env: Vec<(String, String)>,
    pub(super) cwd: PathBuf,
    pub(super) covers: Vec<Cover>,
    pub(super) walls: Option<Walls>,
    /// Whether it has a network of its own that nobody has started yet.
    pub(super) start_loopback: bool,
    /// Whether it and the program are to keep no capability.
    pub(super) give_up_capabilities: bool,
    /// Where to listen on behalf of what is outside.
    pub(super) listen: Vec<SocketAddr>,
    pub(super) ceilings: Ceilings,
}

/// The supervisor's end of the socket.
#[derive(Debug)]
pub(super) struct Line {
    socket: UnixStream,
}

/// Why a program was not started.
#[derive(Debug)]
pub(super) enum NotStarted {
    /// The system refused to run it.
    Refused(io::Error),
    /// What was to be around it could not be put up.
    Walls(String),
    /// The first process ended before it said anything.
    Silent,
}

impl Line {
    /// A socket for a first process, and the end that becomes its stdin.
    pub(super) fn new() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = channel::pair(PATIENCE)?;
        Ok((Self { socket: ours }, OwnedFd::from(theirs)))
    }

    /// Tells the first process what to do.
    pub(super) fn tell(&self, setup: &Setup, stdout: &OwnedFd, stderr: &OwnedFd) -> io::Result<()> {
        channel::send_files(&self.socket, STREAMS, &[stdout.as_fd(), stderr.as_fd()])?;
        write_document(&self.socket, setup)
    }

    /// Waits until the program runs or was refused; gives back the listeners that were asked for.
    pub(super) fn wait(&mut self) -> Result<Vec<OwnedFd>, NotStarted> {
        let listeners = match channel::receive_files(&self.socket) {
            Ok(Some((LISTENERS, listeners))) => listeners,
            Ok(Some(_) | None) | Err(_) => return Err(NotStarted::Silent),
        };
        let line = read_line(&mut self.socket).map_err(|_| NotStarted::Silent)?;
        match line.split_once(' ') {
            Some(("started", _)) => Ok(listeners),
            Some(("refused", code)) => Err(NotStarted::Refused(match code.parse() {
                Ok(code) => io::Error::from_raw_os_error(code),
                Err(_) => io::Error::other("it was refused without a code"),
            })),
            Some(("walls", why)) => Err(NotStarted::Walls(host::text::one_line(why, 500))),
            _ => Err(NotStarted::Silent),
        }
    }

    /// What the first process said about the program's end, once it is gone itself; `None` if it was killed.
    pub(super) fn read_end(&mut self) -> Option<Status> {
        match read_line(&mut self.socket).ok()?.split_once(' ')? {
            ("exited", code) => code.parse().ok().map(Status::Exited),
            ("signaled", signal) => signal.parse().ok().map(Status::Signaled),
            _ => None,
        }
    }
}

/// Runs inside the namespace.
pub(super) fn main() -> i32 {
    // Anywhere else, handing signals on to "everybody" would mean everybody.
    if !contain::is_first_process() {
        eprintln!("supervise {FLAG}: only for the first process of a namespace");
        return 2;
    }
    match keep() {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("supervise {FLAG}: {error}");
            1
        }
    }
}

fn keep() -> io::Result<()> {
    contain::close_inherited_files();
    // Whoever is inside may not look into the process that speaks for them.
    contain::hide_memory()?;
    let mut socket = UnixStream::from(OwnedFd::from(contain::take_stdin()?));
    contain::detach_stdio()?;
    contain::pass_on_termination()?;
    let Some((STREAMS, streams)) = channel::receive_files(&socket)? else { return Ok(()) };
    let Ok([stdout, stderr]) = <[OwnedFd; 2]>::try_from(streams) else {
        return Err(io::Error::other("it was not told where to write"));
    };
    let setup: Setup = read_document(&socket)?;
    let listeners = match put_up(&setup) {
        Ok(listeners) => listeners,
        Err(error) => {
            channel::send_files(&socket, LISTENERS, &[])?;
            return writeln!(socket, "walls {}", host::text::one_line(error.to_string(), 500));
        }
    };
    let open: Vec<BorrowedFd<'_>> = listeners.iter().map(AsFd::as_fd).collect();
    channel::send_files(&socket, LISTENERS, &open)?;
    drop(listeners);
    let spawn = Spawn {
        env: Some(setup.env.iter().map(|(name, value)| (name.into(), value.into())).collect()),
        cwd: Some(setup.cwd),
        stdout: Some(stdout),
        stderr: Some(stderr),
        ceilings: setup.ceilings,
        ..Spawn::new(setup.program, setup.argv.into_iter().map(Into::into).collect())
    };
    let child = match contain::spawn(spawn) {
        Ok(child) => child,
        Err(error) => return writeln!(socket, "refused {}", error.raw_os_error().unwrap_or(0)),
    };
    writeln!(socket, "started {}", child.as_raw_nonzero())?;
    bury(&mut socket, child)
}

/// Makes everything around the program what it is to be, in the order in which each step still has the rights it needs.
fn put_up(setup: &Setup) -> io::Result<Vec<TcpListener>> {
    let named = |what: &'static str| move |error: io::Error| io::Error::other(format!("cannot {what}: {error}"));
    if setup.start_loopback {
        loopback().map_err(named("start the loopback device"))?;
    }
    if !setup.covers.is_empty() && !contain::sees_own_processes() {
        return Err(io::Error::other("the system gives it no mounts of its own"));
    }
    contain::cover(&setup.covers).map_err(named("change what is seen"))?;
    let listeners = setup.listen.iter().map(TcpListener::bind).collect::<io::Result<_>>();
    let listeners = listeners.map_err(named("listen for an endpoint"))?;
    if setup.give_up_capabilities {
        contain::give_up_capabilities().map_err(named("give up capabilities"))?;
    }
    if let Some(walls) = &setup.walls {
        contain::put_up_walls(walls).map_err(named("put up walls"))?;
    }
    Ok(listeners)
}

fn loopback() -> io::Result<()> {
    #[cfg(target_os = "linux")]
    return contain::start_loopback();
    #[cfg(not(target_os = "linux"))]
    return Err(io::ErrorKind::Unsupported.into());
}

fn bury(socket: &mut UnixStream, child: Pid) -> io::Result<()> {
    while let Some((pid, ended)) = contain::wait_for_any() {
        if pid == child {
            return match ended {
                Status::Exited(code) => writeln!(socket, "exited {code}"),
                Status::Signaled(signal) => writeln!(socket, "signaled {signal}"),
            };
        }
    }
    Err(io::Error::other("the program was lost"))
}

/// Ends the first process, and with it everybody.
pub(super) fn kill(first: Pid) {
    contain::signal(first, Signal::KILL);
}

/// Sends a document, its length first.
pub(super) fn write_document(mut socket: &UnixStream, document: &impl Serialize) -> io::Result<()> {
    let bytes = serde_json::to_vec(document).map_err(io::Error::other)?;
    let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    socket.write_all(&length.to_be_bytes())?;
    socket.write_all(&bytes)
}

/// Receives a document from a process that is trusted to send no more than memory holds.
pub(super) fn read_document<T: serde::de::DeserializeOwned>(mut socket: &UnixStream) -> io::Result<T> {
    let mut length = [0; 4];
    socket.read_exact(&mut length)?;
    let mut bytes = vec![0; usize::try_from(u32::from_be_bytes(length)).map_err(io::Error::other)?];
    socket.read_exact(&mut bytes)?;
    serde_json::from_slice(&bytes).map_err(io::Error::other)
}

/// Reads up to the end of a line, byte by byte: what follows it is for the next reader.
fn read_line(socket: &mut UnixStream) -> io::Result<String> {
    let mut line = Vec::new();
    let mut byte = [0];
    loop {
        match socket.read(&mut byte) {
            Ok(0) => break,
            Ok(_) if byte[0] == b'\n' => break,
            Ok(_) => line.push(byte[0]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(String::from_utf8_lossy(&line).into_owned())
}
