//! Running other programs: cargo in the workspace, and anything else with its output captured or passed on.

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus};

use anyhow::{Context as _, Result, bail};
use sha2::Digest as _;

/// The directory that holds the workspace's `Cargo.toml`.
pub(crate) fn workspace() -> PathBuf {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().expect("xtask is a directory of the workspace").to_path_buf()
}

/// Talks to the person, on stderr. A closed stderr must not end a task that still has to clean up.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{}", line.trim_end());
}

/// The cargo that runs this program, in the workspace.
pub(crate) fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(workspace());
    // `cargo run` describes xtask to its child in these variables; build scripts that watch them (ring's does) would
    // run again each time a build follows from here instead of from a shell.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
            cargo.env_remove(&*name);
        }
    }
    cargo
}

/// Runs a command with this program's own input and output.
pub(crate) fn status(command: &mut Command) -> Result<ExitStatus> {
    command.status().with_context(|| format!("cannot run {}", command.get_program().display()))
}

/// Runs a command and returns what it printed; a failure carries what it said on stderr.
pub(crate) fn capture(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot run {}", command.get_program().display()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{} failed ({}): {}", command.get_program().display(), output.status, said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The first executable of this name on PATH.
pub(crate) fn on_path(name: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?).map(|directory| directory.join(name)).find(|p| is_executable(p))
}

pub(crate) fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    path.metadata().is_ok_and(|facts| facts.is_file() && facts.permissions().mode() & 0o111 != 0)
}

/// A child's end as this program's own: its code, or 1 when a signal ended it.
pub(crate) fn exit_code(status: ExitStatus) -> ExitCode {
    status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from)
}

pub(crate) fn is_ci() -> bool {
    std::env::var_os("CI").is_some_and(|value| value == OsStr::new("true"))
}

/// Where cargo puts what it builds.
pub(crate) fn target_directory() -> Result<PathBuf> {
    let mut cargo = cargo();
    let printed = capture(cargo.args(["metadata", "--locked", "--no-deps", "--format-version", "1"]))?;
    let metadata: serde_json::Value = serde_json::from_str(&printed)?;
    metadata["target_directory"].as_str().map(PathBuf::from).context("cargo names no target directory")
}

/// The beginning of a SHA-256 over these files.
pub(crate) fn digest_of(files: &[impl AsRef<Path>]) -> Result<String> {
    let mut digest = sha2::Sha256::new();
    for path in files {
        let path = path.as_ref();
        digest.update(std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?);
    }
    Ok(digest.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect())
}

/// Installs a package on a bare build machine, where apt-get is; whether it did. Never for a person's own machine.
pub(crate) fn apt_install(package: &str) -> Result<bool> {
    let Some(apt) = on_path("apt-get") else { return Ok(false) };
    let elevate = || match (rustix::process::geteuid().is_root(), on_path("sudo")) {
        (false, Some(sudo)) => {
            let mut command = Command::new(sudo);
            command.arg("--non-interactive").arg(&apt);
            command
        }
        _ => Command::new(&apt),
    };
    say(&format!("xtask: installing {package} with apt-get, because CI=true and nothing else was found"));
    capture(elevate().args(["update", "--quiet"]))?;
    let install = ["install", "--yes", "--quiet", "--no-install-recommends", package];
    capture(elevate().args(install).env("DEBIAN_FRONTEND", "noninteractive"))?;
    Ok(true)
}
