//! The tree itself: started, told to end, ended, under whichever containment is in force.

use super::confine::{Confinement, Fence};
use super::forward::Forwarder;
use super::init::{self, Line, NotStarted};
use super::layout::unavailable;
use crate::exit::{LaunchFailure, LaunchFailureKind};
use crate::spec::Spec;
use host::contain::cgroup::Cgroup;
use host::contain::{self, Containment, Pid, Signal, Spawn};
use host::process::Status;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

/// How long to go on looking for processes that will not die.
const PATIENCE: Duration = Duration::from_secs(10);
/// How much of bubblewrap's own complaints is read.
const MAX_COMPLAINT: u64 = 4096;

pub(super) struct Tree {
    kind: Kind,
    containment: Containment,
    cgroup: Option<Cgroup>,
    forwarder: Option<Forwarder>,
}

enum Kind {
    /// The first process of a namespace keeps it; when that process is gone, so is everything. `child` is what we reap
    /// when that has happened: the first process itself, or what bubblewrap left outside to wait for it.
    Namespace { first: Pid, child: Pid, line: Line },
    /// The program and whatever it started, found by walking the tree.
    Processes { leader: Pid },
}

/// The end of a tree.
#[derive(Clone, Copy)]
pub(super) struct Ended {
    pub(super) status: Option<Status>,
    pub(super) all_gone: bool,
    /// Whether something of it was killed because the tree had no memory left.
    pub(super) out_of_memory: bool,
}

impl Tree {
    pub(super) fn start(
        spec: &Spec,
        confinement: Confinement,
        stdout: &OwnedFd,
        stderr: &OwnedFd,
    ) -> Result<Self, LaunchFailure> {
        let Confinement { fence, containment, cgroup, ceilings, program, forwarder, listener } = confinement;
        if let (Some(forwarder), Some(listener), Some(broker)) = (&forwarder, &listener, &spec.broker) {
            let served = forwarder.serve(&[listener.as_fd()], &super::forward::targets(spec, &[broker.listen]));
            served.map_err(|error| refused(spec, &error))?;
        }
        drop(listener);
        let start = || match (&fence, containment) {
            (Fence::Bubblewrap { .. } | Fence::Native { .. }, _) | (Fence::Open, Containment::PidNamespace) => {
                let setup = fence.setup(spec, program.clone(), ceilings);
                start_keeper(spec, &fence, &setup, stdout, stderr, forwarder.as_ref())
            }
            (Fence::Open, _) => {
                let spawn = Spawn {
                    env: Some(spec.env.iter().map(|(n, v)| (n.into(), v.into())).collect()),
                    cwd: Some(spec.cwd.clone()),
                    stdout: Some(stdout.try_clone().map_err(|error| refused(spec, &error))?),
                    stderr: Some(stderr.try_clone().map_err(|error| refused(spec, &error))?),
                    dies_with_parent: true,
                    ceilings,
                    ..Spawn::new(program.clone(), spec.argv.iter().map(OsString::from).collect())
                };
                let leader = contain::spawn(spawn).map_err(|error| refused(spec, &error))?;
                Ok(Kind::Processes { leader })
            }
        };
        let started = match &cgroup {
            Some(group) => group
                .inside(start)
                .unwrap_or_else(|error| Err(unavailable(format!("cannot use the control group: {error}")))),
            None => start(),
        };
        match started {
            Ok(kind) => Ok(Self { kind, containment, cgroup, forwarder }),
            Err(failure) => {
                // What had begun is a child of ours; nothing of it may stay.
                contain::kill_descendants(None, PATIENCE);
                if let Some(group) = cgroup {
                    group.remove();
                }
                Err(failure)
            }
        }
    }

    /// Asks every process of the tree to end.
    pub(super) fn terminate(&self) {
        match &self.kind {
            Kind::Namespace { first, .. } => contain::signal(*first, Signal::TERM),
            Kind::Processes { leader } => {
                match self.containment {
                    Containment::ProcessGroup => contain::signal_group(*leader, Signal::TERM),
                    Containment::PidNamespace
                    | Containment::Subreaper
                    | Containment::CgroupV2
                    | Containment::CgroupV1 => {
                        self.processes().into_iter().for_each(|pid| contain::signal(pid, Signal::TERM));
                    }
                }
                // A stopped process would learn of it only when it is too late.
                contain::signal_group(*leader, Signal::CONT);
            }
        }
    }

    /// Ends every process of the tree; [`Tree::poll`] tells when that is done.
    pub(super) fn kill(&self) {
        match &self.kind {
            Kind::Namespace { first, .. } => init::kill(*first),
            Kind::Processes { leader } => {
                if let Some(group) = &self.cgroup {
                    group.kill();
                }
                // The rest follows when the leader has been reaped.
                contain::signal(*leader, Signal::KILL);
            }
        }
    }

    /// Reaps what has ended; answers once nothing of the tree is left.
    pub(super) fn poll(&mut self) -> Option<Ended> {
        while let Some((pid, status)) = contain::reap() {
            match &mut self.kind {
                // The kernel lets its parent see the first process end only after everybody else in there has.
                Kind::Namespace { first, child, line } if pid == *child => {
                    let outlived = first != child;
                    let status = line.read_end();
                    let all_gone = !outlived || self.kill_rest(None);
                    return Some(self.end(status, all_gone));
                }
                Kind::Processes { leader } if pid == *leader => {
                    let leader = *leader;
                    let all_gone = self.kill_rest(Some(leader));
                    return Some(self.end(Some(status), all_gone));
                }
                Kind::Namespace { .. } | Kind::Processes { .. } => {}
            }
        }
        None
    }

