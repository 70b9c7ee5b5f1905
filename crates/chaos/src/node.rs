//! One process under test: started, waited for, killed by its pid.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tokio::process::{Child, Command};

use crate::{
    drill::Flaw,
    place::Place,
    space::{Door, Entrance},
};

/// On PostgreSQL the leases of the dead last this long, so that campaigns drain within their time.
pub const LEASE: Duration = Duration::from_secs(3);
const START: Duration = Duration::from_secs(20);
const STOP: Duration = Duration::from_secs(20);

/// What is put to the test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Program {
    /// A copy of the real binary.
    Product(PathBuf),
    /// This program as [`crate::drill`], with one flaw or none.
    Drill(PathBuf, Option<Flaw>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Up,
    Serve,
    Work,
}

/// What a node is started as, and with.
#[derive(Clone, Debug)]
pub struct Seat {
    pub role: Role,
    /// Its data directory within the place.
    pub data: &'static str,
    /// Another way to the place's database.
    pub database_url: Option<String>,
    pub lease: Duration,
    /// The network namespace that it is started in, if it is not ours.
    pub entrance: Option<Entrance>,
    /// On top of its own environment.
    pub environment: Vec<(String, String)>,
}

impl Seat {
    pub fn of(role: Role) -> Self {
        Self { role, data: "data", database_url: None, lease: LEASE, entrance: None, environment: Vec::new() }
    }
}

/// Where a node listens, and what it wants to see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub address: SocketAddr,
    /// The way to where the address means it, if that is not here.
    pub door: Option<Door>,
    pub token: String,
}

/// Killed at the latest when it is dropped.
#[derive(Debug)]
pub struct Node {
    child: Child,
    pub pid: u32,
    role: Role,
    data: PathBuf,
    door: Option<Door>,
    log: PathBuf,
    started_at: Instant,
    ready_after: Duration,
    ended: Option<ExitStatus>,
}

impl Program {
    /// Whether it promises an orderly end.
    pub fn drains(&self) -> bool {
        matches!(self, Self::Product(_))
    }

    fn arguments(&self, seat: &Seat, place: &Place) -> Vec<String> {
        let data = place.dir.join(seat.data).display().to_string();
        let (mut arguments, listens) = match (self, seat.role) {
            (Self::Product(_), Role::Up) => (vec!["up".to_owned()], true),
            (Self::Product(_), Role::Serve) => (vec!["serve".to_owned()], true),
            (Self::Product(_), Role::Work) => (vec!["work".to_owned()], false),
            (Self::Drill(_, flaw), _) => (vec!["drill".to_owned(), flaw.map_or("none", Flaw::name).to_owned()], true),
        };
        arguments.extend(["--data-dir".to_owned(), data]);
        if listens && self.drains() {
            arguments.extend(["--listen", "127.0.0.1:0", "--dev-channel", "--jobs"].map(str::to_owned));
            arguments.push(place.jobs().display().to_string());
        }
        if let Some(url) = seat.database_url.clone().or_else(|| place.database_url()) {
            arguments.extend(["--database-url".to_owned(), url]);
        }
        arguments
    }

    fn exe(&self) -> &Path {
        match self {
            Self::Product(exe) | Self::Drill(exe, _) => exe,
        }
    }
}

