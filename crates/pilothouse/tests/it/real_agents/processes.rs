//! The processes of an attempt, found from outside: by what is known of them, and by who started them.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

/// One process. Its id may be given to another once it is gone, its start tells them apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Process {
    pub(super) pid: u32,
    started: String,
    pub(super) argv: Vec<String>,
}

impl Process {
    /// Reads what the system tells of a process that has not ended.
    fn read(pid: u32) -> Option<Self> {
        let stat = stat_of(pid)?;
        if ["Z", "X"].contains(&stat.first()?.as_str()) {
            return None;
        }
        let argv = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let argv = String::from_utf8_lossy(&argv).split_terminator('\0').map(str::to_owned).collect();
        Some(Self { pid, started: stat.get(19)?.clone(), argv })
    }

    pub(super) fn is_alive(&self) -> bool {
        Self::read(self.pid).is_some_and(|now| now.started == self.started)
    }

    pub(super) fn stands_still(&self) -> bool {
        stat_of(self.pid).is_some_and(|stat| stat.first().is_some_and(|state| state == "T"))
    }

    fn program(&self) -> Option<PathBuf> {
        std::fs::read_link(format!("/proc/{}/exe", self.pid)).ok()
    }

    /// Whether something that it was started with names a place in this directory.
    fn is_of(&self, dir: &Path) -> bool {
        let here = dir.to_string_lossy();
        let environment = std::fs::read(format!("/proc/{}/environ", self.pid)).unwrap_or_default();
        let works_in = std::fs::read_link(format!("/proc/{}/cwd", self.pid)).unwrap_or_default();
        works_in.starts_with(dir)
            || self.argv.iter().any(|part| part.contains(&*here))
            || String::from_utf8_lossy(&environment).contains(&*here)
    }

    /// Whether it holds the tree of an attempt.
    fn supervises(&self) -> bool {
        let [_, what, spec] = self.argv.as_slice() else { return false };
        what == "supervise" && spec.starts_with('/')
    }
}

/// The fields behind the name, the state first.
fn stat_of(pid: u32) -> Option<Vec<String>> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(stat.rsplit_once(") ")?.1.split(' ').map(str::to_owned).collect())
}

fn all() -> Vec<Process> {
    let names = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.file_name());
    names.filter_map(|name| Process::read(name.to_str()?.parse().ok()?)).collect()
}

/// What an attempt in this data directory consists of at this moment: what names a place in it, and whatever those
/// started. The nodes themselves are no part of it.
pub(super) fn of_attempts(data: &Path, nodes: &[u32]) -> BTreeSet<Process> {
    let all = all();
    let outside = |process: &&Process| !nodes.contains(&process.pid);
    let mut found: BTreeSet<Process> =
        all.iter().filter(outside).filter(|process| process.is_of(data)).cloned().collect();
    loop {
        let known: BTreeSet<u32> = found.iter().map(|process| process.pid).collect();
        let parent = |process: &Process| stat_of(process.pid)?.get(1)?.parse::<u32>().ok();
        let children = all.iter().filter(|process| parent(process).is_some_and(|parent| known.contains(&parent)));
        let before = found.len();
        found.extend(children.filter(outside).cloned().collect::<Vec<_>>());
        if found.len() == before {
            return found;
        }
    }
}

pub(super) fn supervisor(found: &BTreeSet<Process>) -> Option<Process> {
    found.iter().find(|process| process.supervises()).cloned()
}

/// The agent itself: the process that is this program.
pub(super) fn engine(found: &BTreeSet<Process>, program: &str) -> Option<Process> {
    found.iter().find(|process| process.program().is_some_and(|exe| exe == Path::new(program))).cloned()
}

/// What its tool runs: a shell with this script.
pub(super) fn tool(found: &BTreeSet<Process>, script: &str) -> Option<Process> {
    found.iter().find(|process| process.argv.get(1).is_some_and(|argument| argument == script)).cloned()
}
