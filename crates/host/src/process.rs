//! The lone spawner of processes.
//!
//! [`run`] is for short helpers of our own (git, a health check): an exact environment, bounded output, a timeout, and
//! the whole process group gone when it ends or is dropped. What somebody else wrote runs under `pilothouse supervise`,
//! which is started with [`spawn_detached`] and built on [`crate::contain`].

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

mod piped;
pub use piped::{Piped, spawn_piped};

/// Where programs are looked up when an environment has no `PATH` of its own.
pub const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// How long pipes may stay open after the group was killed: something that escaped it holds them.
const DRAIN: Duration = Duration::from_secs(2);

/// A process to run to its end.
#[derive(Debug, Clone)]
pub struct Command {
    /// A path, or a name that is looked up in the `PATH` of `env`.
    pub program: OsString,
    pub args: Vec<OsString>,
    pub cwd: Option<PathBuf>,
    /// All of the child's environment; nothing is inherited.
    pub env: Vec<(OsString, OsString)>,
    pub stdin: Stdin,
    pub timeout: Duration,
    /// How many bytes of each of stdout and stderr are kept.
    pub output_limit: usize,
}

/// What a child reads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Stdin {
    #[default]
    Null,
    Bytes(Vec<u8>),
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Exited(i32),
    Signaled(i32),
}

/// What a process left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    pub status: Status,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    /// Whether more was written than was kept.
    pub truncated: bool,
}

/// Why a process did not run to its end.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    #[error("program {program} is not installed (looked in {path})")]
    NotFound { program: String, path: String },
    #[error("cannot start {program}")]
    Spawn { program: String, source: io::Error },
    #[error("{program} did not end within {after:?}")]
    TimedOut { program: String, after: Duration },
    #[error("lost {program}")]
    Io { program: String, source: io::Error },
}

impl Status {
    pub fn success(self) -> bool {
        self == Self::Exited(0)
    }

    fn of(status: std::process::ExitStatus) -> Self {
        match (status.code(), status.signal()) {
            (Some(code), _) => Self::Exited(code),
            (None, signal) => Self::Signaled(signal.unwrap_or(0)),
        }
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "exit code {code}"),
            Self::Signaled(signal) => write!(f, "signal {signal}"),
        }
    }
}

impl Command {
    /// A process with an empty environment, nothing to read, one minute of time and one MiB of output.
    pub fn new(program: impl Into<OsString>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            cwd: None,
            env: Vec::new(),
            stdin: Stdin::Null,
            timeout: Duration::from_secs(60),
            output_limit: 1 << 20,
        }
    }

    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    pub fn args<I: IntoIterator<Item = S>, S: Into<OsString>>(mut self, args: I) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    pub fn cwd(mut self, cwd: impl Into<PathBuf>) -> Self {
        self.cwd = Some(cwd.into());
        self
    }

    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Stdin::Bytes(bytes.into());
        self
    }

    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    pub fn output_limit(mut self, bytes: usize) -> Self {
        self.output_limit = bytes;
        self
    }

    fn shown(&self) -> String {
        crate::text::one_line(self.program.as_encoded_bytes(), 200)
    }
}

/// Runs a process to its end. Its group is killed when the time is up or when the future is dropped.
pub async fn run(command: Command) -> Result<Output, ProcessError> {
    let program = command.shown();
    let lost = |source| ProcessError::Io { program: program.clone(), source };
    let mut child = prepare(&command)?
        .stdin(if command.stdin == Stdin::Null { Stdio::null() } else { Stdio::piped() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|source| ProcessError::Spawn { program: program.clone(), source })?;
    let group = Group::of(&child);
    let stdin = child.stdin.take();
    let stdout = child.stdout.take();
    let stderr = child.stderr.take();
    let limit = command.output_limit;

    let feed = async {
        if let (Some(mut pipe), Stdin::Bytes(bytes)) = (stdin, &command.stdin) {
            // A child that does not read all of it is not a failure of ours.
            let _ = pipe.write_all(bytes).await;
        }
    };
    let wait = async {
        let status = child.wait().await;
        // Whatever it left running in its group would keep the pipes open.
        group.kill();
        status
    };
    let reads = async { tokio::join!(read_bounded(stdout, limit), read_bounded(stderr, limit)) };
    let whole = async {
        let ended = async { tokio::join!(wait, feed).0 };
        tokio::pin!(reads);
        tokio::pin!(ended);
        let mut output = None;
        let status = loop {
            tokio::select! {
                status = &mut ended => break status,
                read = &mut reads, if output.is_none() => output = Some(read),
            }
        };
        if output.is_none() {
            output = tokio::time::timeout(DRAIN, reads).await.ok();
        }
        (status, output)
    };
    let (status, output) = tokio::time::timeout(command.timeout, whole)
        .await
        .map_err(|_| ProcessError::TimedOut { program: program.clone(), after: command.timeout })?;
    let status = Status::of(status.map_err(lost)?);
    let Some((stdout, stderr)) = output else {
        let held = io::Error::new(io::ErrorKind::TimedOut, "a process it left behind keeps its output open");
        return Err(lost(held));
    };
    let ((stdout, out_cut), (stderr, err_cut)) = (stdout.map_err(lost)?, stderr.map_err(lost)?);
    Ok(Output { status, stdout, stderr, truncated: out_cut || err_cut })
}

/// A process that outlives its starter, in a session of its own.
#[derive(Debug)]
pub struct Detached {
    pub pid: u32,
    /// The read end of its standard output, for the one line in which it says that it is ready.
    pub stdout: tokio::process::ChildStdout,
    child: tokio::process::Child,
}

impl Detached {
    /// Kills it after all, when it did not become ready.
    pub async fn kill(mut self) {
        // An error means that it is gone already.
        let _ = self.child.kill().await;
    }
}

/// Starts a process that is to live on when this one dies; its stderr goes to `log`.
///
/// It is reaped by the runtime if it ends first. `timeout`, `stdin` and `output_limit` of the command are not used.
pub fn spawn_detached(command: &Command, log: std::fs::File) -> Result<Detached, ProcessError> {
    let program = command.shown();
    let spawn = |source| ProcessError::Spawn { program: program.clone(), source };
    let mut prepared = prepare(command)?;
    prepared.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).kill_on_drop(false);
    crate::contain::in_own_session(&mut prepared);
    let mut child = prepared.spawn().map_err(spawn)?;
    let gone = || spawn(io::Error::other("it ended before it could be held"));
    let pid = child.id().ok_or_else(gone)?;
    let stdout = child.stdout.take().ok_or_else(gone)?;
    Ok(Detached { pid, stdout, child })
}

