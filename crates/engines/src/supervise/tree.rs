//! The tree itself: started, told to end, ended, under whichever containment is in force.

use super::init;
use crate::exit::{LaunchFailure, LaunchFailureKind};
use crate::spec::Spec;
use host::contain::{self, Containment, Pid, Signal, Spawn};
use host::process::Status;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

/// How long to go on looking for processes that will not die.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) enum Tree {
    /// The first process of a namespace keeps it; when that process is gone, so is everything.
    Namespace { first: Pid, status: File },
    /// The program and whatever it started, found by walking the tree.
    Processes { leader: Pid, containment: Containment },
}

/// The end of a tree.
#[derive(Clone, Copy)]
pub(super) struct Ended {
    pub(super) status: Option<Status>,
    pub(super) all_gone: bool,
}

impl Tree {
    pub(super) fn start(
        spec: &Spec,
        containment: Containment,
        stdout: OwnedFd,
        stderr: OwnedFd,
    ) -> Result<Self, LaunchFailure> {
        if spec.sandbox.is_some() || spec.limits.memory_bytes.is_some() || spec.limits.processes.is_some() {
            return Err(LaunchFailure {
                kind: LaunchFailureKind::SandboxUnavailable,
                message: "this supervisor has no sandbox".to_owned(),
            });
        }
        let program = locate(spec)?;
        let argv: Vec<OsString> = spec.argv.iter().map(OsString::from).collect();
        let env: Vec<(OsString, OsString)> = spec.env.iter().map(|(n, v)| (n.into(), v.into())).collect();
        let spawn = Spawn {
            program,
            argv,
            env: Some(env),
            cwd: Some(spec.cwd.clone()),
            stdin: None,
            stdout: Some(stdout),
            stderr: Some(stderr),
            dies_with_parent: true,
            first_of_namespace: false,
        };
        match containment {
            Containment::PidNamespace => {
                let (first, status) = init::start(spawn).map_err(|error| refused(spec, &error))?;
                Ok(Self::Namespace { first, status })
            }
            Containment::Subreaper | Containment::ProcessGroup => {
                let leader = contain::spawn(spawn).map_err(|error| refused(spec, &error))?;
                Ok(Self::Processes { leader, containment })
            }
        }
    }

    /// Asks every process of the tree to end.
    pub(super) fn terminate(&self) {
        match self {
            Self::Namespace { first, .. } => contain::signal(*first, Signal::TERM),
            Self::Processes { leader, containment } => {
                match containment {
                    Containment::ProcessGroup => contain::signal_group(*leader, Signal::TERM),
                    Containment::PidNamespace | Containment::Subreaper => {
                        contain::descendants().into_iter().for_each(|pid| contain::signal(pid, Signal::TERM));
                    }
                }
                // A stopped process would learn of it only when it is too late.
                contain::signal_group(*leader, Signal::CONT);
            }
        }
    }

    /// Ends every process of the tree; [`Tree::poll`] tells when that is done.
    pub(super) fn kill(&self) {
        match self {
            Self::Namespace { first, .. } => contain::signal(*first, Signal::KILL),
            // The rest follows when the leader has been reaped.
            Self::Processes { leader, .. } => contain::signal(*leader, Signal::KILL),
        }
    }

    /// Reaps what has ended; answers once nothing of the tree is left.
    pub(super) fn poll(&mut self) -> Option<Ended> {
        while let Some((pid, status)) = contain::reap() {
            match self {
                // The kernel lets its parent see the first process end only after everybody else in there has.
                Self::Namespace { first, status: pipe } if pid == *first => {
                    return Some(Ended { status: init::read_end(pipe), all_gone: true });
                }
                Self::Processes { leader, .. } if pid == *leader => {
                    let all_gone = contain::kill_descendants(Some(pid), PATIENCE);
                    return Some(Ended { status: Some(status), all_gone });
                }
                Self::Namespace { .. } | Self::Processes { .. } => {}
            }
        }
        None
    }
}

fn locate(spec: &Spec) -> Result<PathBuf, LaunchFailure> {
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
