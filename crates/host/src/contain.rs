//! What a supervisor asks of the kernel to keep a tree of processes together and to end all of it.
//!
//! Every function here is for a process with one thread that has just started, before any async runtime. The rules
//! (limits, deadlines, the protocol) are in `engines`; here are only the calls, each with the reason why it is safe.
#![expect(
    unsafe_code,
    reason = "namespaces, signal handlers and the moment between fork and exec have no safe interface"
)]

pub mod cgroup;
pub mod channel;
mod cover;
mod signals;
#[cfg(target_os = "linux")]
mod strays;
mod walls;

use rustix::process::WaitOptions;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use crate::process::Status;
pub use cover::{Cover, cover};
pub use rustix::process::{Pid, Signal};
pub use signals::{Caught, Signals, ignore_termination, pass_on_termination};
#[cfg(target_os = "linux")]
pub use strays::kill_strays;
pub use walls::{Walls, give_up_capabilities, have_walls, put_up_walls};

/// How surely a tree can be ended, strongest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Containment {
    /// The kernel ends the whole namespace with its first process, whatever the tree did to escape.
    #[serde(rename = "namespace", alias = "pid_namespace")]
    PidNamespace,
    /// Whatever the tree started is in its control group, and killed with it.
    CgroupV2,
    /// The same, killed one by one.
    CgroupV1,
    /// Every orphan of the tree comes back to the supervisor, which finds and ends it.
    Subreaper,
    /// Only what stayed in its process group is found.
    ProcessGroup,
}

impl Containment {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PidNamespace => "namespace",
            Self::CgroupV2 => "cgroup_v2",
            Self::CgroupV1 => "cgroup_v1",
            Self::Subreaper => "subreaper",
            Self::ProcessGroup => "process_group",
        }
    }
}

/// Closes every file but stdin, stdout and stderr.
pub fn close_inherited_files() {
    #[cfg(target_os = "linux")]
    // SAFETY: called first in `main`, so no value of this process owns a descriptor above 2 yet.
    let closed = unsafe { libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, 0u32) } == 0;
    #[cfg(not(target_os = "linux"))]
    let closed = false;
    if !closed {
        let last = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(1024).min(65_536);
        for fd in 3..i32::try_from(last).unwrap_or(1024) {
            // SAFETY: as above; closing a number that is not open is only an error code.
            unsafe { libc::close(fd) };
        }
    }
}

/// Takes a session of its own, makes new files private and writes no core files.
pub fn settle() -> io::Result<()> {
    // Whoever started us may already have done this; then we are the leader and it is refused.
    let _ = rustix::process::setsid();
    rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    let none = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
    rustix::process::setrlimit(rustix::process::Resource::Core, none)?;
    Ok(())
}

/// Makes a directory the current one, so that what lies in it has short names however long its path is.
pub fn enter_dir(path: &std::path::Path) -> io::Result<()> {
    std::env::set_current_dir(path)
}

/// From now on neither this process nor its children gain rights by running a set-uid program.
pub fn give_up_new_privileges() -> io::Result<()> {
    #[cfg(target_os = "linux")]
    rustix::thread::set_no_new_privs(true)?;
    Ok(())
}

/// Keeps processes of the same user from reading this one's memory, and with it its nonce.
pub fn hide_memory() -> io::Result<()> {
    #[cfg(target_os = "linux")]
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
    Ok(())
}

/// Which namespaces the next child is to be the first process of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Namespaces {
    /// None: something else makes them, or they are not wanted.
    None,
    /// Its own processes.
    Processes,
    /// Its own processes and shared memory, and, where `network` says so, a network with nobody else in it.
    Apart { network: bool },
}

/// Arranges the strongest containment there is for the next child, within the namespaces that are wanted.
pub fn contain_next_child(namespaces: Namespaces) -> io::Result<Containment> {
    #[cfg(target_os = "linux")]
    {
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
        if namespaces != Namespaces::None && enter_namespaces(namespaces)? {
            return Ok(Containment::PidNamespace);
        }
        Ok(Containment::Subreaper)
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = namespaces;
        Ok(Containment::ProcessGroup)
    }
}

