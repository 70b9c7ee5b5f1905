//! A PostgreSQL server of a fault's own, which may be restarted: made, restarted and removed by a guard process that
//! `cargo xtask` provides, so that nothing is left behind however this program ends.

use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, ChildStdin, ChildStdout, Command},
};

use crate::space::Entrance;

/// The guard's command line, as a JSON array.
pub const GUARD: &str = "PILOTHOUSE_CHAOS_POSTGRES_GUARD";
const RESTART: &str = "restart immediate";
const HALT: &str = "halt immediate";
const START: &str = "start";

/// Why there can be no server of a fault's own, where somebody else's is used.
pub fn missing() -> Option<String> {
    host::env::var(GUARD).is_none().then(|| format!("{GUARD} is not set; `cargo xtask chaos` sets it"))
}

/// Gone when it is dropped: the guard lives as long as its pipe.
#[derive(Debug)]
pub struct Cluster {
    guard: Child,
    pipe: Option<ChildStdin>,
    said: BufReader<ChildStdout>,
    pub url: String,
    /// Where the server keeps everything, and its socket.
    directory: PathBuf,
}

impl Cluster {
    pub async fn start() -> Result<Self> {
        Self::start_in(&host::fs::temporary_root()).await
    }

    /// With everything it writes beneath this directory, which every account must be able to enter.
    pub async fn start_in(dir: &Path) -> Result<Self> {
        Self::launch(dir, guard()?).await
    }

    /// In a network namespace, where it can be reached at this address, too; from outside by [`Cluster::socket_url`].
    pub async fn start_apart(entrance: &Entrance, address: Ipv4Addr) -> Result<Self> {
        let mut command = entrance.as_anybody();
        command.extend(guard()?);
        command.push(address.to_string());
        Self::launch(&host::fs::temporary_root(), command).await
    }

    async fn launch(dir: &Path, command: Vec<String>) -> Result<Self> {
        let (program, arguments) = command.split_first().with_context(|| format!("{GUARD} is empty"))?;
        #[expect(clippy::disallowed_methods, reason = "the guard finds its programs by our environment")]
        let mut guard = Command::new(program)
            .args(arguments)
            .env("TMPDIR", dir)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {program}"))?;
        let pipe = guard.stdin.take();
        let said = BufReader::new(guard.stdout.take().context("the guard has no stdout")?);
        let mut cluster = Self { guard, pipe, said, url: String::new(), directory: PathBuf::new() };
        (cluster.url, cluster.directory) = cluster.ready().await?;
        Ok(cluster)
    }

    /// An immediate shutdown, which is a crash of the server, and its start; back once it accepts connections.
    pub async fn restart(&mut self) -> Result<()> {
        self.tell(RESTART).await
    }

    /// The first half of a restart.
    pub async fn halt(&mut self) -> Result<()> {
        self.tell(HALT).await
    }

    /// The second half.
    pub async fn start_again(&mut self) -> Result<()> {
        self.tell(START).await
    }

    async fn tell(&mut self, what: &str) -> Result<()> {
        let line = format!("{what}\n");
        self.pipe.as_mut().context("the guard was told to end")?.write_all(line.as_bytes()).await?;
        self.ready().await.map(drop)
    }

    /// The server's address by its socket in the filesystem, which leads into whatever network namespace it is in.
    pub fn socket_url(&self) -> String {
        let (start, end) = host_in(&self.url);
        let directory = self.directory.display().to_string().replace('%', "%25").replace('/', "%2F");
        format!("{}{directory}{}", &self.url[..start], &self.url[end..])
    }

    pub fn port(&self) -> Result<u16> {
        let (_, end) = host_in(&self.url);
        let port: String = self.url[end..].chars().skip(1).take_while(char::is_ascii_digit).collect();
        port.parse().context("an address without a port")
    }

    /// Stops the server and removes what it wrote.
    pub async fn stop(mut self) -> Result<()> {
        drop(self.pipe.take());
        let status = self.guard.wait().await?;
        if !status.success() {
            bail!("PostgreSQL did not stop cleanly ({status})");
        }
        Ok(())
    }

    async fn ready(&mut self) -> Result<(String, PathBuf)> {
        let mut line = String::new();
        self.said.read_line(&mut line).await?;
        let report: Value = serde_json::from_str(&line).context("the guard ended without a word")?;
        match (report["Ready"]["url"].as_str(), report["Failed"].as_str()) {
            (Some(url), _) => {
                let directory = report["Ready"]["directory"].as_str().context("a server without a directory")?;
                Ok((url.to_owned(), directory.into()))
            }
            (None, why) => bail!("PostgreSQL did not start: {}", why.unwrap_or("no reason was given")),
        }
    }
}

/// The guard's command line.
fn guard() -> Result<Vec<String>> {
    let command = host::env::var(GUARD).with_context(|| format!("{GUARD} is not set; `cargo xtask chaos` sets it"))?;
    serde_json::from_str(&command).with_context(|| format!("{GUARD} is no list"))
}

/// Where the host stands in an address with a login and a port.
fn host_in(url: &str) -> (usize, usize) {
    let start = url.rfind('@').map_or(0, |at| at + 1);
    (start, url[start..].find(':').map_or(url.len(), |at| start + at))
}
