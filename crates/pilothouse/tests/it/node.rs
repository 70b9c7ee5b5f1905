//! One process of several over a PostgreSQL of the test's own.
#![expect(clippy::disallowed_methods, reason = "these tests drive the product from outside, as its users do")]

use std::{
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use testkit::database::{Database, URL};

use crate::house::{House, block_on, signal};

const PATIENCE: Duration = Duration::from_secs(30);

/// A process of the product, killed at the latest when the test ends, whether it stands still or not.
pub(crate) struct Node {
    child: Child,
    log: PathBuf,
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Node {
    /// Starts the product with `args` in a house, with `environment` on top of the house's own.
    pub(crate) fn start(house: &House, name: &str, args: &[&str], environment: &[(&str, &str)]) -> Self {
        let log = house.path().join(format!("{name}.log"));
        let child = house
            .command(args)
            .envs(environment.iter().copied())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        Self { child, log }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Stops the process where it is; it is still there and holds whatever it held.
    pub(crate) fn freeze(&self, house: &House) {
        signal(self.child.id(), "STOP");
        let status = format!("/proc/{}/stat", self.child.id());
        house.wait_for("the worker to stand still", |_| {
            let stat = std::fs::read_to_string(&status).unwrap_or_default();
            stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T'))
        });
    }

    pub(crate) fn thaw(&self) {
        signal(self.child.id(), "CONT");
    }

    /// `kill -9`: nothing is said, nothing is finished.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, without waiting for what follows.
    pub(crate) fn tell_to_stop(&self) {
        signal(self.child.id(), "TERM");
    }

    /// Waits for its end; the exit code.
    pub(crate) fn ended(mut self) -> Option<i32> {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(started.elapsed() < PATIENCE, "it did not end:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// A PostgreSQL database that goes with the test.
pub(crate) struct Ledger {
    pub(crate) url: String,
    database: Option<Database>,
}

impl Drop for Ledger {
    fn drop(&mut self) {
        if let Some(database) = self.database.take() {
            // The test has failed already.
            let _ = block_on(database.drop_now());
        }
    }
}

impl Ledger {
    pub(crate) fn new() -> Self {
        let server =
            std::env::var(URL).unwrap_or_else(|_| panic!("{URL} must name a server; `cargo xtask test` starts one"));
        let database = block_on(Database::create(&server)).unwrap();
        Self { url: database.url(), database: Some(database) }
    }

    /// Its rows follow from its events. Nobody may be at work any more.
    pub(crate) fn check(mut self, house: &House) {
        let checked = house.run(&["db", "check", "--fold", "--database-url", &self.url]);
        assert_eq!(checked.code, 0, "{checked:?}");
        if let Some(database) = self.database.take() {
            block_on(database.drop_now()).unwrap();
        }
    }
}

/// Names of the processes whose working directory lies in this one.
pub(crate) fn processes_in(dir: &Path) -> Vec<String> {
    let Ok(dir) = dir.canonicalize() else { return Vec::new() };
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        if std::fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd.starts_with(&dir)) {
            let name = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            found.push(name.trim().to_owned());
        }
    }
    found
}
