//! The targets that there are, and the inputs that each begins with.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::process::workspace;

/// Targets of what engines say begin with this, and with the recordings of the engine that follows it.
const OF_ENGINES: &str = "engine_";
const RECORDINGS: [&str; 2] = ["crates/engines/tests/transcripts", "crates/engines/tests/transcripts/recorded"];

#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) name: String,
    pub(super) seeds: Vec<PathBuf>,
}

impl Target {
    pub(super) fn named(name: &str) -> Self {
        Self { name: name.to_owned(), seeds: Vec::new() }
    }
}

/// Every target but the one that falls on purpose.
pub(super) fn all() -> Result<Vec<Target>> {
    let names = names(&workspace().join("fuzz/fuzz_targets"))?;
    let targets = names.iter().filter_map(|name| name.strip_suffix(".rs")).filter(|name| *name != super::CONTROL);
    targets.map(|name| Ok(Target { name: name.to_owned(), seeds: seeds(name)? })).collect()
}

fn seeds(target: &str) -> Result<Vec<PathBuf>> {
    let own = workspace().join("fuzz/seeds").join(target);
    let mut seeds = Vec::new();
    if own.is_dir() {
        seeds.extend(names(&own)?.iter().map(|name| own.join(name)));
    }
    if let Some(engine) = target.strip_prefix(OF_ENGINES) {
        let is_ours = |name: &&String| {
            name.strip_prefix(engine).is_some_and(|rest| rest.starts_with('-')) && !name.ends_with(".told")
        };
        for folder in RECORDINGS.map(|folder| workspace().join(folder)) {
            seeds.extend(names(&folder)?.iter().filter(is_ours).map(|name| folder.join(name)));
        }
    }
    Ok(seeds)
}

/// The names in a directory, in their order.
fn names(folder: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let name = |entry: std::io::Result<fs::DirEntry>| Ok(entry?.file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = entries.map(name).collect::<Result<_>>()?;
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_is_built_and_has_something_to_begin_with() {
        let manifest = fs::read_to_string(workspace().join("fuzz/Cargo.toml")).unwrap();
        let targets = all().unwrap();

        assert!(targets.len() > 10, "{targets:?}");
        for target in &targets {
            assert!(manifest.contains(&format!("path = \"fuzz_targets/{}.rs\"", target.name)), "{}", target.name);
            assert!(!target.seeds.is_empty(), "{} has nothing to begin with", target.name);
            // They are handed over in a list with commas.
            assert!(target.seeds.iter().all(|seed| !seed.to_string_lossy().contains(',')), "{:?}", target.seeds);
        }
        assert_eq!(manifest.matches("[[bin]]").count(), targets.len() + 1, "the targets and the control");
    }
}
