//! What a process takes of the machine, as `/proc` tells.

use std::path::Path;

use anyhow::{Context, Result};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vitals {
    /// Bytes in memory.
    pub rss: u64,
    /// Open files.
    pub files: u64,
    pub threads: u64,
}

impl Vitals {
    pub fn read(pid: u32) -> Result<Self> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let number = |name: &str| -> Result<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).context("the process has ended")?;
            line.trim().trim_end_matches(" kB").parse().with_context(|| format!("{name} is not a number"))
        };
        let files = std::fs::read_dir(format!("/proc/{pid}/fd"))?.count() as u64;
        Ok(Self { rss: number("VmRSS:")? << 10, files, threads: number("Threads:")? })
    }

    /// The larger of each.
    pub fn max(self, other: Self) -> Self {
        Self {
            rss: self.rss.max(other.rss),
            files: self.files.max(other.files),
            threads: self.threads.max(other.threads),
        }
    }
}

/// The size of a file; 0 when it is not there.
pub fn size(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |meta| meta.len())
}
