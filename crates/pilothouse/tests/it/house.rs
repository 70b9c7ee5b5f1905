//! A throw-away place with a real server in it.
#![expect(clippy::disallowed_methods, reason = "these tests drive the product from outside, as its users do")]

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use api::inbound::{InboundBody, InboundView};
use client::Client;
use serde_json::Value;

/// Long enough for a machine with much else to do.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) const CATALOG: &str = r#"
[job.hello]
title = "Greet {{name}}"
owner = "tests"

[job.hello.params.name]
type = "string"
pattern = "^[A-Za-z]{1,20}$"
default = "world"

[job.hello.exec]
argv = ["echo", "Hello, {{name}}!"]
timeout = "20s"

[job.hello.policy]
approve = { of = ["dev:*"], quorum = 1, distinct_from_requester = false }

[job.now]
title = "Say so at once"
owner = "tests"

[job.now.exec]
argv = ["echo", "done"]
timeout = "20s"

[job.now.policy]
approve = "none"

[job.broken]
title = "Fail"
owner = "tests"

[job.broken.exec]
argv = ["false"]
timeout = "20s"

[job.broken.policy]
approve = "none"

[job.slow]
title = "Sleep"
owner = "tests"

[job.slow.exec]
argv = ["sleep", "1000"]
timeout = "1h"

[job.slow.policy]
approve = "none"

[job.owned]
title = "Wants the owner"
owner = "tests"

[job.owned.exec]
argv = ["echo", "owned"]
timeout = "20s"

[job.owned.policy]
approve = { of = ["person:owner"], quorum = 1, distinct_from_requester = false }
"#;

/// A directory with a home, a data directory and a catalog, and perhaps a server.
#[derive(Debug)]
pub(crate) struct House {
    dir: tempfile::TempDir,
    server: Option<Child>,
}

impl Drop for House {
    fn drop(&mut self) {
        self.kill();
    }
}

impl House {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("jobs.toml"), CATALOG).unwrap();
        Self { dir, server: None }
    }

    /// With a server that takes messages of the dev channel.
    pub(crate) fn open() -> Self {
        let mut house = Self::new();
        house.start();
        house
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// The binary with nothing of this machine's user around it.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pilothouse"));
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.dir.path())
            .env("PILOTHOUSE_DATA_DIR", self.data())
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .args(args);
        command
    }

    /// Runs the command line to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        Ran::of(self.command(args).output().unwrap())
    }

    /// Runs it and expects that it goes well; what it printed, as JSON.
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        let ran = self.run(&[args, &["--json"]].concat());
        assert_eq!(ran.code, 0, "{args:?}: {ran:?}");
        serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{args:?} printed no JSON ({error}): {ran:?}"))
    }

    pub(crate) fn start(&mut self) {
        self.start_with(&["--dev-channel"]);
    }

    /// Starts `up` on a free port and waits until it answers.
    pub(crate) fn start_with(&mut self, args: &[&str]) {
        self.start_as("up", args);
    }

    /// The same with `serve`, which does nothing itself.
    pub(crate) fn start_as(&mut self, what: &str, args: &[&str]) {
        let jobs = self.dir.path().join("jobs.toml");
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.dir.path().join("log")).unwrap();
        let fixed = [what, "--listen", "127.0.0.1:0", "--jobs", jobs.to_str().unwrap()];
        let child = self.command(&[&fixed, args].concat()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let pid = u64::from(child.id());
        self.server = Some(child);
        let started = Instant::now();
        while self.endpoint().is_none_or(|endpoint| endpoint["pid"] != pid) {
            let ended = self.server.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none() && started.elapsed() < PATIENCE, "did not start:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn endpoint(&self) -> Option<Value> {
        let text = std::fs::read_to_string(self.data().join("endpoint.json")).ok()?;
        serde_json::from_str(&text).ok()
    }

    /// The first admin's token.
    pub(crate) fn token(&self) -> String {
        let endpoint = self.endpoint().expect("a server");
        std::fs::read_to_string(endpoint["token_file"].as_str().unwrap()).unwrap().trim().to_owned()
    }

    pub(crate) fn client(&self) -> Client {
        let endpoint = self.endpoint().expect("a server");
        Client::new(endpoint["url"].as_str().unwrap(), Some(self.token())).unwrap()
    }

    /// Says something on the dev channel.
    pub(crate) fn say(&self, from: &str, body: &str, id: Option<&str>) -> InboundView {
        let message = InboundBody {
            from: Some(from.to_owned()),
            conversation: Some(from.to_owned()),
            body: Some(body.to_owned()),
            provider_message_id: id.map(str::to_owned),
        };
        block_on(self.client().send_inbound(&message)).unwrap()
    }

    pub(crate) fn status(&self, run: &str) -> String {
        block_on(self.client().get_run_details(run)).unwrap().status
    }

    pub(crate) fn wait_for_status(&self, run: &str, status: &str) {
        self.wait_for(&format!("{run} to be {status}"), |house| house.status(run) == status);
    }

    pub(crate) fn wait_for(&self, what: &str, done: impl Fn(&Self) -> bool) {
        let started = Instant::now();
        while !done(self) {
            assert!(started.elapsed() < PATIENCE, "waited too long for {what}; the log says:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Names of the processes whose working directory lies in the data directory: what attempts started.
    pub(crate) fn processes(&self) -> Vec<String> {
        crate::node::processes_in(&self.data())
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// `kill -9`: nothing is said, nothing is finished.
    pub(crate) fn kill(&mut self) {
        if let Some(mut server) = self.server.take() {
            let _ = server.kill();
            let _ = server.wait();
        }
    }

    /// SIGTERM; the exit code.
    pub(crate) fn stop(&mut self) -> Option<i32> {
        let mut server = self.server.take().expect("a server");
        signal(server.id(), "TERM");
        let started = Instant::now();
        loop {
            if let Some(status) = server.try_wait().unwrap() {
                return status.code();
            }
            assert!(started.elapsed() < PATIENCE, "did not stop:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

pub(crate) fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill").args([format!("-{name}"), pid.to_string()]).status().unwrap();
    assert!(sent.success());
}

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    pub(crate) fn of(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}