/// Makes the next child the first process of namespaces; `false` where this process may not.
#[cfg(target_os = "linux")]
fn enter_namespaces(namespaces: Namespaces) -> io::Result<bool> {
    use rustix::thread::{UnshareFlags, unshare_unsafe};
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let mut flags = UnshareFlags::NEWPID;
    if let Namespaces::Apart { network } = namespaces {
        flags |= UnshareFlags::NEWIPC;
        flags.set(UnshareFlags::NEWNET, network);
    }
    // SAFETY: no descriptor table is unshared, and there is one thread only.
    if unsafe { unshare_unsafe(flags) }.is_ok() {
        return Ok(true);
    }
    // SAFETY: as above. The call takes all namespaces or none, so a refusal leaves us as we were.
    if unsafe { unshare_unsafe(UnshareFlags::NEWUSER | flags) }.is_err() {
        return Ok(false);
    }
    // The child keeps its own uid and gid; everybody else's are shown as nobody's.
    std::fs::write("/proc/self/setgroups", "deny")?;
    std::fs::write("/proc/self/uid_map", format!("{uid} {uid} 1"))?;
    std::fs::write("/proc/self/gid_map", format!("{gid} {gid} 1"))?;
    Ok(true)
}

/// Whom the system kills first when memory runs out: the tree, rather than what holds it or what it works for.
#[derive(Debug)]
pub struct OomPreference {
    own: Option<(File, String)>,
}

impl OomPreference {
    /// Makes what this process starts from now on a likelier victim, until [`OomPreference::restore`].
    pub fn prefer_children() -> Self {
        // A machine without the file, or that does not let us, has no such preference.
        let open = || {
            let path = "/proc/self/oom_score_adj";
            let before = std::fs::read_to_string(path).ok()?;
            let file = File::options().write(true).open(path).ok()?;
            let raised = before.trim().parse::<i32>().ok()?.saturating_add(500).min(1000);
            (&file).write_all(raised.to_string().as_bytes()).ok()?;
            Some((file, before))
        };
        Self { own: open() }
    }

    /// Makes this process as unlikely a victim as it was.
    pub fn restore(self) {
        if let Some((mut file, before)) = self.own {
            let _ = file.write_all(before.as_bytes());
        }
    }
}

/// A child of a supervisor.
#[derive(Debug)]
pub struct Spawn {
    /// A path; nothing is looked up.
    pub program: PathBuf,
    /// All arguments, the zeroth included.
    pub argv: Vec<OsString>,
    /// All of its environment; `None` hands on this process's own.
    pub env: Option<Vec<(OsString, OsString)>>,
    pub cwd: Option<PathBuf>,
    /// `None` is an empty stdin, and this process's own stdout and stderr.
    pub stdin: Option<OwnedFd>,
    pub stdout: Option<OwnedFd>,
    pub stderr: Option<OwnedFd>,
    /// Whether it is killed when this process dies. Only for a process with one thread: "parent" means that thread.
    pub dies_with_parent: bool,
    /// Whether it sees a `/proc` of its own namespace.
    pub first_of_namespace: bool,
    /// Whether it keeps the rights over its namespaces until it gives them up.
    pub keeps_rights: bool,
    pub ceilings: Ceilings,
}

/// What each process may use up by itself, where nothing limits the tree as a whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Ceilings {
    pub data_bytes: Option<u64>,
    /// Of all processes of the same user in the same namespace.
    pub processes: Option<u64>,
}

impl Ceilings {
    fn put_up(self) -> io::Result<()> {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        for (resource, limit) in [(Resource::Data, self.data_bytes), (Resource::Nproc, self.processes)] {
            let Some(limit) = limit else { continue };
            // A limit that was lower before stays as it is.
            let limit = getrlimit(resource).maximum.map_or(limit, |before| before.min(limit));
            setrlimit(resource, Rlimit { current: Some(limit), maximum: Some(limit) })?;
        }
        Ok(())
    }
}

