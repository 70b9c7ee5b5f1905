//! The worker's side of a supervisor: start one, find one again, move its deadline, stop it, wait for its end.
//!
//! A [`Supervised`] is a handle, not an owner: dropping it leaves the tree running, held by its supervisor's deadline.

mod connection;

use crate::broker::Broker;
use crate::exit::{self, Confined, Exit, LaunchFailure, Outcome, ResultError};
use crate::protocol::{Request, SOCKET, Started};
use crate::sandbox::Sandbox;
use crate::spec::{self, Isolation, Limits, Spec, millis};
use connection::{Connection, ConnectionError};
use host::contain::Containment;
use host::fs::FsError;
use host::process::{Command, Detached, ProcessError};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::sync::Mutex;

pub use crate::protocol::Report;

/// The reason that a stop is given when people no longer want what runs; by it a cancel is told from an interruption.
pub const CANCELED: &str = "canceled";

/// What the reason of a stop begins with that somebody asked for by hand; the rest says who.
const BY_HAND: &str = "by hand: ";

/// What the supervisor itself has to say, in the attempt's directory.
pub(crate) const LOG: &str = "supervisor.log";
/// How long a supervisor may take to start its program on a machine under load.
const START_PATIENCE: Duration = Duration::from_secs(60);

/// One tree to start under supervision.
#[derive(Clone)]
pub struct Launch {
    /// The attempt's directory: ours alone, with no attempt in it yet.
    pub dir: PathBuf,
    /// The program and its arguments; a name without a slash is looked up in the `PATH` of `env`.
    pub argv: Vec<String>,
    pub cwd: PathBuf,
    /// All of the tree's environment.
    pub env: Vec<(String, String)>,
    /// The keys that the tree is given, so that nothing it prints is kept with them.
    pub secrets: Vec<String>,
    pub limits: Limits,
    /// The secret by which this attempt is recognised later.
    pub nonce: String,
    /// How long it lives unless extended.
    pub deadline: Option<Duration>,
    /// How long it lives on without a connected worker.
    pub after_disconnect: Option<Duration>,
    pub merge_stderr: bool,
    pub isolation: Isolation,
    /// How far the tree is kept from the machine; `None` keeps it from nothing.
    pub sandbox: Option<Sandbox>,
    /// Stands between the tree and its model, at its own address.
    pub broker: Option<Broker>,
}

impl Launch {
    /// A launch without deadline, time limits or environment, both streams in one file.
    pub fn new(dir: impl Into<PathBuf>, argv: Vec<String>, cwd: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            argv,
            cwd: cwd.into(),
            env: Vec::new(),
            secrets: Vec::new(),
            limits: Limits::default(),
            nonce: new_nonce(),
            deadline: None,
            after_disconnect: None,
            merge_stderr: true,
            isolation: Isolation::default(),
            sandbox: None,
            broker: None,
        }
    }
}

impl std::fmt::Debug for Launch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The nonce and the environment may hold secrets.
        f.debug_struct("Launch").field("dir", &self.dir).field("argv", &self.argv).finish_non_exhaustive()
    }
}

/// A secret for a new attempt.
pub fn new_nonce() -> String {
    host::random::base62(43)
}

/// The reason of a stop by hand: what was done, and by whom.
pub fn by_hand(verb: &str, who: &str) -> String {
    format!("{BY_HAND}{verb} by {who}")
}

/// What was done and by whom, when this is the reason of a stop by hand.
pub fn said_by_hand(reason: &str) -> Option<&str> {
    reason.strip_prefix(BY_HAND)
}

