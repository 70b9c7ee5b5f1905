//! Everything around a tree, decided and prepared before it starts: by which means its sandbox is made, how surely it
//! can be ended, and what it may use up.
//!
//! What was asked for and cannot be had is a refusal. Nothing here tries something wider instead.

use super::forward::Forwarder;
use super::init::{self, Setup};
use super::layout::{Layout, unavailable};
use super::tree::{self, Keeper};
use super::{bubblewrap, native};
use crate::broker::Broker;
use crate::exit::{Confined, LaunchFailure, LaunchFailureKind, Limited};
use crate::sandbox::{Means, Network, Profile, Sandbox};
use crate::spec::{Isolation, Spec};
use host::contain::cgroup::{Cgroup, SharedLimits, Version};
use host::contain::{self, Ceilings, Containment, Namespaces, Spawn};
use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

/// What is around a tree.
pub(super) struct Confinement {
    pub(super) fence: Fence,
    pub(super) containment: Containment,
    pub(super) cgroup: Option<Cgroup>,
    pub(super) ceilings: Ceilings,
    pub(super) program: PathBuf,
    pub(super) forwarder: Option<Forwarder>,
    /// The broker's, where the tree has the machine's network.
    pub(super) listener: Option<TcpListener>,
}

/// What keeps a tree from the machine.
pub(super) enum Fence {
    Open,
    Bubblewrap { program: PathBuf, sandbox: Sandbox, layout: Layout },
    Native { sandbox: Sandbox, layout: Layout },
}

impl Confinement {
    /// Prepares this process for its next child. Called once, with one thread.
    pub(super) fn prepare(spec: &Spec) -> Result<Self, LaunchFailure> {
        let program = tree::locate(spec)?;
        let fence = Fence::choose(spec, &program)?;
        let system = |error: io::Error| unavailable(format!("cannot contain the tree: {error}"));
        // Outside of every namespace that follows.
        let has_own_network = spec.sandbox.as_ref().is_some_and(|sandbox| sandbox.network != Network::Open);
        let listener = match &spec.broker {
            Some(broker) if !has_own_network => Some(listen(broker)?),
            _ => None,
        };
        let has_endpoints = matches!(&spec.sandbox, Some(Sandbox { network: Network::Endpoints(_), .. }));
        let forwarder = match has_endpoints || listener.is_some() {
            true => Some(Forwarder::start().map_err(system)?),
            false => None,
        };
        // While what this process sees and may do is still the machine's.
        let shared = SharedLimits {
            memory_bytes: spec.limits.memory_bytes,
            processes: spec.limits.processes.map(|count| count.saturating_add(fence.own_processes(spec))),
        };
        let limited = shared != SharedLimits::default();
        let name = host::random::base62(12);
        let make_group = || Cgroup::make(&name, shared);
        let mut cgroup = if limited { make_group() } else { None };
        let containment = contain::contain_next_child(fence.namespaces(spec)).map_err(system)?;
        let containment = match (&fence, containment) {
            (Fence::Bubblewrap { .. }, _) => Containment::PidNamespace,
            (Fence::Native { .. }, Containment::PidNamespace) | (Fence::Open, Containment::PidNamespace) => {
                Containment::PidNamespace
            }
            (Fence::Native { .. }, _) => {
                return Err(unavailable(
                    "without bubblewrap a sandbox needs namespaces, which this system does not give: install bubblewrap \
                     0.4 or newer, or allow user namespaces",
                ));
            }
            (Fence::Open, weaker) => {
                cgroup = cgroup.or_else(make_group);
                match cgroup.as_ref().map(Cgroup::version) {
                    Some(Version::V2) => Containment::CgroupV2,
                    Some(Version::V1) => Containment::CgroupV1,
                    None => weaker,
                }
            }
        };
        let ceilings =
            if limited && cgroup.is_none() { ceilings(spec, &fence, containment) } else { Ceilings::default() };
        Ok(Self { fence, containment, cgroup, ceilings, program, forwarder, listener })
    }

    pub(super) fn describe(&self, spec: &Spec) -> (Option<Confined>, Option<Limited>) {
        let confined = spec.sandbox.as_ref().map(|sandbox| Confined {
            profile: sandbox.profile,
            reach: sandbox.network.reach(),
            means: match self.fence {
                Fence::Bubblewrap { .. } => Means::Bubblewrap,
                Fence::Open | Fence::Native { .. } => Means::Landlock,
            },
        });
        let asked = spec.limits.memory_bytes.is_some() || spec.limits.processes.is_some();
        let limited = asked.then(|| match self.cgroup.as_ref().map(Cgroup::version) {
            Some(Version::V2) => Limited::CgroupV2,
            Some(Version::V1) => Limited::CgroupV1,
            None => Limited::Rlimits,
        });
        (confined, limited)
    }
}

/// Opens the broker's door on this machine. Only the token opens it further, whoever finds it.
fn listen(broker: &Broker) -> Result<TcpListener, LaunchFailure> {
    TcpListener::bind(broker.listen).map_err(|error| LaunchFailure {
        kind: LaunchFailureKind::Other,
        message: format!("the broker cannot listen at {}: {error}", broker.listen),
    })
}

