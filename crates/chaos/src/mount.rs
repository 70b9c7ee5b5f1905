//! Small filesystems of a fault's own, which only root can mount: they are unmounted when they are dropped.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Result, ensure};
use rustix::fs::statvfs;
use tokio::process::Command;

/// A filesystem in memory, whose size is what it may hold: what it does not hold takes nothing.
#[derive(Debug)]
pub struct Memory {
    at: PathBuf,
    size: u64,
}

/// How often a size is set anew because others took some of what was to be left.
const TRIES: u32 = 50;

impl Memory {
    /// Mounts one of so many bytes on a directory, which then has this mode.
    pub async fn mount(at: &Path, size: u64, mode: &str) -> Result<Self> {
        std::fs::create_dir_all(at)?;
        call("mount", &["-t", "tmpfs", "-o", &format!("size={size},mode={mode}"), "tmpfs", &path(at)]).await?;
        Ok(Self { at: at.to_owned(), size })
    }

    pub fn used(&self) -> Result<u64> {
        let stat = statvfs(&self.at)?;
        Ok((stat.f_blocks - stat.f_bfree) * stat.f_frsize)
    }

    /// Leaves so many bytes and no more.
    pub async fn fill(&self, but: u64) -> Result<()> {
        for tried in 1.. {
            match self.resize(self.used()? + but).await {
                // Smaller than what it holds by now is refused.
                Err(error) if tried == TRIES => return Err(error),
                Err(_) => {}
                Ok(()) => break,
            }
        }
        Ok(())
    }

    /// Gives everything back.
    pub async fn relieve(&self) -> Result<()> {
        self.resize(self.size).await
    }

    async fn resize(&self, size: u64) -> Result<()> {
        call("mount", &["-o", &format!("remount,size={size}"), &path(&self.at)]).await.map(drop)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        #[expect(clippy::disallowed_methods, reason = "a mount outlives whoever made it unless it is taken away here")]
        let mut command = std::process::Command::new("umount");
        // Lazily: what still has a file open there is ended elsewhere.
        let _ = command.args(["-l", &path(&self.at)]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}

/// Whether filesystems can be mounted here: found out by mounting one.
pub fn can() -> bool {
    let Ok(dir) = tempfile::tempdir() else { return false };
    #[expect(clippy::disallowed_methods, reason = "mounts are set up by the system's own programs")]
    let mut mount = std::process::Command::new("mount");
    let at = path(dir.path());
    let tried =
        mount.args(["-t", "tmpfs", "-o", "size=4096", "tmpfs", &at]).stdout(Stdio::null()).stderr(Stdio::null());
    let is_mounted = tried.status().is_ok_and(|status| status.success());
    if is_mounted {
        drop(Memory { at: dir.path().to_owned(), size: 0 });
    }
    is_mounted
}

fn path(at: &Path) -> String {
    at.display().to_string()
}

/// Runs a program of the system and wants it to succeed.
pub async fn call(program: &str, arguments: &[&str]) -> Result<String> {
    #[expect(clippy::disallowed_methods, reason = "mounts and loop devices are set up by the system's own programs")]
    let mut command = Command::new(program);
    let ended = command.args(arguments).stdin(Stdio::null()).output().await?;
    let said = String::from_utf8_lossy(&ended.stderr).trim().to_owned();
    ensure!(ended.status.success(), "{program} {arguments:?} failed: {said}");
    Ok(String::from_utf8_lossy(&ended.stdout).trim().to_owned())
}

/// An ext4 filesystem in a file, which can lose its power.
#[derive(Debug)]
pub struct Disk {
    device: String,
    at: PathBuf,
    /// A directory in it, and where else that is to be found.
    bound: Option<(PathBuf, PathBuf)>,
    /// Where it is mounted now; the last goes first.
    mounted: Vec<PathBuf>,
}

impl Disk {
    /// Makes one of so many bytes in the file `image` and mounts it.
    pub async fn mount(image: &Path, at: &Path, bytes: u64) -> Result<Self> {
        File::create(image)?.set_len(bytes)?;
        call("mkfs.ext4", &["-q", "-F", &path(image)]).await?;
        let device = call("losetup", &["--find", "--show", &path(image)]).await?;
        let mut disk = Self { device, at: at.to_owned(), bound: None, mounted: Vec::new() };
        std::fs::create_dir_all(at)?;
        disk.mount_all().await?;
        Ok(disk)
    }

    /// Makes a directory in it that is found at `to`, too.
    pub async fn bind(&mut self, name: &str, to: &Path) -> Result<()> {
        let dir = self.at.join(name);
        std::fs::create_dir(&dir)?;
        std::fs::create_dir_all(to)?;
        bind(&dir, to).await?;
        self.mounted.push(to.to_owned());
        self.bound = Some((dir, to.to_owned()));
        Ok(())
    }

    /// After the power came back: the journal is replayed as at any start. It fails while somebody still has files open
    /// there, or a copy of the mount: then what is mounted again is the filesystem without power.
    pub async fn mount_again(&mut self) -> Result<()> {
        self.unmount_all().await?;
        self.mount_all().await?;
        Ok(File::open(&self.at)?.sync_all()?)
    }

    pub async fn remove(mut self) -> Result<()> {
        self.unmount_all().await
    }

    async fn mount_all(&mut self) -> Result<()> {
        call("mount", &["-t", "ext4", &self.device, &path(&self.at)]).await?;
        self.mounted.push(self.at.clone());
        if let Some((dir, to)) = &self.bound {
            bind(dir, to).await?;
            self.mounted.push(to.clone());
        }
        Ok(())
    }

    /// What is not unmounted stays where it is, for another try.
    async fn unmount_all(&mut self) -> Result<()> {
        while let Some(at) = self.mounted.last() {
            call("umount", &[&path(at)]).await?;
            self.mounted.pop();
        }
        Ok(())
    }
}

async fn bind(dir: &Path, to: &Path) -> Result<()> {
    call("mount", &["--bind", &path(dir), &path(to)]).await.map(drop)
}

impl Drop for Disk {
    fn drop(&mut self) {
        let mounts = self.mounted.iter().rev().map(|at| ("umount", vec!["-l".to_owned(), path(at)]));
        let device = ("losetup", vec!["-d".to_owned(), self.device.clone()]);
        for (program, arguments) in mounts.chain([device]) {
            #[expect(
                clippy::disallowed_methods,
                reason = "a mount outlives whoever made it unless it is taken away here"
            )]
            let mut command = std::process::Command::new(program);
            // It may be gone already, which is what is wanted.
            let _ = command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
        }
    }
}
