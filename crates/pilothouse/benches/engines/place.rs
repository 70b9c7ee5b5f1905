//! A directory for one supervised run, and what is still alive in it.

use std::path::{Path, PathBuf};

use engines::{Launch, Sandbox};

/// The product's binary.
pub(crate) const EXE: &str = env!("CARGO_BIN_EXE_pilothouse");

/// Gone when it is dropped.
pub(crate) struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Result<Self, String> {
        let dir = testkit::bench::fixture::directory()?;
        // What is shown in a sandbox has its own path, not one that leads there.
        let place = Self { dir };
        for path in [place.work(), place.home(), place.attempt()] {
            std::fs::create_dir_all(path).map_err(|error| error.to_string())?;
        }
        Ok(place)
    }

    fn root(&self) -> PathBuf {
        self.dir.path().canonicalize().unwrap_or_else(|_| self.dir.path().to_owned())
    }

    pub(crate) fn work(&self) -> PathBuf {
        self.root().join("work")
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.root().join("attempt/home")
    }

    pub(crate) fn attempt(&self) -> PathBuf {
        self.root().join("attempt")
    }

    /// Something to start here.
    pub(crate) fn launch(&self, argv: Vec<String>, sandbox: Option<Sandbox>) -> Launch {
        let mut launch = Launch::new(self.attempt(), argv, self.work());
        launch.env = vec![("PATH".into(), host::process::DEFAULT_PATH.into())];
        launch.merge_stderr = true;
        launch.sandbox = sandbox;
        launch
    }

    /// The processes that work here.
    pub(crate) fn alive(&self) -> usize {
        alive_in(&self.work())
    }
}

/// The processes whose working directory lies here.
pub(crate) fn alive_in(dir: &Path) -> usize {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let is_here = |cwd: PathBuf| cwd.starts_with(dir);
    entries.filter(|entry| std::fs::read_link(entry.path().join("cwd")).is_ok_and(is_here)).count()
}
