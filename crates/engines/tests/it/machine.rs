//! What the tests know about the machine: where the binary is, and which processes of a tree are alive.

use engines::spec::{Limits, Stream};
use engines::{Containment, Exit, Launch, Supervised, supervisor};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub(crate) const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// A tree's temporary place: an attempt directory, a working directory, a mark in its environment.
pub(crate) struct Place {
    dir: tempfile::TempDir,
    mark: String,
}

impl Place {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("work")).unwrap();
        Self { dir, mark: format!("PILOTHOUSE_TEST_MARK={}", host::random::base62(20)) }
    }

    pub(crate) fn attempt(&self) -> PathBuf {
        self.dir.path().join("attempt")
    }

    pub(crate) fn work(&self) -> PathBuf {
        self.dir.path().join("work")
    }

    pub(crate) fn argv(&self, argv: &[&str]) -> Launch {
        let argv = argv.iter().map(|&arg| arg.to_owned()).collect();
        let mut launch = Launch::new(self.attempt(), argv, self.work());
        let (name, value) = self.mark.split_once('=').unwrap();
        launch.env = vec![("PATH".into(), PATH.into()), (name.into(), value.into())];
        launch.limits = Limits::default().kill_grace(Duration::from_secs(2));
        launch
    }

    pub(crate) fn sh(&self, script: &str) -> Launch {
        self.argv(&["sh", "-c", script])
    }

    /// The living processes of this place's tree, wherever they have fled to.
    pub(crate) fn alive(&self) -> Vec<String> {
        let mut alive = Vec::new();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let environ = std::fs::read(entry.path().join("environ")).unwrap_or_default();
            if environ.split(|&byte| byte == 0).any(|var| var == self.mark.as_bytes()) {
                let cmdline = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
                alive.push(String::from_utf8_lossy(&cmdline).replace('\0', " "));
            }
        }
        alive
    }

    pub(crate) fn output(&self) -> String {
        self.stream(Stream::Output)
    }

    pub(crate) fn stream(&self, stream: Stream) -> String {
        let chunk = engines::spool::read(&self.attempt(), stream, 0, 10 << 20).unwrap();
        String::from_utf8_lossy(&chunk.bytes).into_owned()
    }
}

pub(crate) async fn start(launch: Launch) -> Supervised {
    supervisor::start(&binary(), launch).await.unwrap()
}

pub(crate) async fn run(launch: Launch) -> Exit {
    start(launch).await.wait().await.unwrap()
}

/// The example that stands for the product's binary; `cargo test` builds it beside the tests.
pub(crate) fn binary() -> PathBuf {
    let test = host::process::current_exe().unwrap();
    let binary = test.parent().and_then(Path::parent).unwrap().join("examples/supervise");
    assert!(binary.exists(), "{} is missing: run all targets, or `cargo build --examples` first", binary.display());
    binary
}

/// The strongest containment that this machine allows, found out without the code under test.
pub(crate) async fn strongest_here() -> Containment {
    for user in ["--pid", "--user --map-root-user --pid"] {
        let args = user.split(' ').chain(["--fork", "true"]);
        let command = host::process::Command::new("unshare").args(args);
        if host::process::run(command).await.unwrap().status.success() {
            return Containment::PidNamespace;
        }
    }
    eprintln!("this machine allows no PID namespace: testing the weaker containment only");
    Containment::Subreaper
}

/// Waits until something is so; a minute is for ever.
pub(crate) async fn until(what: &str, condition: impl Fn() -> bool) {
    let started = host::clock::monotonic();
    while !condition() {
        assert!(elapsed(started) < Duration::from_secs(60), "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

pub(crate) fn elapsed(since: Instant) -> Duration {
    host::clock::monotonic().saturating_duration_since(since)
}
