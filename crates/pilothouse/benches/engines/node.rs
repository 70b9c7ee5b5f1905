//! The product at work in a directory of the benchmark's own.

use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use client::Client;
use serde_json::Value;

use crate::place::EXE;

const PATIENCE: Duration = Duration::from_secs(30);

/// `pilothouse up` with an empty repository. Killed when it is dropped.
pub(crate) struct Node {
    dir: tempfile::TempDir,
    child: Child,
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Node {
    pub(crate) async fn start() -> Result<Self, String> {
        let dir = testkit::bench::fixture::directory()?;
        let root = dir.path().canonicalize().map_err(|error| error.to_string())?;
        let repository = root.join("repository");
        std::fs::create_dir(&repository).map_err(|error| error.to_string())?;
        std::fs::write(repository.join("readme.txt"), "Somebody's.\n").map_err(|error| error.to_string())?;
        for arguments in [
            vec!["init", "--quiet", "--initial-branch=main"],
            vec!["add", "--all"],
            vec!["-c", "user.name=Ada", "-c", "user.email=ada@example.org", "commit", "--quiet", "-m", "Begin"],
        ] {
            let ran = Command::new("git").args(arguments).current_dir(&repository).env("HOME", &root).status();
            ran.map_err(|error| error.to_string())?;
        }
        let log = std::fs::File::create(root.join("log")).map_err(|error| error.to_string())?;
        let child = Command::new(EXE)
            .args(["up", "--listen", "127.0.0.1:0"])
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", &root)
            .env("PILOTHOUSE_DATA_DIR", root.join("data"))
            .env("PILOTHOUSE_WORKER__ENGINE_SLOTS", "32")
            .env("PILOTHOUSE_SERVER__LIMITS__MAX_STREAMS_PER_PERSON", "64")
            .current_dir(&root)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(|error| error.to_string())?;
        let node = Self { dir, child };
        let begun = host::clock::monotonic();
        while node.endpoint().is_none() {
            if begun.elapsed() > PATIENCE {
                return Err(format!("it did not start: {}", node.log()));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(node)
    }

    fn root(&self) -> PathBuf {
        self.dir.path().canonicalize().unwrap_or_else(|_| self.dir.path().to_owned())
    }

    pub(crate) fn repository(&self) -> String {
        self.root().join("repository").display().to_string()
    }

    fn endpoint(&self) -> Option<Value> {
        let text = std::fs::read_to_string(self.root().join("data/endpoint.json")).ok()?;
        serde_json::from_str(&text).ok()
    }

    pub(crate) fn client(&self) -> Result<Client, String> {
        let endpoint = self.endpoint().ok_or("it is gone")?;
        let text = |name: &str| endpoint[name].as_str().map(str::to_owned).ok_or("the endpoint is not understood");
        let token = std::fs::read_to_string(text("token_file")?).map_err(|error| error.to_string())?;
        Client::new(&text("url")?, Some(token.trim().to_owned())).map_err(|error| error.to_string())
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.root().join("log")).unwrap_or_default()
    }
}
