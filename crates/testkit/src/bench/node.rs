//! A process of the product, as the benchmark starts it: with a directory, a role and settings, killed at the end.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(30);

/// What to start.
#[derive(Clone, Debug)]
pub struct Launch<'a> {
    pub exe: &'a Path,
    /// `up`, `serve` or `work`.
    pub role: &'static str,
    /// Where its home, its data and its log lie; it has to exist, by its real path.
    pub dir: &'a Path,
    /// A PostgreSQL; a file in the directory when missing.
    pub database: Option<String>,
    pub arguments: Vec<String>,
    /// Configuration by environment, without the prefix: `SERVER__LIMITS__MAX_CONNECTIONS`.
    pub settings: Vec<(&'static str, String)>,
}

/// Killed when it is dropped.
#[derive(Debug)]
pub struct Node {
    child: Child,
    data: PathBuf,
    log: PathBuf,
}

/// Where a node listens, and with what it lets one in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub address: SocketAddr,
    pub token: String,
}

impl<'a> Launch<'a> {
    /// `up` on a free port.
    pub fn new(exe: &'a Path, role: &'static str, dir: &'a Path) -> Self {
        let listens = role != "work";
        let arguments = if listens { ["--listen", "127.0.0.1:0"].map(str::to_owned).to_vec() } else { Vec::new() };
        Self { exe, role, dir, database: None, arguments, settings: Vec::new() }
    }

    #[must_use]
    pub fn set(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.settings.push((name, value.into()));
        self
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // One that has ended by itself is only waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Node {
    pub fn start(launch: &Launch<'_>) -> Result<Self, String> {
        let (data, log) = (launch.dir.join("data"), launch.dir.join(format!("{}.log", launch.role)));
        let file = std::fs::OpenOptions::new().append(true).create(true).open(&log);
        let file = file.map_err(|error| format!("cannot open {}: {error}", log.display()))?;
        #[expect(clippy::disallowed_methods, reason = "drives the product from outside, as its users do")]
        let mut command = Command::new(launch.exe);
        command
            .arg(launch.role)
            .args(&launch.arguments)
            .env_clear()
            .env("PATH", host::env::var("PATH").unwrap_or_else(|| host::process::DEFAULT_PATH.to_owned()))
            .env("HOME", launch.dir)
            .env("PILOTHOUSE_DATA_DIR", &data)
            .envs(launch.settings.iter().map(|(name, value)| (format!("PILOTHOUSE_{name}"), value)))
            .envs(launch.database.iter().map(|url| ("PILOTHOUSE_DATABASE_URL", url)))
            .current_dir(launch.dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file);
        let child = command.spawn().map_err(|error| format!("cannot start {}: {error}", launch.exe.display()))?;
        Ok(Self { child, data, log })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it has left word of where it listens, which it does once it serves.
    pub async fn ready(&mut self) -> Result<Endpoint, String> {
        let begun = host::clock::monotonic();
        while begun.elapsed() < PATIENCE {
            if let Some(endpoint) = self.endpoint() {
                return Ok(endpoint);
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("it ended by itself ({status}): {}", self.log()));
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Err(format!("it did not start: {}", self.log()))
    }

    fn endpoint(&self) -> Option<Endpoint> {
        let text = std::fs::read(self.data.join("endpoint.json")).ok()?;
        let endpoint: Value = serde_json::from_slice(&text).ok()?;
        if endpoint["pid"] != self.pid() {
            return None;
        }
        let address = endpoint["url"].as_str()?.strip_prefix("http://")?.parse().ok()?;
        let token = std::fs::read_to_string(endpoint["token_file"].as_str()?).ok()?.trim().to_owned();
        Some(Endpoint { address, token })
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}