impl Node {
    pub fn start(program: &Program, seat: &Seat, place: &Place) -> Result<Self> {
        let log = std::fs::OpenOptions::new().append(true).create(true).open(place.log())?;
        #[expect(clippy::disallowed_methods, reason = "drives the product from outside, which host's spawner cannot")]
        let mut command = match seat.entrance.as_ref().map(Entrance::as_anybody) {
            // Those before it become it: they start nothing.
            Some(way) => {
                let mut command = Command::new(&way[0]);
                command.args(&way[1..]).arg(program.exe());
                command
            }
            None => Command::new(program.exe()),
        };
        command
            .args(program.arguments(seat, place))
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("HOME", &place.dir)
            .env("PILOTHOUSE_WORKER__LEASE", format!("{}ms", seat.lease.as_millis()))
            .envs(seat.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(&place.dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true);
        let child = command.spawn().with_context(|| format!("cannot start {}", program.exe().display()))?;
        let pid = child.id().context("it ended at once")?;
        Ok(Self {
            child,
            pid,
            role: seat.role,
            data: place.dir.join(seat.data),
            door: seat.entrance.as_ref().map(Entrance::knock),
            log: place.log(),
            started_at: host::clock::monotonic(),
            ready_after: Duration::ZERO,
            ended: None,
        })
    }

    /// Waits until it has left word of where it listens, which it does once it serves.
    pub async fn ready(&mut self) -> Result<Target> {
        let asked_at = host::clock::monotonic();
        while asked_at.elapsed() < START {
            if let Some(target) = self.find_target() {
                if self.ready_after.is_zero() {
                    self.ready_after = self.started_at.elapsed();
                }
                return Ok(target);
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("it ended by itself ({status}) while it started: {}", self.last_words());
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        bail!("it was not ready within {START:?}: {}", self.last_words())
    }

    /// Waits until it works, if that is what it is there for: it then holds a lock of its own.
    pub async fn wait_for_worker(&mut self, place: &Place) -> Result<()> {
        let started = host::clock::monotonic();
        while self.role == Role::Work && started.elapsed() < START {
            // All nodes of a place write into one log.
            let log = std::fs::read_to_string(place.log()).unwrap_or_default();
            let alive = host::fs::list_names(&self.data.join("workers")).unwrap_or_default();
            if alive.iter().any(|name| log.contains(&format!("Started worker {name}"))) {
                return Ok(());
            }
            if self.has_ended()? {
                bail!("it ended by itself while it started: {}", self.last_words());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        anyhow::ensure!(self.role != Role::Work, "it did not begin to work within {START:?}: {}", self.last_words());
        Ok(())
    }

    /// Where it listens, once it does.
    pub fn find_target(&self) -> Option<Target> {
        let text = std::fs::read(self.data.join("endpoint.json")).ok()?;
        let endpoint: Value = serde_json::from_slice(&text).ok()?;
        if endpoint["pid"] != self.pid {
            return None;
        }
        let address = endpoint["url"].as_str()?.strip_prefix("http://")?.parse().ok()?;
        let token = std::fs::read_to_string(endpoint["token_file"].as_str()?).ok()?.trim().to_owned();
        Some(Target { address, door: self.door.clone(), token })
    }

    /// SIGKILL. That it has ended by itself before is an error: nobody told it to.
    pub async fn kill(mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("{:?} ended by itself ({status}): {}", self.role, self.last_words());
        }
        self.child.start_kill()?;
        self.child.wait().await?;
        Ok(())
    }

    /// SIGKILL, wherever it is and whether or not it is dead already.
    pub async fn put_down(mut self) -> Result<()> {
        if self.child.try_wait()?.is_none() {
            self.child.start_kill()?;
            self.child.wait().await?;
        }
        Ok(())
    }

    /// Whether it has ended, by itself or by whatever was done to it.
    pub fn has_ended(&mut self) -> Result<bool> {
        self.ended = self.child.try_wait()?;
        Ok(self.ended.is_some())
    }

    /// Its last words, for whoever has to say that it ended unasked.
    pub fn obituary(&self) -> String {
        let status = self.ended.map_or_else(String::new, |status| format!(" ({status})"));
        format!("{:?} ended by itself{status}: {}", self.role, self.last_words())
    }

    /// SIGSTOP: it stands where it is and holds whatever it held.
    pub fn freeze(&self) -> Result<()> {
        self.signal(rustix::process::Signal::STOP)
    }

    /// SIGCONT.
    pub fn thaw(&self) -> Result<()> {
        self.signal(rustix::process::Signal::CONT)
    }

    fn signal(&self, signal: rustix::process::Signal) -> Result<()> {
        let pid = i32::try_from(self.pid).ok().and_then(rustix::process::Pid::from_raw).context("a pid")?;
        // It is our own child and not waited for, so the id is nobody else's.
        Ok(rustix::process::kill_process(pid, signal)?)
    }

    /// SIGTERM, and the orderly end that it asks for.
    pub async fn stop(mut self) -> Result<ExitStatus> {
        self.signal(rustix::process::Signal::TERM)?;
        let Ok(status) = tokio::time::timeout(STOP, self.child.wait()).await else {
            bail!("{:?} did not stop within {STOP:?} after SIGTERM", self.role);
        };
        Ok(status?)
    }

    /// How long it took from its start until it served.
    pub fn ready_after(&self) -> Duration {
        self.ready_after
    }

    pub fn role(&self) -> Role {
        self.role
    }

    fn last_words(&self) -> String {
        let log = std::fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log).into_owned();
        let lines: Vec<&str> = log.lines().rev().take(5).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
    }
}
