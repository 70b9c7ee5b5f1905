//! Small filesystems of a fault's own, which only root can mount: they are unmounted when they are dropped.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Result, ensure};
use rustix::{
    fs::{FallocateFlags, fallocate, statvfs},
    io::Errno,
};
use tokio::process::Command;

/// A filesystem in memory that holds so much and no more.
#[derive(Debug)]
pub struct Memory {
    at: PathBuf,
    ballast: PathBuf,
}

impl Memory {
    /// Mounts one of so many bytes on a new directory.
    pub async fn mount(at: &Path, bytes: u64) -> Result<Self> {
        std::fs::create_dir_all(at)?;
        call("mount", &["-t", "tmpfs", "-o", &format!("size={bytes},mode=0700"), "tmpfs", &path(at)]).await?;
        Ok(Self { at: at.to_owned(), ballast: at.join("ballast") })
    }

    pub fn free(&self) -> Result<u64> {
        let stat = statvfs(&self.at)?;
        Ok(stat.f_bavail * stat.f_frsize)
    }

    /// Takes all space but so many bytes.
    pub fn fill(&self, but: u64) -> Result<()> {
        let file = File::create(&self.ballast)?;
        loop {
            let taken = self.free()?.saturating_sub(but);
            if taken == 0 {
                return Ok(());
            }
            match fallocate(&file, FallocateFlags::empty(), 0, taken) {
                Ok(()) => return Ok(()),
                // Others took some of it meanwhile.
                Err(Errno::NOSPC) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Gives it back.
    pub fn relieve(&self) -> Result<()> {
        Ok(std::fs::remove_file(&self.ballast)?)
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
        drop(Memory { ballast: dir.path().join("ballast"), at: dir.path().to_owned() });
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
    at: PathBuf,
    device: String,
}

impl Disk {
    /// Makes one of so many bytes in the file `image` and mounts it.
    pub async fn mount(image: &Path, at: &Path, bytes: u64) -> Result<Self> {
        File::create(image)?.set_len(bytes)?;
        call("mkfs.ext4", &["-q", "-F", &path(image)]).await?;
        let device = call("losetup", &["--find", "--show", &path(image)]).await?;
        std::fs::create_dir_all(at)?;
        let disk = Self { at: at.to_owned(), device };
        call("mount", &["-t", "ext4", &disk.device, &path(at)]).await?;
        Ok(disk)
    }

    /// After the power came back: the journal is replayed as at any start.
    pub async fn mount_again(&mut self) -> Result<()> {
        call("umount", &[&path(&self.at)]).await?;
        call("mount", &["-t", "ext4", &self.device, &path(&self.at)]).await?;
        Ok(())
    }

    pub async fn remove(self) -> Result<()> {
        call("umount", &[&path(&self.at)]).await?;
        Ok(())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        for (program, arguments) in
            [("umount", vec!["-l".to_owned(), path(&self.at)]), ("losetup", vec!["-d".to_owned(), self.device.clone()])]
        {
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