impl Spawn {
    /// A child with this process's environment and directory, no stdin, and nothing special about it.
    pub fn new(program: PathBuf, argv: Vec<OsString>) -> Self {
        Self {
            program,
            argv,
            env: None,
            cwd: None,
            stdin: None,
            stdout: None,
            stderr: None,
            dies_with_parent: false,
            first_of_namespace: false,
            keeps_rights: false,
            ceilings: Ceilings::default(),
        }
    }
}

/// Starts a child in a session of its own.
pub fn spawn(spawn: Spawn) -> io::Result<Pid> {
    let mut command = std::process::Command::new(&spawn.program);
    let mut argv = spawn.argv.into_iter();
    if let Some(arg0) = argv.next() {
        command.arg0(arg0);
    }
    command.args(argv);
    if let Some(env) = spawn.env {
        command.env_clear().envs(env);
    }
    if let Some(cwd) = &spawn.cwd {
        command.current_dir(cwd);
    }
    command.stdin(spawn.stdin.map_or_else(Stdio::null, Stdio::from));
    command.stdout(spawn.stdout.map_or_else(Stdio::inherit, Stdio::from));
    command.stderr(spawn.stderr.map_or_else(Stdio::inherit, Stdio::from));
    let (dies, first, keeps, ceilings) =
        (spawn.dies_with_parent, spawn.first_of_namespace, spawn.keeps_rights, spawn.ceilings);
    // SAFETY: the closure only makes system calls on constants and memory of its own; it allocates nothing and takes no
    // lock, so it may run between fork and exec.
    unsafe {
        command.pre_exec(move || {
            rustix::process::setsid()?;
            if dies {
                die_with_parent()?;
            }
            if first {
                cover_proc();
            }
            if keeps {
                keep_rights()?;
            }
            ceilings.put_up()
        });
    }
    let child = command.spawn()?;
    pid(child.id())
}

/// Carries what a process may do in its namespaces over to the program it runs next.
fn keep_rights() -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        use rustix::thread::{CapabilitySet, capabilities, configure_capability_in_ambient_set, set_capabilities};
        let mut sets = capabilities(None)?;
        let kept = CapabilitySet::SYS_ADMIN | CapabilitySet::NET_ADMIN | CapabilitySet::SETPCAP;
        sets.inheritable |= kept;
        set_capabilities(None, sets)?;
        for capability in [CapabilitySet::SYS_ADMIN, CapabilitySet::NET_ADMIN, CapabilitySet::SETPCAP] {
            configure_capability_in_ambient_set(capability, true)?;
        }
    }
    Ok(())
}

fn die_with_parent() -> io::Result<()> {
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    Ok(())
}