/// Limits of each process, where the tree as a whole cannot have any.
fn ceilings(spec: &Spec, fence: &Fence, containment: Containment) -> Ceilings {
    // Counted per user of a namespace: alone in its own, or with everything else that this user runs.
    let others = match containment {
        Containment::PidNamespace => u64::from(fence.own_processes(spec)),
        _ => contain::processes_of_user(),
    };
    Ceilings {
        data_bytes: spec.limits.memory_bytes,
        processes: spec.limits.processes.map(|count| others + u64::from(count)),
    }
}

impl Fence {
    fn choose(spec: &Spec, program: &std::path::Path) -> Result<Self, LaunchFailure> {
        let Some(sandbox) = &spec.sandbox else { return Ok(Self::Open) };
        if let Network::Endpoints(endpoints) = &sandbox.network {
            if let Some(address) = endpoints.iter().find(|address| !address.ip().is_loopback()) {
                return Err(unavailable(format!(
                    "{address} is not on this machine's loopback: only that is forwarded"
                )));
            }
            if endpoints.is_empty() || endpoints.len() > contain::channel::MAX_FILES {
                return Err(unavailable("a sandbox may have between one and sixteen endpoints"));
            }
        }
        let layout = Layout::of(sandbox, &spec.cwd, program)?;
        let sandbox = sandbox.clone();
        match &sandbox.bubblewrap {
            Some(program) => Ok(Self::Bubblewrap { program: program.clone(), sandbox, layout }),
            None if sandbox.profile == Profile::Full || contain::have_walls() => Ok(Self::Native { sandbox, layout }),
            None => Err(unavailable(
                "there is neither bubblewrap nor Landlock here: install bubblewrap 0.4 or newer, or run Linux 6.2 or newer",
            )),
        }
    }

    fn namespaces(&self, spec: &Spec) -> Namespaces {
        match self {
            Self::Bubblewrap { .. } => Namespaces::None,
            Self::Native { sandbox, .. } => Namespaces::Apart { network: sandbox.network != Network::Open },
            Self::Open if spec.isolation == Isolation::Strongest => Namespaces::Processes,
            Self::Open => Namespaces::None,
        }
    }

    /// Processes of ours that are counted with those of the tree.
    fn own_processes(&self, spec: &Spec) -> u32 {
        match self {
            // One that waits outside, one that buries inside.
            Self::Bubblewrap { .. } => 2,
            Self::Native { .. } => 1,
            Self::Open => u32::from(spec.isolation == Isolation::Strongest),
        }
    }

    /// What the first process inside is told.
    pub(super) fn setup(&self, spec: &Spec, program: PathBuf, ceilings: Ceilings) -> Setup {
        let plain = Setup {
            program,
            argv: spec.argv.clone(),
            env: spec.env.clone(),
            cwd: spec.cwd.clone(),
            ceilings,
            ..Setup::default()
        };
        let listen = |sandbox: &Sandbox| match &sandbox.network {
            Network::Endpoints(endpoints) => endpoints.clone(),
            Network::Off | Network::Open => Vec::new(),
        };
        match self {
            Self::Open => plain,
            Self::Bubblewrap { sandbox, layout, .. } => {
                Setup { cwd: layout.worktree.clone(), listen: listen(sandbox), ..plain }
            }
            Self::Native { sandbox, layout } => Setup {
                cwd: layout.worktree.clone(),
                covers: native::covers(sandbox, layout),
                walls: native::walls(sandbox, layout),
                start_loopback: sandbox.network != Network::Open,
                give_up_capabilities: true,
                listen: listen(sandbox),
                ..plain
            },
        }
    }

    /// Starts the first process; `stdin` is its line to us.
    pub(super) fn spawn_keeper(&self, stdin: OwnedFd) -> io::Result<Keeper> {
        let argv = ["pilothouse", "supervise", init::FLAG].map(Into::into).to_vec();
        let common = |program: PathBuf, argv| Spawn {
            env: Some(Vec::new()),
            cwd: Some(PathBuf::from("/")),
            stdin: Some(stdin),
            dies_with_parent: true,
            ..Spawn::new(program, argv)
        };
        match self {
            Self::Open | Self::Native { .. } => {
                // Not the file's path: it may have been replaced by a newer version since.
                let child = contain::spawn(Spawn {
                    first_of_namespace: true,
                    keeps_rights: matches!(self, Self::Native { .. }),
                    ..common(PathBuf::from("/proc/self/exe"), argv)
                })?;
                Ok(Keeper { child, bubblewrap: None })
            }
            #[cfg(target_os = "linux")]
            Self::Bubblewrap { program, sandbox, layout } => {
                let (told, info) = contain::inherited_pipe()?;
                let inside = bubblewrap::Inside {
                    program: contain::inherited_program()?,
                    argv: vec!["supervise".to_owned(), init::FLAG.to_owned()],
                    info,
                };
                let arguments = bubblewrap::arguments(sandbox, layout, &inside)?;
                let (complaints, complaint) = contain::output_pipe()?;
                let argv = arguments.argv.iter().map(Into::into).collect();
                let child = contain::spawn(Spawn { stderr: Some(complaint), ..common(program.clone(), argv) })?;
                Ok(Keeper { child, bubblewrap: Some((told, complaints)) })
            }
            #[cfg(not(target_os = "linux"))]
            Self::Bubblewrap { .. } => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}
