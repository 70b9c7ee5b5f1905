//! A machine in small for one probe: a data directory, a person's home, services that listen, a process that is busy,
//! and secrets in all of them.

use crate::machine::{PATH, binary};
use engines::spec::{Isolation, Limits};
use engines::{Launch, Profile, Sandbox};
use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

pub(super) struct World {
    dir: tempfile::TempDir,
    shared: tempfile::TempDir,
    /// What every secret contains.
    canary: String,
    victim: engines::Supervised,
    victim_pid: u32,
    api: u16,
    api6: Option<u16>,
    udp: u16,
    ended: Arc<AtomicBool>,
}

/// By what a sandbox is made; `None` is without bubblewrap.
pub(super) type How = Option<PathBuf>;

pub(super) enum Fence {
    None,
    Profile(Profile, How),
}

pub(super) struct Seen {
    pub(super) reached: bool,
    pub(super) output: String,
}

/// Every way to make a sandbox that this machine has; at least one, or the test fails.
pub(super) async fn means_here() -> Vec<How> {
    let bubblewrap = engines::sandbox::find_bubblewrap().await;
    let mut means = Vec::new();
    match bubblewrap {
        Ok(found) => means.push(Some(found.program)),
        Err(error) => panic!("these tests need bubblewrap (Debian: apt-get install bubblewrap): {error}"),
    }
    if host::contain::have_walls() {
        means.push(None);
    } else {
        eprintln!("this kernel has no Landlock: what is done without bubblewrap is not tested here");
    }
    means
}