/// Lets the first process of a namespace see its own `/proc`, where the environment of every other process is out of
/// sight. Where the system does not allow it the old one stays.
fn cover_proc() {
    #[cfg(target_os = "linux")]
    {
        use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
        use rustix::thread::{UnshareFlags, unshare_unsafe};
        // Without our own mount namespace, cut off from its parent, we would cover everybody's.
        // SAFETY: no descriptor table is unshared.
        let own_mounts = unsafe { unshare_unsafe(UnshareFlags::NEWNS) }.is_ok()
            && mount_change(c"/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC).is_ok();
        if own_mounts {
            let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
            let _ = mount(c"proc", c"/proc", c"proc", flags, None);
        }
    }
}

/// Gives a child a session of its own.
pub(crate) fn in_own_session(command: &mut tokio::process::Command) {
    // SAFETY: the closure makes one system call and nothing else.
    unsafe {
        command.pre_exec(|| {
            rustix::process::setsid()?;
            Ok(())
        });
    }
}

/// The next child that has ended, without waiting; `None` when there is none now.
pub fn reap() -> Option<(Pid, Status)> {
    reap_with(WaitOptions::NOHANG)
}

/// The next child that ends; `None` when there is no child left.
pub fn wait_for_any() -> Option<(Pid, Status)> {
    reap_with(WaitOptions::empty())
}

fn reap_with(options: WaitOptions) -> Option<(Pid, Status)> {
    loop {
        match rustix::process::wait(options) {
            Ok(Some((pid, status))) => {
                let ended =
                    status.exit_status().map(Status::Exited).or(status.terminating_signal().map(Status::Signaled));
                if let Some(ended) = ended {
                    return Some((pid, ended));
                }
            }
            Err(rustix::io::Errno::INTR) => {}
            Ok(None) | Err(_) => return None,
        }
    }
}

/// Sends a signal to one process; that it is gone already is fine.
pub fn signal(pid: Pid, signal: Signal) {
    let _ = rustix::process::kill_process(pid, signal);
}

/// Sends a signal to a process group; that it is gone already is fine.
pub fn signal_group(leader: Pid, signal: Signal) {
    let _ = rustix::process::kill_process_group(leader, signal);
}

/// All living processes below this one, as far as the system can tell.
pub fn descendants() -> Vec<Pid> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let mut parents = Vec::new();
    for entry in entries.flatten() {
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        let Ok(stat) = std::fs::read(entry.path().join("stat")) else { continue };
        // The name in parentheses may hold anything, so fields are counted from its end.
        let Some(end) = stat.iter().rposition(|&b| b == b')') else { continue };
        let text = String::from_utf8_lossy(&stat[end + 1..]);
        let mut fields = text.split_ascii_whitespace();
        let (Some(state), Some(parent)) = (fields.next(), fields.next()) else { continue };
        if let (false, Ok(parent)) = (matches!(state, "Z" | "X"), parent.parse::<i32>()) {
            parents.push((id, parent));
        }
    }
    let mut found = vec![rustix::process::getpid().as_raw_nonzero().get()];
    let mut next = 0;
    while next < found.len() {
        let parent = found[next];
        found.extend(parents.iter().filter(|&&(_, p)| p == parent).map(|&(id, _)| id));
        next += 1;
    }
    found.into_iter().skip(1).filter_map(Pid::from_raw).collect()
}

/// How many processes and threads this process's user has.
pub fn processes_of_user() -> u64 {
    use std::os::unix::fs::MetadataExt;
    let uid = rustix::process::geteuid().as_raw();
    let Ok(entries) = std::fs::read_dir("/proc") else { return 0 };
    let own = entries.flatten().filter(|entry| entry.metadata().is_ok_and(|metadata| metadata.uid() == uid));
    own.filter_map(|entry| std::fs::read_dir(entry.path().join("task")).ok()).map(|tasks| tasks.count() as u64).sum()
}

