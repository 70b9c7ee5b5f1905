//! Processes that still run for a campaign, found by its directory in their command line or environment.

use std::{collections::BTreeSet, path::Path};

/// A process and the attempt it runs for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process {
    pub pid: u32,
    /// `None` for a node itself.
    pub attempt: Option<String>,
    pub command: String,
}

/// Every live process that names `dir`: nodes by their flags, supervisors by their attempt's directory, jobs by their home.
pub fn find(dir: &Path) -> Vec<Process> {
    let needle = format!("{}/", dir.display());
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let mut found: Vec<Process> = pids
        .filter(|pid| *pid != std::process::id())
        .filter_map(|pid| {
            let text = |name: &str| {
                let bytes = std::fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
                String::from_utf8_lossy(&bytes).replace('\0', " ")
            };
            let command = text("cmdline");
            // One that is dead and not yet waited for has neither.
            let words = format!("{command} {}", text("environ"));
            words.contains(&needle).then(|| Process { pid, attempt: attempt_in(&words), command })
        })
        .collect();
    found.sort();
    found
}

/// Sandboxes in the making that nobody will finish: they have `program` open, which they were to start, and whoever made
/// them is gone. They are named by nothing else. One that is being made has a parent that has it open, too, or runs it.
pub fn unfinished(program: &Path) -> Vec<u32> {
    let has_open = |pid: u32| {
        let links = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        links.filter_map(|entry| std::fs::read_link(entry.path()).ok()).any(|target| target == program)
    };
    let runs = |pid: u32| std::fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == program);
    let parent = |pid: u32| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        status.lines().find_map(|line| line.strip_prefix("PPid:")?.trim().parse::<u32>().ok())
    };
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| has_open(*pid) && !runs(*pid))
        .filter(|pid| parent(*pid).is_some_and(|parent| !runs(parent) && !has_open(parent)))
        .collect()
}

fn attempt_in(words: &str) -> Option<String> {
    let (_, rest) = words.split_once("/attempts/")?;
    Some(rest.split(['/', ' ']).next().unwrap_or_default().to_owned())
}

/// The attempts for which something runs.
pub fn attempts(dir: &Path) -> BTreeSet<String> {
    find(dir).into_iter().filter_map(|process| process.attempt).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_is_read_from_a_path() {
        assert_eq!(attempt_in("pilothouse supervise /d/attempts/run-A-1/spec.json").as_deref(), Some("run-A-1"));
        assert_eq!(attempt_in("sh HOME=/d/attempts/run-B-2/home PATH=/bin").as_deref(), Some("run-B-2"));
        assert_eq!(attempt_in("pilothouse up --data-dir /d"), None);
    }
}
