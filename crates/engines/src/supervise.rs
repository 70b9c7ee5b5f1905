//! The process that holds one attempt's tree: what `pilothouse supervise` runs before any async runtime starts.
//!
//! One thread, one loop over descriptors. It starts the tree in its own session and the strongest containment there is,
//! spools its output, keeps its limits and its deadline, and leaves a sealed result when nothing of the tree is alive.
//! It needs no worker for any of that: a worker only moves the deadline, asks and stops. Start with `Supervisor::run`.

mod bubblewrap;
mod clients;
mod confine;
mod forward;
mod init;
mod layout;
mod native;
mod spooler;
mod tree;

use crate::exit::{self, Exit, LaunchFailure, LaunchFailureKind, Outcome, TimeLimit};
use crate::protocol::{self, Report, Request, Started};
use crate::spec::{Spec, Stream};
use clients::Clients;
use confine::Confinement;
use host::contain::{self, Containment, Signals};
use spooler::Spooler;
use std::ffi::OsString;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tree::Tree;

const MAX_SPEC: u64 = 16 << 20;

/// Clocks are looked at this often even when nothing happens, in case the machine slept.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// Runs a supervisor; `args` are those after `supervise`, the answer is the process's exit code.
///
/// It must be called with one thread running and nothing opened.
pub fn main(args: impl IntoIterator<Item = OsString>) -> i32 {
    let mut args = args.into_iter();
    match (args.next(), args.next()) {
        (Some(flag), None) if flag == init::FLAG => init::main(),
        (Some(flag), None) if flag == forward::FLAG => forward::main(),
        (Some(spec), None) => match supervise(Path::new(&spec)) {
            Ok(()) => 0,
            Err(error) => {
                // Nobody else is left to tell: stderr is the attempt's supervisor log.
                eprintln!("supervise: {error}");
                1
            }
        },
        _ => {
            eprintln!("usage: pilothouse supervise SPEC (started by a worker, not by hand)");
            2
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum SuperviseError {
    #[error("cannot read {FILE}: {0}", FILE = crate::spec::FILE)]
    Spec(#[source] host::fs::FsError),
    #[error("{path} can be read by others (mode {mode:o})")]
    Exposed { path: PathBuf, mode: u32 },
    #[error("the launch was taken back")]
    Revoked,
    #[error("the spec is not understood: {0}")]
    Malformed(#[source] serde_json::Error),
    #[error("the spec has version {0}, this supervisor knows {known}", known = crate::spec::VERSION)]
    Version(u32),
    #[error("cannot {action}: {source}")]
    System { action: &'static str, source: std::io::Error },
    #[error("cannot write the result: {0}")]
    Result(#[source] host::fs::FsError),
}

fn system(action: &'static str) -> impl Fn(std::io::Error) -> SuperviseError {
    move |source| SuperviseError::System { action, source }
}

fn supervise(path: &Path) -> Result<(), SuperviseError> {
    contain::close_inherited_files();
    contain::settle().map_err(system("take a session"))?;
    let spec = read_spec(path)?;
    host::failpoint!("supervisor.spec.read");
    let dir = host::fs::canonicalize(path).map_err(SuperviseError::Spec)?;
    let dir = dir.parent().unwrap_or(Path::new("/"));
    contain::enter_dir(dir).map_err(system("enter the attempt's directory"))?;
    // From here on only this process and the worker know the nonce and what the environment holds. Whoever removes the
    // document has it: a launch that was taken back in the meantime starts nothing.
    if !host::fs::remove_existing_file(path).map_err(SuperviseError::Spec)? {
        return Err(SuperviseError::Revoked);
    }
    // A document that a power cut brings back would say that nothing of this ever ran.
    host::fs::sync_parent(path).map_err(system("flush the attempt's directory"))?;
    host::failpoint!("supervisor.spec.removed");
    let signals = Signals::install().map_err(system("catch signals"))?;
    let started_at = host::clock::now_micros();
    let clients = Clients::listen(&spec.nonce).map_err(system("listen on the control socket"))?;
    host::failpoint!("supervisor.socket.up");
    contain::give_up_new_privileges().map_err(system("give up new privileges"))?;
    let mut spoolers = spoolers(&spec).map_err(system("open the output files"))?;
    let oom = contain::OomPreference::prefer_children();
    let around = Confinement::prepare(&spec);
    contain::hide_memory().map_err(system("hide the memory"))?;
    let started = around.and_then(|around| {
        let around_it = Around::of(&around, &spec);
        start(&spec, around, &mut spoolers).map(|tree| (tree, around_it))
    });
    oom.restore();
    let (exit, clients) = match started {
        Ok((tree, around)) => {
            host::failpoint!("supervisor.tree.started");
            say(&Started::Ready { containment: around.containment, sandbox: around.sandbox, started_at });
            host::failpoint!("supervisor.ready.said");
            Supervisor::new(&spec, tree, around, started_at, signals, clients, spoolers).run()
        }
        Err(failure) => {
            remove_masks(&spec);
            let exit = Exit {
                outcome: Outcome::LaunchFailed(failure.clone()),
                status: None,
                // Nothing ran, so nothing had to be contained.
                containment: Containment::PidNamespace,
                sandbox: None,
                limited: None,
                out_of_memory: false,
                started_at,
                ended_at: host::clock::now_micros(),
                killed: false,
                all_gone: true,
                outputs: spoolers.into_iter().map(Spooler::finish).collect(),
            };
            exit::write(dir, &spec.nonce, &exit).map_err(SuperviseError::Result)?;
            say(&Started::Failed(failure));
            return clean_up();
        }
    };
    host::failpoint!("supervisor.result.before");
    exit::write(dir, &spec.nonce, &exit).map_err(SuperviseError::Result)?;
    host::failpoint!("supervisor.result.written");
    // Whoever waits on a connection reads the result as soon as it closes.
    drop(clients);
    clean_up()
}

/// What is around the tree, as the result will say.
#[derive(Clone, Copy)]
struct Around {
    containment: Containment,
    sandbox: Option<exit::Confined>,
    limited: Option<exit::Limited>,
}

impl Around {
    fn of(confinement: &Confinement, spec: &Spec) -> Self {
        let (sandbox, limited) = confinement.describe(spec);
        Self { containment: confinement.containment, sandbox, limited }
    }
}

fn remove_masks(spec: &Spec) {
    if spec.sandbox.is_some() {
        crate::sandbox::remove_masks(&spec.cwd);
    }
}

fn clean_up() -> Result<(), SuperviseError> {
    host::fs::remove_file(Path::new(protocol::SOCKET)).map_err(SuperviseError::Result)
}

fn read_spec(path: &Path) -> Result<Spec, SuperviseError> {
    let mode = host::fs::mode(path).map_err(SuperviseError::Spec)?;
    if mode & 0o077 != 0 {
        return Err(SuperviseError::Exposed { path: path.to_owned(), mode });
    }
    let text = host::fs::read(path, MAX_SPEC).map_err(SuperviseError::Spec)?;
    #[derive(serde::Deserialize)]
    struct Versioned {
        version: u32,
    }
    let Versioned { version } = serde_json::from_slice(&text).map_err(SuperviseError::Malformed)?;
    if version != crate::spec::VERSION {
        return Err(SuperviseError::Version(version));
    }
    serde_json::from_slice(&text).map_err(SuperviseError::Malformed)
}

fn spoolers(spec: &Spec) -> std::io::Result<Vec<Spooler>> {
    let streams: &[Stream] = if spec.merge_stderr { &[Stream::Output] } else { &[Stream::Stdout, Stream::Stderr] };
    streams.iter().map(|&stream| Spooler::open(stream, spec.limits.spool_bytes, &spec.secrets)).collect()
}

fn start(spec: &Spec, around: Confinement, spoolers: &mut [Spooler]) -> Result<Tree, LaunchFailure> {
    let other = |error: std::io::Error| LaunchFailure {
        kind: LaunchFailureKind::Other,
        message: format!("cannot make pipes: {error}"),
    };
    let stdout = spoolers[0].connect().map_err(other)?;
    let stderr = match spoolers.get_mut(1) {
        Some(spooler) => spooler.connect(),
        None => stdout.try_clone(),
    };
    Tree::start(spec, around, &stdout, &stderr.map_err(other)?)
}

/// Tells the starter how it went, once, and lets go of its pipe.
fn say(started: &Started) {
    let line = serde_json::to_string(started).expect("a start has only plain fields");
    let mut stdout = std::io::stdout().lock();
    // A starter that is gone will ask the socket or the result instead.
    let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
    let _ = contain::detach_stdio();
}

/// Why and how far a tree is being ended.
struct Ending {
    outcome: Outcome,
    kill_at: Duration,
}

struct Supervisor<'spec> {
    spec: &'spec Spec,
    tree: Tree,
    around: Around,
    signals: Signals,
    clients: Clients,
    spoolers: Vec<Spooler>,
    started_at: i64,
    /// All of these on the clock that counts from boot.
    started: Duration,
    last_output: Duration,
    last_connected: Duration,
    /// Since when it waits for people.
    held: Option<Duration>,
    deadline: Option<Duration>,
    ending: Option<Ending>,
    killed: bool,
}

impl<'spec> Supervisor<'spec> {
    fn new(
        spec: &'spec Spec,
        tree: Tree,
        around: Around,
        started_at: i64,
        signals: Signals,
        clients: Clients,
        spoolers: Vec<Spooler>,
    ) -> Self {
        let now = host::clock::since_boot();
        Self {
            spec,
            tree,
            around,
            signals,
            clients,
            spoolers,
            started_at,
            started: now,
            last_output: now,
            last_connected: now,
            held: None,
            deadline: spec.deadline_boot_ms.map(Duration::from_millis),
            ending: None,
            killed: false,
        }
    }

    /// Watches the tree until nothing of it is left.
    fn run(mut self) -> (Exit, Clients) {
        loop {
            self.wait();
            let caught = self.signals.take();
            if caught.terminate {
                self.end(Outcome::Stopped { reason: "the supervisor was told to terminate".to_owned() }, None);
            }
            self.read_output();
            self.answer_clients();
            if let Some(status) = self.tree.poll() {
                return self.finish(status);
            }
            self.check_clocks();
        }
    }

    fn wait(&mut self) {
        let now = host::clock::since_boot();
        let next = self.instants().into_iter().flatten().min().unwrap_or(now + LONGEST_WAIT);
        // A little later than the instant, so that it has passed when we look.
        let timeout = next.saturating_sub(now).min(LONGEST_WAIT) + Duration::from_micros(500);
        let mut fds = vec![self.signals.as_fd()];
        fds.extend(self.spoolers.iter().filter_map(Spooler::fd));
        fds.extend(self.clients.fds());
        contain::wait_readable(&fds, timeout);
    }

    /// When something has to be done though nothing happens.
    fn instants(&self) -> [Option<Duration>; 5] {
        if let Some(ending) = &self.ending {
            return [(!self.killed).then_some(ending.kill_at), None, None, None, None];
        }
        let limits = &self.spec.limits;
        [
            limits.wall_ms.filter(|_| self.held.is_none()).map(|ms| self.started + Duration::from_millis(ms)),
            limits.idle_ms.filter(|_| self.held.is_none()).map(|ms| self.last_output + Duration::from_millis(ms)),
            self.deadline,
            self.spec.after_disconnect_ms.map(|ms| self.last_connected + Duration::from_millis(ms)),
            None,
        ]
    }

    fn read_output(&mut self) {
        let mut read = 0;
        for spooler in &mut self.spoolers {
            read += spooler.pump();
        }
        if read > 0 {
            host::failpoint!("supervisor.output.spooled");
            self.last_output = host::clock::since_boot();
        }
        if self.output_bytes() > self.spec.limits.output_bytes {
            self.end(Outcome::OutputLimit, None);
        }
    }

    fn output_bytes(&self) -> u64 {
        self.spoolers.iter().map(Spooler::bytes).sum()
    }

    fn answer_clients(&mut self) {
        let now = host::clock::since_boot();
        for (client, request) in self.clients.requests() {
            match request {
                Request::Extend { until_boot_ms } => {
                    let until = Duration::from_millis(until_boot_ms);
                    // A message may arrive late, never too late: the deadline is an instant, and only moves forward.
                    self.deadline = self.deadline.map(|deadline| deadline.max(until)).or(Some(until));
                }
                Request::Stop { reason, grace_ms } => {
                    self.end(Outcome::Stopped { reason }, grace_ms.map(Duration::from_millis));
                }
                Request::Hold { held } => self.hold(held, now),
                Request::Status | Request::Hello { .. } => {}
            }
            let report = self.report();
            self.clients.answer(client, &report);
        }
        if self.clients.any_proven() {
            self.last_connected = now;
        }
    }

    /// Stops and goes on counting the tree's own time. Whoever holds it has to be there: without a worker the deadline and
    /// the disconnection end it as ever.
    fn hold(&mut self, held: bool, now: Duration) {
        match (held, self.held) {
            (true, None) => self.held = Some(now),
            (false, Some(since)) => {
                self.held = None;
                self.started += now.saturating_sub(since);
                self.last_output = self.last_output.max(now);
            }
            (true, Some(_)) | (false, None) => {}
        }
    }

    fn report(&self) -> Report {
        Report {
            containment: self.around.containment,
            sandbox: self.around.sandbox,
            supervisor_pid: host::process::id(),
            started_at: self.started_at,
            deadline_boot_ms: self.deadline.map(crate::spec::millis),
            output_bytes: self.output_bytes(),
            stopping: self.ending.is_some(),
        }
    }

    fn check_clocks(&mut self) {
        let now = host::clock::since_boot();
        if let Some(ending) = &self.ending {
            if !self.killed && ending.kill_at <= now {
                self.tree.kill();
                self.killed = true;
            }
            return;
        }
        let [wall, idle, deadline, disconnected, _] = self.instants();
        let passed = |instant: Option<Duration>| instant.is_some_and(|instant| instant <= now);
        if passed(deadline) {
            // Somebody else may start the same work in a moment: no grace.
            self.end(Outcome::DeadlinePassed, Some(Duration::ZERO));
        } else if passed(disconnected) {
            self.end(Outcome::ControllerLost, Some(Duration::ZERO));
        } else if passed(wall) {
            self.end(Outcome::TimedOut { limit: TimeLimit::Wall }, None);
        } else if passed(idle) {
            self.end(Outcome::TimedOut { limit: TimeLimit::Idle }, None);
        }
    }

    /// Begins the end of the tree; the first reason stays, a shorter grace wins.
    fn end(&mut self, outcome: Outcome, grace: Option<Duration>) {
        let grace = grace.unwrap_or(Duration::from_millis(self.spec.limits.kill_grace_ms));
        let kill_at = host::clock::since_boot() + grace;
        match &mut self.ending {
            Some(ending) => ending.kill_at = ending.kill_at.min(kill_at),
            None => {
                self.tree.terminate();
                self.ending = Some(Ending { outcome, kill_at });
            }
        }
        if grace.is_zero() && !self.killed {
            self.tree.kill();
            self.killed = true;
        }
    }

    fn finish(mut self, ended: tree::Ended) -> (Exit, Clients) {
        for spooler in &mut self.spoolers {
            spooler.drain();
        }
        remove_masks(self.spec);
        host::failpoint!("supervisor.output.drained");
        let outcome = match (self.ending, ended.status) {
            (Some(ending), _) => ending.outcome,
            (None, Some(host::process::Status::Exited(code))) => Outcome::Exited { code },
            (None, Some(host::process::Status::Signaled(signal))) => Outcome::Signaled { signal },
            // Its keeper inside the namespace was killed before it could say more: nobody but the system does that.
            (None, None) => Outcome::Signaled { signal: contain::Signal::KILL.as_raw() },
        };
        let exit = Exit {
            outcome,
            status: ended.status,
            containment: self.around.containment,
            sandbox: self.around.sandbox,
            limited: self.around.limited,
            out_of_memory: ended.out_of_memory,
            started_at: self.started_at,
            ended_at: host::clock::now_micros(),
            killed: self.killed,
            all_gone: ended.all_gone,
            outputs: self.spoolers.into_iter().map(Spooler::finish).collect(),
        };
        (exit, self.clients)
    }
}