/// Finds the file that a program's name means: itself when it has a slash, else the first executable in `path`.
pub fn find_program(program: &OsStr, path: Option<&OsStr>, cwd: Option<&Path>) -> Option<PathBuf> {
    if program.as_encoded_bytes().contains(&b'/') {
        let file = cwd.map_or_else(|| PathBuf::from(program), |cwd| cwd.join(program));
        return is_executable(&file).then_some(file);
    }
    if program.is_empty() {
        return None;
    }
    std::env::split_paths(path.unwrap_or(OsStr::new(DEFAULT_PATH)))
        // An empty or relative entry would mean a directory that somebody else may fill.
        .filter(|dir| dir.is_absolute())
        .map(|dir| dir.join(program))
        .find(|file| is_executable(file))
}

/// The file that this process runs, to start another one like it.
pub fn current_exe() -> io::Result<PathBuf> {
    std::env::current_exe()
}

/// The uid that this process acts as.
pub fn effective_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// The group that this process acts as.
pub fn effective_gid() -> u32 {
    rustix::process::getegid().as_raw()
}

/// This process's id.
pub fn id() -> u32 {
    std::process::id()
}

fn is_executable(file: &Path) -> bool {
    std::fs::metadata(file).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

fn prepare(command: &Command) -> Result<tokio::process::Command, ProcessError> {
    let path = command.env.iter().rev().find(|(name, _)| name == "PATH").map(|(_, value)| value.as_os_str());
    let program =
        find_program(&command.program, path, command.cwd.as_deref()).ok_or_else(|| ProcessError::NotFound {
            program: command.shown(),
            path: path.unwrap_or(OsStr::new(DEFAULT_PATH)).to_string_lossy().into_owned(),
        })?;
    let mut prepared = tokio::process::Command::new(program);
    prepared.args(&command.args).env_clear().envs(command.env.iter().map(|(name, value)| (name, value)));
    if let Some(cwd) = &command.cwd {
        prepared.current_dir(cwd);
    }
    Ok(prepared)
}

async fn read_bounded<R: AsyncRead + Unpin>(pipe: Option<R>, limit: usize) -> io::Result<(Vec<u8>, bool)> {
    let (mut kept, mut truncated) = (Vec::new(), false);
    let Some(mut pipe) = pipe else { return Ok((kept, truncated)) };
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let n = pipe.read(&mut buffer).await?;
        if n == 0 {
            return Ok((kept, truncated));
        }
        let room = limit - kept.len();
        truncated |= n > room;
        kept.extend_from_slice(&buffer[..n.min(room)]);
    }
}

/// The process group of a child; killed at the latest when this value goes away.
#[derive(Debug)]
struct Group {
    leader: Option<rustix::process::Pid>,
}

impl Group {
    fn of(child: &tokio::process::Child) -> Self {
        let leader = child.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw);
        Self { leader }
    }

    fn terminate(&self) {
        if let Some(leader) = self.leader {
            let _ = rustix::process::kill_process_group(leader, rustix::process::Signal::TERM);
        }
    }

    fn kill(&self) {
        if let Some(leader) = self.leader {
            // An empty group is what we want; there is nobody else to tell.
            let _ = rustix::process::kill_process_group(leader, rustix::process::Signal::KILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

#[cfg(test)]
mod tests;