    fn processes(&self) -> Vec<Pid> {
        let mut found = contain::descendants();
        if let Some(group) = &self.cgroup {
            found.extend(group.processes().into_iter().filter(|pid| !found.contains(pid)).collect::<Vec<_>>());
        }
        found
    }

    fn kill_rest(&self, group: Option<Pid>) -> bool {
        if let Some(forwarder) = &self.forwarder {
            forwarder.stop();
        }
        let killed = contain::kill_descendants(group, PATIENCE);
        let Some(group) = &self.cgroup else { return killed };
        // Whoever is still in the group is not below us: it found another parent.
        for _ in 0..1000 {
            if group.processes().is_empty() {
                return killed;
            }
            group.kill();
            while contain::reap().is_some() {}
            std::thread::sleep(Duration::from_millis(1));
        }
        false
    }

    fn end(&mut self, status: Option<Status>, all_gone: bool) -> Ended {
        if let Some(forwarder) = &self.forwarder {
            forwarder.stop();
        }
        let out_of_memory = self.cgroup.as_ref().and_then(Cgroup::memory_kills).is_some_and(|kills| kills > 0);
        if let Some(group) = self.cgroup.take() {
            group.remove();
        }
        Ended { status, all_gone, out_of_memory }
    }
}

/// Starts the first process of a namespace and, through it, the program.
fn start_keeper(
    spec: &Spec,
    fence: &Fence,
    setup: &init::Setup,
    stdout: &OwnedFd,
    stderr: &OwnedFd,
    forwarder: Option<&Forwarder>,
) -> Result<Kind, LaunchFailure> {
    let system = |error: std::io::Error| refused(spec, &error);
    let (mut line, stdin) = Line::new().map_err(system)?;
    let keeper = fence.spawn_keeper(stdin).map_err(system)?;
    // One that ended at once has said why.
    let _ = line.tell(setup, stdout, stderr);
    let listeners = match line.wait() {
        Ok(listeners) => listeners,
        Err(NotStarted::Refused(error)) => return Err(refused(spec, &error)),
        Err(NotStarted::Walls(why)) => return Err(unavailable(why)),
        Err(NotStarted::Silent) => return Err(keeper.explain()),
    };
    if let (Some(forwarder), false) = (forwarder, setup.listen.is_empty()) {
        let open: Vec<BorrowedFd<'_>> = listeners.iter().map(AsFd::as_fd).collect();
        let served = forwarder.serve(&open, &super::forward::targets(spec, &setup.listen));
        served.map_err(|error| unavailable(format!("cannot forward to the endpoints: {error}")))?;
    }
    let (first, child) = keeper.processes()?;
    Ok(Kind::Namespace { first, child, line })
}

/// A first process that was started.
pub(super) struct Keeper {
    pub(super) child: Pid,
    /// Where bubblewrap tells the first process's id, and what else it has to say.
    pub(super) bubblewrap: Option<(OwnedFd, OwnedFd)>,
}

impl Keeper {
    fn processes(self) -> Result<(Pid, Pid), LaunchFailure> {
        let Some((info, _)) = self.bubblewrap else { return Ok((self.child, self.child)) };
        #[derive(serde::Deserialize)]
        struct Info {
            #[serde(rename = "child-pid")]
            child_pid: i32,
        }
        // It is written before the program starts, and the program runs.
        let info: Option<Info> = serde_json::from_slice(&read_some(info)).ok();
        let first = info.and_then(|info| Pid::from_raw(info.child_pid));
        let first = first.ok_or_else(|| unavailable("bubblewrap did not tell which process is the first inside"))?;
        Ok((first, self.child))
    }

    fn explain(self) -> LaunchFailure {
        let Some((_, complaint)) = self.bubblewrap else {
            return unavailable("the first process of its namespace ended before it started anything");
        };
        contain::wait_readable(&[complaint.as_fd()], Duration::from_secs(1));
        let said = host::text::one_line(read_some(complaint), 400);
        unavailable(format!("bubblewrap cannot make the sandbox here: {said}"))
    }
}

/// What is in a pipe now.
fn read_some(pipe: OwnedFd) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A pipe that is still open ends with "would block", after everything was read.
    let _ = File::from(pipe).take(MAX_COMPLAINT).read_to_end(&mut bytes);
    bytes
}

pub(super) fn locate(spec: &Spec) -> Result<PathBuf, LaunchFailure> {
    let failure = |kind, message| Err(LaunchFailure { kind, message });
    if !host::fs::is_dir(&spec.cwd) {
        let message = format!("the working directory {} does not exist", spec.cwd.display());
        return failure(LaunchFailureKind::DirectoryNotFound, message);
    }
    let Some(name) = spec.argv.first().filter(|name| !name.is_empty()) else {
        return failure(LaunchFailureKind::ProgramNotFound, "there is no program to run".to_owned());
    };
    // The last value wins, as it does when the program itself looks.
    let path = spec.env.iter().rev().find(|(name, _)| name == "PATH").map(|(_, value)| value.as_str());
    match host::process::find_program(OsStr::new(name), path.map(OsStr::new), Some(&spec.cwd)) {
        Some(program) => Ok(program),
        None if name.contains('/') => {
            failure(LaunchFailureKind::ProgramNotFound, format!("there is no program {name}"))
        }
        None => {
            let path = path.unwrap_or(host::process::DEFAULT_PATH);
            failure(LaunchFailureKind::ProgramNotFound, format!("there is no program {name} in {path}"))
        }
    }
}

fn refused(spec: &Spec, error: &std::io::Error) -> LaunchFailure {
    let program = spec.argv.first().map_or("", String::as_str);
    LaunchFailure {
        kind: LaunchFailureKind::ProgramRefused,
        message: format!("the system refuses to run {program}: {error}"),
    }
}
