//! A network namespace of its own for a program: nothing but what is laid to it reaches it, and nothing of the machine's
//! network is touched.
//!
//! A namespace has no name: it lives as long as a process in it. One of ours [`holds`](holder) it and ends when its pipe
//! closes, which it does however this program ends; before that it ends what was started there. Its *door* is a socket
//! in the filesystem, by which whoever is outside speaks to addresses inside.
//!
//! Root makes them as they are. Anybody else makes them in one user namespace, where they may do so; programs that are
//! put to the test are started there as the same user as outside, without the powers over the network.

pub mod holder;

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::UnixStream,
    process::{Child, ChildStdin, Command},
};

/// Where the system keeps programs for its administrator, who may be somebody without them on PATH.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// From its start until a holder says that it holds.
const START: Duration = Duration::from_secs(10);

/// By whose power namespaces are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Power {
    Root,
    /// An ordinary user within a namespace of users.
    User {
        uid: u32,
        gid: u32,
    },
}

/// How programs get into a namespace.
#[derive(Clone, Debug)]
pub struct Entrance {
    power: Power,
    /// Of the holder.
    pid: u32,
    pub door: PathBuf,
}

/// Closed when it is dropped.
#[derive(Debug)]
pub struct Space {
    holder: Child,
    pipe: ChildStdin,
    pub entrance: Entrance,
}

impl Power {
    /// Those worth trying, the plain one first.
    pub fn all() -> Vec<Self> {
        let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
        let user = Self::User { uid: uid.as_raw(), gid: gid.as_raw() };
        if uid.is_root() { vec![Self::Root, user] } else { vec![user] }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Root => "as root",
            Self::User { .. } => "in a user namespace",
        }
    }
}

impl Space {
    /// The first of several, in which the others are made: those of one user namespace may be joined. When its pipe
    /// closes, what was started in it is given so long to end by itself.
    pub async fn open(power: Power, program: &Path, door: PathBuf, grace: Duration) -> Result<Self> {
        let unshare = match power {
            Power::Root => ["unshare", "--net"].as_slice(),
            Power::User { .. } => &["unshare", "--user", "--map-root-user", "--net"],
        };
        Self::hold(power, unshare.iter().map(ToString::to_string).collect(), program, door, grace).await
    }

    /// Another one beside it.
    pub async fn beside(&self, program: &Path, door: PathBuf, grace: Duration) -> Result<Self> {
        let mut unshare = self.entrance.with_powers();
        unshare.extend(["unshare", "--net"].map(str::to_owned));
        Self::hold(self.entrance.power, unshare, program, door, grace).await
    }

    async fn hold(power: Power, way: Vec<String>, program: &Path, door: PathBuf, grace: Duration) -> Result<Self> {
        let mut command = command(&way)?;
        command.arg("--").arg(program).arg("space").arg(&door).arg(grace.as_secs().to_string());
        let mut holder = command
            // Ctrl-C is for us: it must outlive us to end what was started.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", way[0]))?;
        let pid = holder.id().context("it ended at once")?;
        let pipe = holder.stdin.take().context("it has no stdin")?;
        let mut word = String::new();
        let mut said = BufReader::new(holder.stdout.take().context("it has no stdout")?);
        let heard = tokio::time::timeout(START, said.read_line(&mut word)).await;
        if !matches!(heard, Ok(Ok(_))) || word.trim() != holder::READY {
            let mut why = String::new();
            if let Some(mut stderr) = holder.stderr.take() {
                drop(pipe);
                stderr.read_to_string(&mut why).await?;
            }
            bail!("there is no network namespace of our own: {}", host::text::one_line(why.into_bytes(), 300));
        }
        Ok(Self { holder, pipe, entrance: Entrance { power, pid, door } })
    }

    /// Whether nothing that was started in it lived on.
    pub async fn close(mut self) -> Result<bool> {
        drop(self.pipe);
        Ok(self.holder.wait().await?.success())
    }
}

impl Entrance {
    /// For a program that is put to the test: how its command line begins.
    pub fn as_anybody(&self) -> Vec<String> {
        let mut way = self.with_powers();
        if let Power::User { uid, gid } = self.power {
            let map = [format!("--map-user={uid}"), format!("--map-group={gid}")];
            way.extend(["unshare".to_owned(), "--user".to_owned()].into_iter().chain(map));
            way.push("--".to_owned());
        }
        way
    }

    /// With the powers over the network.
    fn with_powers(&self) -> Vec<String> {
        let user = match self.power {
            Power::Root => [].as_slice(),
            Power::User { .. } => &["--user", "--preserve-credentials"],
        };
        let mut way = vec!["nsenter".to_owned(), format!("--target={}", self.pid), "--net".to_owned()];
        way.extend(user.iter().map(ToString::to_string));
        way.push("--".to_owned());
        way
    }

    /// Runs a program of the system on the network inside and wants it to succeed.
    pub async fn call(&self, program: &[&str], input: &str) -> Result<()> {
        let mut way = self.with_powers();
        way.extend(program.iter().map(ToString::to_string));
        let mut running = command(&way)?
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {}", way[0]))?;
        let mut stdin = running.stdin.take().context("it has no stdin")?;
        // One that has ended already says why below.
        let _ = stdin.write_all(input.as_bytes()).await;
        drop(stdin);
        let ended = running.wait_with_output().await?;
        let said = host::text::one_line(ended.stderr, 300);
        ensure!(ended.status.success(), "{program:?} failed on {input:?}: {said}");
        Ok(())
    }

    /// One `ip` for several of its commands, a line each.
    pub async fn ip(&self, lines: &str) -> Result<()> {
        self.call(&["ip", "-batch", "-"], lines).await
    }

    /// The process to whose namespace one end of a pair of interfaces is given.
    pub fn holder(&self) -> u32 {
        self.pid
    }

    pub fn knock(&self) -> Door {
        Door(self.door.clone())
    }
}

/// A way to addresses as they are seen from within a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Door(PathBuf);

impl Door {
    /// A connection from within.
    pub async fn connect(&self, to: SocketAddr) -> std::io::Result<UnixStream> {
        let SocketAddr::V4(to) = to else { return Err(std::io::ErrorKind::Unsupported.into()) };
        let mut stream = UnixStream::connect(&self.0).await?;
        stream.write_all(&holder::ask(*to.ip(), to.port())).await?;
        // Closed instead when there is nothing at that address.
        stream.read_exact(&mut [0]).await?;
        Ok(stream)
    }

    /// Whether a connection from within is made in time.
    pub async fn reaches(&self, to: (Ipv4Addr, u16), within: Duration) -> bool {
        matches!(tokio::time::timeout(within, self.connect(to.into())).await, Ok(Ok(_)))
    }
}

fn command(way: &[String]) -> Result<Command> {
    let (program, arguments) = way.split_first().context("a program")?;
    #[expect(clippy::disallowed_methods, reason = "namespaces are set up by the system's own programs")]
    let mut command = Command::new(program);
    command.args(arguments).env_clear().env("PATH", PATH);
    Ok(command)
}
