//! A PostgreSQL server of a fault's own, which may be restarted: made, restarted and removed by a guard process that
//! `cargo xtask` provides, so that nothing is left behind however this program ends.

use std::{path::Path, process::Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, ChildStdin, ChildStdout, Command},
};

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
}

impl Cluster {
    pub async fn start() -> Result<Self> {
        Self::start_in(&host::fs::temporary_root()).await
    }

    /// With everything it writes beneath this directory, which every account must be able to enter.
    pub async fn start_in(dir: &Path) -> Result<Self> {
        let command =
            host::env::var(GUARD).with_context(|| format!("{GUARD} is not set; `cargo xtask chaos` sets it"))?;
        let command: Vec<String> = serde_json::from_str(&command).with_context(|| format!("{GUARD} is no list"))?;
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
        let mut cluster = Self { guard, pipe, said, url: String::new() };
        cluster.url = cluster.ready().await?;
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

    /// Stops the server and removes what it wrote.
    pub async fn stop(mut self) -> Result<()> {
        drop(self.pipe.take());
        let status = self.guard.wait().await?;
        if !status.success() {
            bail!("PostgreSQL did not stop cleanly ({status})");
        }
        Ok(())
    }

    async fn ready(&mut self) -> Result<String> {
        let mut line = String::new();
        self.said.read_line(&mut line).await?;
        let report: Value = serde_json::from_str(&line).context("the guard ended without a word")?;
        match (report["Ready"]["url"].as_str(), report["Failed"].as_str()) {
            (Some(url), _) => Ok(url.to_owned()),
            (None, why) => bail!("PostgreSQL did not start: {}", why.unwrap_or("no reason was given")),
        }
    }
}
