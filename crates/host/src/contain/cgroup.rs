//! Limits that a whole tree shares, and a list of its processes that no process leaves: a control group of its own.
//!
//! Version 2 where this process may make groups below its own, else the controllers of version 1, else nothing.

use rustix::process::Pid;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What a tree may hold together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SharedLimits {
    pub memory_bytes: Option<u64>,
    pub processes: Option<u32>,
}

/// How the names of our groups begin.
const PREFIX: &str = "pilothouse-";

/// A control group, made for one tree. It is removed with [`Cgroup::remove`], once nothing is in it.
#[derive(Debug)]
pub struct Cgroup {
    version: Version,
    /// One directory in version 2, one for each controller in version 1.
    directories: Vec<Directory>,
}

#[derive(Debug)]
struct Directory {
    path: PathBuf,
    /// Where this process was before it went in for a moment.
    home: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    V2,
    V1,
}

impl Cgroup {
    /// Makes a group that keeps these limits; `None` where this process may make none that does.
    pub fn make(name: &str, limits: SharedLimits) -> Option<Self> {
        let name = &format!("{PREFIX}{name}");
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
        let own = std::fs::read_to_string("/proc/self/cgroup").ok()?;
        make_v2(&mounts, &own, name, limits).or_else(|| make_v1(&mounts, &own, name, limits))
    }

    pub fn version(&self) -> Version {
        self.version
    }

    /// Starts something in the group: this process goes in, does it, and comes out again, so that nothing of what it
    /// started was ever outside.
    pub fn inside<T>(&self, start: impl FnOnce() -> T) -> io::Result<T> {
        let own = std::process::id();
        for (n, directory) in self.directories.iter().enumerate() {
            if let Err(error) = enter(&directory.path, own) {
                self.directories[..n].iter().for_each(|entered| drop(enter(&entered.home, own)));
                return Err(error);
            }
        }
        let started = start();
        for directory in &self.directories {
            enter(&directory.home, own)?;
        }
        Ok(started)
    }

    /// The processes in the group.
    pub fn processes(&self) -> Vec<Pid> {
        let Some(directory) = self.directories.first() else { return Vec::new() };
        let text = std::fs::read_to_string(directory.path.join("cgroup.procs")).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok().and_then(Pid::from_raw)).collect()
    }

    /// Kills all of them at once where the kernel can.
    pub fn kill(&self) {
        for directory in &self.directories {
            let _ = std::fs::write(directory.path.join("cgroup.kill"), "1");
        }
        self.processes().into_iter().for_each(|pid| super::signal(pid, super::Signal::KILL));
    }

    /// How often a process of the group was refused a new one or killed for want of memory; `None` where that is not told.
    pub fn memory_kills(&self) -> Option<u64> {
        self.directories.iter().find_map(|directory| {
            let events = ["memory.events", "memory.oom_control"].into_iter();
            let text = events.filter_map(|name| std::fs::read_to_string(directory.path.join(name)).ok()).next()?;
            text.lines().find_map(|line| line.strip_prefix("oom_kill "))?.trim().parse().ok()
        })
    }

    /// Removes the group once it is empty; it is given a moment, because the last process leaves after it was reaped.
    pub fn remove(self) {
        for directory in &self.directories {
            for _ in 0..100 {
                match std::fs::remove_dir(&directory.path) {
                    Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                        std::thread::sleep(Duration::from_millis(2));
                    }
                    Ok(()) | Err(_) => break,
                }
            }
        }
    }
}

fn enter(directory: &Path, pid: u32) -> io::Result<()> {
    std::fs::write(directory.join("cgroup.procs"), pid.to_string())
}

/// Removes groups that a killed supervisor left behind. One that is in use cannot be removed; one that is new may belong
/// to somebody who is about to use it.
fn sweep(parent: &Path) {
    for entry in std::fs::read_dir(parent).into_iter().flatten().flatten() {
        let ours = entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX));
        let age = entry.metadata().ok().and_then(|metadata| metadata.modified().ok()).and_then(|at| at.elapsed().ok());
        if ours && age.is_some_and(|age| age > Duration::from_secs(600)) {
            let _ = std::fs::remove_dir(entry.path());
        }
    }
}

