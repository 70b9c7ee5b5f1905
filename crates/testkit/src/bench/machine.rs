//! What processes cost, as Linux counts it. Elsewhere everything is zero.

use std::{fs, path::PathBuf};

/// How much memory a process holds, in MiB; of one that is gone none.
pub fn resident_mib(pid: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u32>().ok());
    f64::from(kib.unwrap_or(0)) / 1024.0
}

/// The seconds of processor time that a process has used.
pub fn processor_seconds(pid: u32) -> f64 {
    Stat::of(pid).map_or(0.0, |stat| stat.seconds)
}

/// The seconds that all processes of this name have used, those they waited for included.
pub fn processor_seconds_of(name: &str) -> f64 {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(Stat::of).filter(|stat| stat.name == name).map(|stat| stat.seconds + stat.waited).sum()
}

struct Stat {
    name: String,
    seconds: f64,
    /// Of children that have ended.
    waited: f64,
}

impl Stat {
    fn of(pid: u32) -> Option<Self> {
        let text = fs::read_to_string(PathBuf::from(format!("/proc/{pid}/stat"))).ok()?;
        // The name stands in parentheses and may hold anything.
        let (name, rest) = (text.split_once('(')?.1, text.rsplit_once(')')?.1);
        let name = name.get(..name.rfind(')')?)?.to_owned();
        let ticks: Vec<f64> = rest.split_whitespace().skip(11).take(4).filter_map(|word| word.parse().ok()).collect();
        let [user, system, waited_user, waited_system] = ticks.try_into().ok()?;
        // Linux shows hundredths of a second, whatever its own clock does.
        Some(Self { name, seconds: (user + system) / 100.0, waited: (waited_user + waited_system) / 100.0 })
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn this_process_holds_memory_and_has_used_the_processor() {
        let begun = host::clock::monotonic();
        while begun.elapsed() < std::time::Duration::from_millis(50) {}

        assert!(resident_mib(std::process::id()) > 0.5);
        assert!(processor_seconds(std::process::id()) > 0.0);
        assert!(processor_seconds(u32::MAX).abs() < f64::EPSILON);
    }
}