impl World {
    pub(super) async fn new() -> Self {
        // Not below /tmp, which is empty in a sandbox whether or not anything else is hidden.
        let root = Path::new(env!("CARGO_TARGET_TMPDIR"));
        std::fs::create_dir_all(root).unwrap();
        let dir = tempfile::tempdir_in(root).unwrap();
        let shared = tempfile::tempdir_in("/tmp").unwrap();
        let canary = format!("canary{}", host::random::base62(24));
        let write = |path: PathBuf| {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, format!("{canary}\n")).unwrap();
        };
        for file in SECRETS {
            write(dir.path().join(file));
        }
        write(shared.path().join("kept"));
        for directory in ["data/attempts/own/home", "data/mirrors/1.git/hooks", "data/worktrees/own/.claude"] {
            std::fs::create_dir_all(dir.path().join(directory)).unwrap();
        }
        std::fs::write(dir.path().join("data/worktrees/own/README.md"), "read me\n").unwrap();
        let ended = Arc::new(AtomicBool::new(false));
        let api = listen("127.0.0.1:0", &canary, &ended).unwrap();
        let api6 = listen("[::1]:0", &canary, &ended);
        let udp = answer_packets(&canary, &ended);
        let abstract_name = SocketAddr::from_abstract(&canary);
        for listener in [
            UnixListener::bind(dir.path().join("data/attempts/other/c.sock")).unwrap(),
            UnixListener::bind(dir.path().join("home/docker.sock")).unwrap(),
            UnixListener::bind_addr(&abstract_name).unwrap(),
        ] {
            answer_sockets(listener, &canary, &ended);
        }
        let (victim, victim_pid) = start_victim(dir.path(), &canary).await;
        Self { dir, shared, canary, victim, victim_pid, api, api6, udp, ended }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(super) async fn run(self, script: &str, fence: &Fence) -> Seen {
        let own = self.path("data/attempts/own");
        let mut launch =
            Launch::new(&own, vec!["sh".into(), "-c".into(), script.into()], self.path("data/worktrees/own"));
        // Without the random part of the name, which would look like the secret itself.
        let text = |name: &str| self.path(name).to_string_lossy().into_owned();
        launch.env = [
            ("PATH", format!("{PATH}:/usr/sbin:/sbin")),
            ("HOME", text("data/attempts/own/home")),
            ("DATA", text("data")),
            ("OWN", text("data/attempts/own")),
            ("OTHER", text("data/worktrees/other")),
            ("USERHOME", text("home")),
            ("SHARED", self.shared.path().to_string_lossy().into_owned()),
            ("VICTIM", self.victim_pid.to_string()),
            ("API", format!("127.0.0.1:{}", self.api)),
            ("APIHEX", format!("{:04X}", self.api)),
            ("API6", self.api6.map_or_else(|| format!("127.0.0.1:{}", self.api), |port| format!("[::1]:{port}"))),
            ("UDP", format!("127.0.0.1:{}", self.udp)),
            // The name of the socket is the secret's first letters backwards, so that knowing it proves nothing.
            ("ABSTRACT", SocketAddr::name_of(&self.canary)),
            ("REACH", format!("{} reach", binary().display())),
            ("CONTROL", if matches!(fence, Fence::None) { "1".into() } else { String::new() }),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec();
        launch.limits = Limits::default().wall(Duration::from_secs(60)).kill_grace(Duration::ZERO);
        match fence {
            Fence::None => launch.isolation = Isolation::SharedProcesses,
            Fence::Profile(profile, bubblewrap) => {
                let mut sandbox = Sandbox::new(*profile, self.path("data/attempts/own/home"));
                sandbox.bubblewrap.clone_from(bubblewrap);
                sandbox.hidden = vec![self.path("data")];
                sandbox.readable = vec![binary()];
                launch.sandbox = Some(sandbox);
            }
        }
        let nonce = launch.nonce.clone();
        // A control may have taken the socket away before we could connect to it.
        let _supervised = engines::supervisor::start(&binary(), launch).await;
        crate::machine::until("the probe has ended", || engines::exit::read(&own, &nonce).is_ok()).await;
        let exit = engines::exit::read(&own, &nonce).unwrap();
        let output = engines::spool::read(&own, engines::spec::Stream::Output, 0, 1 << 20).unwrap();
        let output = String::from_utf8_lossy(&output.bytes).into_owned();
        let started = matches!(exit.outcome, engines::Outcome::Exited { .. } | engines::Outcome::Signaled { .. });
        assert!(started, "{script}: {:?} {output}", exit.outcome);
        let reached = output.contains(&self.canary) || output.contains("REACHED") || self.is_changed();
        self.ended.store(true, Ordering::Relaxed);
        self.victim.stop("the probe is over", Some(Duration::ZERO)).await.unwrap();
        self.victim.wait().await.unwrap();
        Seen { reached, output: host::text::one_line(output, 300) }
    }

    /// Whether any file outside of home holds what a probe writes.
    fn is_changed(&self) -> bool {
        let mut changed = false;
        for root in [self.dir.path(), self.shared.path()] {
            let home = self.path("data/attempts/own/home");
            let _ = host::fs::walk(root, |path, kind| {
                let path = root.join(path);
                if path == home {
                    return host::fs::Step::Skip;
                }
                // The worktree's own files are what a workspace is for; those of agents and git are not.
                let is_file = kind == host::fs::Kind::File;
                if is_file && std::fs::read_to_string(&path).is_ok_and(|text| text.contains("pwned")) {
                    changed = true;
                }
                host::fs::Step::Enter
            });
        }
        changed
    }
}

const SECRETS: [&str; 17] = [
    "data/admin.token",
    "data/endpoint.json",
    "data/pilothouse.db",
    "data/attempts/other/stdout",
    "data/attempts/other/supervise.json",
    "data/worktrees/other/secret.txt",
    "data/worktrees/own/.claude/settings.json",
    "data/worktrees/own/CLAUDE.md",
    "data/mirrors/1.git/config",
    "home/.ssh/id_ed25519",
    "home/.netrc",
    "home/.aws/credentials",
    "home/.claude/.credentials.json",
    "home/.codex/auth.json",
    "home/.config/gh/hosts.yml",
    "home/.bash_history",
    "home/.bashrc",
];

/// A process with a secret in its environment, its arguments, its open files and its working directory.
async fn start_victim(dir: &Path, canary: &str) -> (engines::Supervised, u32) {
    let script = "exec 3<admin.token; echo $$ > $PIDFILE; sleep 600; :";
    let mut launch = Launch::new(dir.join("victim"), Vec::new(), dir.join("data"));
    launch.argv = ["sh", "-c", script, canary].map(Into::into).to_vec();
    let pid_file = dir.join("victim-pid");
    launch.env = vec![
        ("PATH".into(), PATH.into()),
        ("SECRET".into(), canary.into()),
        ("PIDFILE".into(), pid_file.to_string_lossy().into_owned()),
    ];
    launch.isolation = Isolation::SharedProcesses;
    let victim = crate::machine::start(launch).await;
    crate::machine::until("the victim is there", || {
        std::fs::read_to_string(&pid_file).is_ok_and(|text| text.ends_with('\n'))
    })
    .await;
    let pid = std::fs::read_to_string(&pid_file).unwrap().trim().parse().unwrap();
    (victim, pid)
}

fn listen(address: &str, canary: &str, ended: &Arc<AtomicBool>) -> Option<u16> {
    let listener = TcpListener::bind(address).ok()?;
    let port = listener.local_addr().unwrap().port();
    listener.set_nonblocking(true).unwrap();
    serve(ended, canary, move || listener.accept().map(|(stream, _)| Box::new(stream) as Box<dyn Talk>));
    Some(port)
}

fn answer_sockets(listener: UnixListener, canary: &str, ended: &Arc<AtomicBool>) {
    listener.set_nonblocking(true).unwrap();
    serve(ended, canary, move || listener.accept().map(|(stream, _)| Box::new(stream) as Box<dyn Talk>));
}

fn answer_packets(canary: &str, ended: &Arc<AtomicBool>) -> u16 {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let (canary, ended, port) = (canary.to_owned(), Arc::clone(ended), socket.local_addr().unwrap().port());
    std::thread::spawn(move || {
        while !ended.load(Ordering::Relaxed) {
            if let Ok((_, from)) = socket.recv_from(&mut [0; 512]) {
                let _ = socket.send_to(canary.as_bytes(), from);
            }
        }
    });
    port
}

/// Answers whoever connects with the secret.
fn serve(ended: &Arc<AtomicBool>, canary: &str, accept: impl Fn() -> std::io::Result<Box<dyn Talk>> + Send + 'static) {
    let (canary, ended) = (canary.to_owned(), Arc::clone(ended));
    std::thread::spawn(move || {
        while !ended.load(Ordering::Relaxed) {
            match accept() {
                Ok(mut stream) => {
                    // Read first: what is left unread would take the answer with it.
                    let _ = stream.read(&mut [0; 512]);
                    let _ = stream.write_all(canary.as_bytes());
                }
                Err(_) => std::thread::sleep(Duration::from_millis(2)),
            }
        }
    });
}

trait Talk: std::io::Read + std::io::Write {}
impl<T: std::io::Read + std::io::Write> Talk for T {}

trait Abstract: Sized {
    fn name_of(canary: &str) -> String;
    fn from_abstract(canary: &str) -> Self;
}

impl Abstract for SocketAddr {
    fn name_of(canary: &str) -> String {
        format!("pilothouse-{}", canary.chars().rev().take(12).collect::<String>())
    }

    fn from_abstract(canary: &str) -> Self {
        use std::os::linux::net::SocketAddrExt;
        Self::from_abstract_name(Self::name_of(canary)).unwrap()
    }
}