/// Why nothing was started.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The program did not start; nothing of the tree ever ran, and a result says so.
    #[error(transparent)]
    Program(LaunchFailure),
    #[error("{dir} already holds an attempt")]
    Taken { dir: PathBuf },
    #[error("cannot prepare the attempt's directory")]
    Directory(#[source] FsError),
    #[error("the launch cannot be written down")]
    Spec(#[source] serde_json::Error),
    #[error("cannot start the supervisor")]
    Supervisor(#[source] ProcessError),
    #[error("the supervisor ended before it was ready: {log}")]
    Died { log: String },
    #[error("the supervisor was not ready within {0:?}")]
    NotReady(Duration),
    #[error("cannot reach the supervisor")]
    Unreachable(#[source] SupervisorError),
}

/// Why a supervisor could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum SupervisorError {
    #[error("the supervisor is gone and left no result")]
    Lost,
    #[error("the tree has ended")]
    Ended,
    #[error("what answers is not the supervisor of this attempt")]
    NotOurs,
    #[error("the supervisor refuses: {message}")]
    Refused { message: String },
    #[error("the supervisor does not answer")]
    Silent(#[source] std::io::Error),
    #[error("the result cannot be used")]
    Result(#[source] ResultError),
}

/// A tree under supervision.
pub struct Supervised {
    dir: PathBuf,
    nonce: String,
    held: Held,
    started_at: i64,
    /// Also what tells a supervisor that its worker is alive.
    connection: Mutex<Option<Connection>>,
}

/// How surely a tree can be ended, and what keeps it from the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    pub containment: Containment,
    /// `None`: nothing.
    pub sandbox: Option<Confined>,
}

impl Held {
    /// How an ended tree was held; `None` when it never ran.
    pub fn of(exit: &Exit) -> Option<Self> {
        let ran = !matches!(exit.outcome, Outcome::LaunchFailed(_));
        ran.then_some(Self { containment: exit.containment, sandbox: exit.sandbox })
    }
}

/// What was found of an attempt that an earlier worker started.
#[derive(Debug)]
pub enum Adopted {
    /// It runs, and its supervisor proved the nonce.
    Running(Supervised),
    /// It has ended, and its result is sealed with the nonce.
    Finished(Exit),
    /// Neither: it never started, or it was lost together with its supervisor.
    Gone,
}

/// Starts a tree: `exe` is the binary whose `supervise` runs [`crate::supervise::main`].
pub async fn start(exe: &Path, launch: Launch) -> Result<Supervised, LaunchError> {
    host::fs::create_private_dir(&launch.dir).map_err(LaunchError::Directory)?;
    let dir = host::fs::canonicalize(&launch.dir).map_err(LaunchError::Directory)?;
    if host::fs::exists(&dir.join(exit::FILE)) || host::fs::exists(&dir.join(SOCKET)) {
        return Err(LaunchError::Taken { dir });
    }
    let spec = Spec {
        version: spec::VERSION,
        nonce: launch.nonce.clone(),
        argv: launch.argv,
        cwd: launch.cwd,
        env: launch.env,
        secrets: launch.secrets,
        limits: launch.limits,
        deadline_boot_ms: launch.deadline.map(|span| millis(host::clock::since_boot() + span)),
        after_disconnect_ms: launch.after_disconnect.map(millis),
        merge_stderr: launch.merge_stderr,
        isolation: launch.isolation,
        sandbox: launch.sandbox,
        broker: launch.broker,
    };
    let text = serde_json::to_vec(&spec).map_err(LaunchError::Spec)?;
    let path = dir.join(spec::FILE);
    host::fs::write_atomic(&path, &text).map_err(LaunchError::Directory)?;
    host::failpoint!("launch.spec.written");
    let started = spawn(exe, &path, &dir).await;
    host::failpoint!("launch.supervisor.answered");
    // A supervisor that read it has removed it; one that did not must not leave secrets behind.
    let removed = host::fs::remove_file(&path);
    let (held, started_at) = match started? {
        Started::Failed(failure) => return Err(LaunchError::Program(failure)),
        Started::Ready { containment, sandbox, started_at } => (Held { containment, sandbox }, started_at),
    };
    removed.map_err(LaunchError::Directory)?;
    let connection = match Connection::open(&dir, &launch.nonce).await {
        Ok((connection, _)) => Some(connection),
        Err(error) => match explain(&dir, &launch.nonce, error) {
            // A quick program may be done already.
            SupervisorError::Ended => None,
            error => return Err(LaunchError::Unreachable(error)),
        },
    };
    Ok(Supervised { dir, nonce: launch.nonce, held, started_at, connection: Mutex::new(connection) })
}

async fn spawn(exe: &Path, spec: &Path, dir: &Path) -> Result<Started, LaunchError> {
    let log_path = dir.join(LOG);
    let log = host::fs::open_append(&log_path).map_err(LaunchError::Directory)?;
    let command = Command::new(exe).arg("supervise").arg(spec).cwd(dir);
    let armed = host::failpoint::environment();
    let command = armed.into_iter().fold(command, |command, (name, value)| command.env(name, value));
    let mut detached = host::process::spawn_detached(&command, log).map_err(LaunchError::Supervisor)?;
    match tokio::time::timeout(START_PATIENCE, ready_line(&mut detached)).await {
        Ok(Some(started)) => Ok(started),
        Ok(None) => {
            detached.kill().await;
            let log = host::fs::read(&log_path, 64 * 1024).unwrap_or_default();
            Err(LaunchError::Died { log: host::text::one_line(log, 400) })
        }
        Err(_) => {
            detached.kill().await;
            Err(LaunchError::NotReady(START_PATIENCE))
        }
    }
}

async fn ready_line(detached: &mut Detached) -> Option<Started> {
    let mut line = Vec::new();
    let stdout = (&mut detached.stdout).take(64 * 1024);
    BufReader::new(stdout).read_until(b'\n', &mut line).await.ok()?;
    serde_json::from_slice(&line).ok()
}

/// Looks for an attempt that was started earlier, here, by whoever knew the nonce.
pub async fn adopt(dir: &Path, nonce: &str) -> Result<Adopted, SupervisorError> {
    match Supervised::connect(dir, nonce).await {
        Ok(supervised) => Ok(Adopted::Running(supervised)),
        // It writes its result before it stops answering, so the order of the questions matters.
        Err(SupervisorError::Lost | SupervisorError::Ended) => match exit::read(dir, nonce) {
            Ok(exit) => Ok(Adopted::Finished(exit)),
            Err(ResultError::Missing) => Ok(Adopted::Gone),
            Err(ResultError::Forged) => Err(SupervisorError::NotOurs),
            Err(error @ (ResultError::Unreadable(_) | ResultError::Malformed(_))) => {
                Err(SupervisorError::Result(error))
            }
        },
        Err(error) => Err(error),
    }
}

/// Takes back a launch that no supervisor has begun; whether it is certain that nothing of it ran or ever will. Only for
/// an attempt whose worker is dead and that [`adopt`] found [`Adopted::Gone`].
pub fn revoke(dir: &Path) -> Result<bool, FsError> {
    // Prepared on another machine, or nowhere: nobody here can tell what became of it there.
    if !host::fs::is_dir(dir) {
        return Ok(false);
    }
    if host::fs::remove_existing_file(&dir.join(spec::FILE))? {
        return Ok(true);
    }
    // The log is opened before the supervisor is spawned, so without one none ever was.
    Ok(!host::fs::exists(&dir.join(LOG)))
}

impl Supervised {
    async fn connect(dir: &Path, nonce: &str) -> Result<Self, SupervisorError> {
        let (connection, report) = match Connection::open(dir, nonce).await {
            Ok(opened) => opened,
            Err(error) => return Err(explain(dir, nonce, error)),
        };
        Ok(Self {
            dir: dir.to_owned(),
            nonce: nonce.to_owned(),
            held: Held { containment: report.containment, sandbox: report.sandbox },
            started_at: report.started_at,
            connection: Mutex::new(Some(connection)),
        })
    }

    /// Lets the tree live until `span` from now, unless it may already live longer.
    pub async fn extend(&self, span: Duration) -> Result<(), SupervisorError> {
        self.extend_until(host::clock::since_boot() + span).await
    }

    /// Lets the tree live until an instant of [`host::clock::since_boot`], unless it may already live longer.
    pub async fn extend_until(&self, since_boot: Duration) -> Result<(), SupervisorError> {
        self.ask(&Request::Extend { until_boot_ms: millis(since_boot) }).await.map(drop)
    }

    /// Begins the end of the tree: SIGTERM, after `grace` (`None`: as its limits say) SIGKILL. That it has ended already
    /// is fine. [`Supervised::wait`] tells when nothing is left.
    pub async fn stop(&self, reason: &str, grace: Option<Duration>) -> Result<(), SupervisorError> {
        let request = Request::Stop { reason: host::text::one_line(reason, 500), grace_ms: grace.map(millis) };
        match self.ask(&request).await {
            Ok(_) | Err(SupervisorError::Ended) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Says whether the tree waits for people: its wall and idle limits do not count while it does.
    pub async fn hold(&self, held: bool) -> Result<(), SupervisorError> {
        self.ask(&Request::Hold { held }).await.map(drop)
    }

    /// How the tree stands now.
    pub async fn report(&self) -> Result<Report, SupervisorError> {
        self.ask(&Request::Status).await
    }

    /// Waits until nothing of the tree is left. Dropping the future changes nothing; it may be called again.
    pub async fn wait(&self) -> Result<Exit, SupervisorError> {
        loop {
            match Connection::open(&self.dir, &self.nonce).await {
                // It closes its connections only when it is done, or when it dies.
                Ok((connection, _)) => connection.closed().await,
                Err(error) => match explain(&self.dir, &self.nonce, error) {
                    SupervisorError::Ended => {
                        return exit::read(&self.dir, &self.nonce).map_err(SupervisorError::Result);
                    }
                    error => return Err(error),
                },
            }
        }
    }

    /// How surely the tree can be ended.
    pub fn containment(&self) -> Containment {
        self.held.containment
    }

    /// The same, and the sandbox that it is in.
    pub fn held(&self) -> Held {
        self.held
    }

    /// When its supervisor started, in microseconds of wall clock.
    pub fn started_at(&self) -> i64 {
        self.started_at
    }

    /// The attempt's directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    async fn ask(&self, request: &Request) -> Result<Report, SupervisorError> {
        let mut slot = self.connection.lock().await;
        // Once on the connection we have, if it still stands, and once on a new one.
        if let Some(mut connection) = slot.take()
            && let Ok(report) = connection.ask(request).await
        {
            *slot = Some(connection);
            return Ok(report);
        }
        let explained = |error| explain(&self.dir, &self.nonce, error);
        let (mut connection, _) = Connection::open(&self.dir, &self.nonce).await.map_err(explained)?;
        let report = connection.ask(request).await.map_err(explained)?;
        *slot = Some(connection);
        Ok(report)
    }
}

/// Tells a supervisor that is done from one that died, from one that hangs, from one that is not ours.
fn explain(dir: &Path, nonce: &str, error: ConnectionError) -> SupervisorError {
    match error {
        ConnectionError::NotOurs => SupervisorError::NotOurs,
        ConnectionError::Refused { message } => SupervisorError::Refused { message },
        ConnectionError::Silent(source) => SupervisorError::Silent(source),
        ConnectionError::Closed => match exit::read(dir, nonce) {
            Ok(_) => SupervisorError::Ended,
            Err(ResultError::Missing | ResultError::Forged) => SupervisorError::Lost,
            Err(error @ (ResultError::Unreadable(_) | ResultError::Malformed(_))) => SupervisorError::Result(error),
        },
    }
}

impl std::fmt::Debug for Supervised {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Supervised").field("dir", &self.dir).field("held", &self.held).finish_non_exhaustive()
    }
}
