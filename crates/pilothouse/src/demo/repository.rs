//! The repository of the demo: a POSIX shell project whose test fails, and the questions that are asked of git about it.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use host::process::{self, Command, Status};

use crate::failure::{Failure, Result};

const PROGRAM: &str = "\
#!/bin/sh
# Greets whoever is named.
greet() {
    printf 'Hello %s\\n' \"$1\"
}
";

const TEST: &str = "\
#!/bin/sh
# Fails unless the greeting is polite.
. ./greet.sh
said=$(greet World)
if [ \"$said\" != 'Hello, World!' ]; then
    echo \"expected 'Hello, World!', got '$said'\" >&2
    exit 1
fi
echo 'ok: the greeting is polite'
";

const READ_ME: &str = "# greet\n\nRun `sh test.sh`.\n";

/// A real repository with one commit on `main`.
#[derive(Debug)]
pub(super) struct Repository {
    pub(super) dir: PathBuf,
    home: PathBuf,
}

impl Repository {
    pub(super) async fn create(demo: &Path) -> Result<Self> {
        let repository = Self { dir: demo.join("repository"), home: demo.join("home") };
        host::fs::create_private_dir(&repository.dir)?;
        host::fs::create_private_dir(&repository.home)?;
        for (name, text) in [("greet.sh", PROGRAM), ("test.sh", TEST), ("README.md", READ_ME)] {
            host::fs::write_atomic_with_mode(&repository.dir.join(name), text.as_bytes(), 0o644)?;
        }
        repository.git(&["init", "--quiet", "--template=", "--initial-branch=main"]).await?;
        repository.git(&["add", "--all"]).await?;
        repository.git(&["commit", "--quiet", "--message", "Greet somebody"]).await?;
        Ok(repository)
    }

    /// Runs git with nothing of the user's configuration, and gives back what it prints.
    pub(super) async fn git(&self, args: &[&str]) -> Result<String> {
        let identity = ["-c", "user.name=Demo", "-c", "user.email=demo@localhost", "-c", "commit.gpgsign=false"];
        let command = self.command("git").args(identity).args(args.iter().copied());
        let output = process::run(command).await.map_err(|error| {
            Failure::failed(crate::failure::chain(&error)).remedy("The demo needs git 2.39 or newer.")
        })?;
        if output.status != Status::Exited(0) {
            let told = host::text::one_line(&output.stderr, 300);
            return Err(Failure::failed(format!("git {}: {told}", args.first().copied().unwrap_or_default())));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs the test as it stands in the checkout: whether it passes, and what it prints.
    pub(super) async fn test(&self) -> Result<(bool, String)> {
        let output = process::run(self.command("sh").arg("test.sh"))
            .await
            .map_err(|error| Failure::failed(crate::failure::chain(&error)))?;
        let mut told = output.stdout;
        told.extend(output.stderr);
        Ok((output.status == Status::Exited(0), host::text::one_line(told, 300)))
    }

    fn command(&self, program: &str) -> Command {
        Command::new(program)
            .cwd(&self.dir)
            .env("PATH", host::env::var("PATH").unwrap_or_else(|| process::DEFAULT_PATH.to_owned()))
            .env("HOME", &self.home)
            .env("LC_ALL", "C")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_PAGER", "cat")
            .timeout(Duration::from_secs(20))
    }
}