fn make_v2(mounts: &str, own: &str, name: &str, limits: SharedLimits) -> Option<Cgroup> {
    let mount = mount_of(mounts, "cgroup2", None)?;
    let path = own.lines().find_map(|line| line.strip_prefix("0::"))?;
    let home = beneath(&mount, path)?;
    // Below our own group if processes may be beside groups there (the root), else beside it.
    for parent in [Some(home.as_path()), home.parent().filter(|parent| parent.starts_with(&mount))] {
        let Some(parent) = parent else { continue };
        let passed_on = std::fs::read_to_string(parent.join("cgroup.subtree_control")).unwrap_or_default();
        let has = |controller| passed_on.split_whitespace().any(|word| word == controller);
        let needs_memory = limits.memory_bytes.is_some() && !has("memory");
        let needs_processes = limits.processes.is_some() && !has("pids");
        if needs_memory || needs_processes {
            continue;
        }
        sweep(parent);
        let directory = parent.join(name);
        if std::fs::create_dir(&directory).is_err() {
            continue;
        }
        let group = Cgroup {
            version: Version::V2,
            directories: vec![Directory { path: directory.clone(), home: home.clone() }],
        };
        let limited = set(&directory, "memory.max", limits.memory_bytes.map(|bytes| bytes.to_string()))
            && set(&directory, "pids.max", limits.processes.map(|count| count.to_string()));
        // Without swap a limit is a limit; a machine without swap accounting has nothing to turn off.
        let _ = limits.memory_bytes.is_none() || set(&directory, "memory.swap.max", Some("0".to_owned()));
        if limited && group.inside(|| ()).is_ok() {
            return Some(group);
        }
        group.remove();
    }
    None
}

fn make_v1(mounts: &str, own: &str, name: &str, limits: SharedLimits) -> Option<Cgroup> {
    let memory = limits.memory_bytes.map(|bytes| ("memory", "memory.limit_in_bytes", bytes.to_string()));
    let pids = limits.processes.map(|count| ("pids", "pids.max", count.to_string()));
    // Without limits any hierarchy will do: it is only to say who belongs to the tree.
    let named = (memory.is_none() && pids.is_none()).then(|| ("pids", "", String::new()));
    let mut group = Cgroup { version: Version::V1, directories: Vec::new() };
    for (controller, file, value) in [memory, pids, named].into_iter().flatten() {
        let made = (|| {
            let mount = mount_of(mounts, "cgroup", Some(controller))?;
            let path = own.lines().find_map(|line| {
                let (_, rest) = line.split_once(':')?;
                let (controllers, path) = rest.split_once(':')?;
                controllers.split(',').any(|known| known == controller).then_some(path)
            })?;
            let home = beneath(&mount, path)?;
            sweep(&home);
            let directory = home.join(name);
            std::fs::create_dir(&directory).ok()?;
            group.directories.push(Directory { path: directory.clone(), home });
            (file.is_empty() || set(&directory, file, Some(value))).then_some(())
        })();
        if made.is_none() {
            group.remove();
            return None;
        }
    }
    if group.inside(|| ()).is_ok() {
        return Some(group);
    }
    group.remove();
    None
}

fn set(directory: &Path, file: &str, value: Option<String>) -> bool {
    value.is_none_or(|value| std::fs::write(directory.join(file), value).is_ok())
}

/// Where a hierarchy is mounted, with all of it.
fn mount_of(mounts: &str, kind: &str, controller: Option<&str>) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let mut fields = before.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        let mut after = after.split(' ');
        let matches = after.next()? == kind
            && controller.is_none_or(|controller| {
                after.nth(1).is_some_and(|options| options.split(',').any(|option| option == controller))
            });
        (matches && root == "/").then(|| PathBuf::from(point))
    })
}

fn beneath(mount: &Path, path: &str) -> Option<PathBuf> {
    // A path that leads out of what this process sees is another namespace's.
    (!path.contains("..")).then(|| mount.join(path.trim_start_matches('/')))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
35 24 0:30 / /sys/fs/cgroup/memory rw,relatime shared:1 - cgroup cgroup rw,memory
36 24 0:31 /docker/1 /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
37 24 0:32 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
38 24 0:33 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw";

    #[test]
    fn a_hierarchy_is_found_by_its_kind_and_controller() {
        let point = |kind, controller| mount_of(MOUNTS, kind, controller).map(|path| path.display().to_string());
        assert_eq!(point("cgroup", Some("memory")).as_deref(), Some("/sys/fs/cgroup/memory"));
        assert_eq!(point("cgroup", Some("cpuacct")).as_deref(), Some("/sys/fs/cgroup/cpu,cpuacct"));
        assert_eq!(point("cgroup", Some("pids")), None, "only a part of it is mounted");
        assert_eq!(point("cgroup2", None).as_deref(), Some("/sys/fs/cgroup/unified"));
    }
}