/// Kills everything below this process until nothing is left, for at most `patience`. `group` is a process group to
/// kill as well, where descendants cannot be listed. `false` when something was still alive at the end.
pub fn kill_descendants(group: Option<Pid>, patience: Duration) -> bool {
    let started = std::time::Instant::now();
    loop {
        if let Some(group) = group {
            signal_group(group, Signal::KILL);
        }
        // Stopped first, so that what forks faster than we look is caught standing still.
        let found = descendants();
        found.iter().for_each(|&pid| signal(pid, Signal::STOP));
        let found = descendants();
        found.iter().for_each(|&pid| signal(pid, Signal::KILL));
        while reap().is_some() {}
        if found.is_empty() {
            return true;
        }
        if started.elapsed() > patience {
            return false;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Whether `/proc` is this namespace's own: then so are the mounts, among which it was mounted.
pub fn sees_own_processes() -> bool {
    is_first_process() && std::fs::read_link("/proc/self").is_ok_and(|own| own == std::path::Path::new("1"))
}

/// Whether this is the first process of a namespace.
pub fn is_first_process() -> bool {
    rustix::process::getpid().as_raw_nonzero().get() == 1
}

/// Where no sandbox is made of parts that wait for each other there is nothing to kill.
#[cfg(not(target_os = "linux"))]
pub fn kill_strays() -> usize {
    0
}

/// A file that lies nowhere and holds `bytes`; children inherit it. It is called by who made it ([`kill_strays`]).
#[cfg(target_os = "linux")]
pub fn inherited_file(bytes: &[u8]) -> io::Result<File> {
    use std::io::Seek;
    let mut file = File::from(rustix::fs::memfd_create(strays::name_of_files(), rustix::fs::MemfdFlags::empty())?);
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file)
}

/// This process's own program, open; children inherit it. It stays this one even when the file is replaced.
#[cfg(target_os = "linux")]
pub fn inherited_program() -> io::Result<File> {
    inherit(File::open("/proc/self/exe")?)
}

/// A pipe whose write end children inherit.
#[cfg(target_os = "linux")]
pub fn inherited_pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = output_pipe()?;
    Ok((reader, inherit(writer)?))
}

#[cfg(target_os = "linux")]
fn inherit<F: AsFd>(file: F) -> io::Result<F> {
    rustix::io::fcntl_setfd(&file, rustix::io::FdFlags::empty())?;
    Ok(file)
}

/// Starts the loopback device of a network that nobody has used yet.
#[cfg(target_os = "linux")]
pub fn start_loopback() -> io::Result<()> {
    use std::os::fd::AsRawFd;
    // What libc calls the type of a request differs from libc to libc, and so does the sign of a character.
    const GET_FLAGS: libc::Ioctl = libc::SIOCGIFFLAGS as libc::Ioctl;
    const SET_FLAGS: libc::Ioctl = libc::SIOCSIFFLAGS as libc::Ioctl;
    let socket = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None)?;
    // SAFETY: an interface request is plain data, for which zeros are a valid value; both calls get a pointer to it that
    // lives until they return.
    unsafe {
        let mut request: libc::ifreq = std::mem::zeroed();
        for (place, byte) in request.ifr_name.iter_mut().zip(*b"lo") {
            *place = libc::c_char::from_ne_bytes([byte]);
        }
        if libc::ioctl(socket.as_raw_fd(), GET_FLAGS, &raw mut request) < 0 {
            return Err(io::Error::last_os_error());
        }
        request.ifr_ifru.ifru_flags |= i16::try_from(libc::IFF_UP | libc::IFF_RUNNING).unwrap_or(0);
        if libc::ioctl(socket.as_raw_fd(), SET_FLAGS, &raw const request) < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// A pipe whose read end never waits: (read, write). Children inherit neither unless handed one.
pub fn output_pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = io::pipe()?;
    let (reader, writer) = (OwnedFd::from(reader), OwnedFd::from(writer));
    set_nonblocking(&reader)?;
    Ok((reader, writer))
}

/// Makes reads and writes of a descriptor return at once.
pub fn set_nonblocking(fd: impl AsFd) -> io::Result<()> {
    use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
    let flags = fcntl_getfl(&fd)?;
    fcntl_setfl(&fd, flags | OFlags::NONBLOCK)?;
    Ok(())
}

/// Takes over the descriptor that this process was given as stdin.
pub fn take_stdin() -> io::Result<File> {
    Ok(File::from(rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?))
}

/// Points stdin and stdout at nothing, so that whoever reads our stdout sees its end.
pub fn detach_stdio() -> io::Result<()> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    Ok(())
}

/// The uid at the other end of a connection; `None` where the system does not tell.
pub fn peer_uid(socket: impl AsFd) -> Option<u32> {
    #[cfg(target_os = "linux")]
    {
        rustix::net::sockopt::socket_peercred(socket).ok().map(|peer| peer.uid.as_raw())
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = socket;
        None
    }
}

/// Waits until one of the descriptors has something to say or the time is up; tells for each whether it has.
pub fn wait_readable(fds: &[BorrowedFd<'_>], timeout: Duration) -> Vec<bool> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut polled: Vec<PollFd<'_>> = fds.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
    let timeout = Timespec {
        tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(timeout.subsec_nanos()),
    };
    // An interruption is a signal, and signals have a descriptor of their own: the next round sees it.
    match poll(&mut polled, Some(&timeout)) {
        Ok(_) => polled.iter().map(|fd| !fd.revents().is_empty()).collect(),
        Err(_) => vec![false; fds.len()],
    }
}

fn pid(id: u32) -> io::Result<Pid> {
    i32::try_from(id).ok().and_then(Pid::from_raw).ok_or_else(|| io::Error::other("the child has no process id"))
}
