//! `space DOOR SECONDS`: the process that keeps a network namespace, the one it was started in.
//!
//! It passes on what comes through the door, and ends when its stdin does. What was started in the namespace then has so
//! many seconds to end by itself, and is killed.

use std::{
    io::Write,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UnixListener, UnixStream},
};

/// The line that says that the door is open.
pub(super) const READY: &str = "ready";
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// After it was killed, a process is gone sooner than that.
const DEAD_AFTER: Duration = Duration::from_secs(5);

/// What is sent through the door first: where to.
pub(super) fn ask(to: Ipv4Addr, port: u16) -> [u8; 6] {
    let ([a, b, c, d], [high, low]) = (to.octets(), port.to_be_bytes());
    [a, b, c, d, high, low]
}

/// The code says whether something lived on.
pub async fn main(arguments: &[String]) -> Result<ExitCode> {
    let [door, grace] = arguments else { bail!("space DOOR SECONDS") };
    let (door, grace) = (PathBuf::from(door), Duration::from_secs(grace.parse().context("seconds")?));
    let listener = UnixListener::bind(&door).with_context(|| format!("no door at {}", door.display()))?;
    writeln!(std::io::stdout(), "{READY}")?;
    let serving = host::task::spawn("door", async move {
        while let Ok((stream, _)) = listener.accept().await {
            drop(host::task::spawn("visitor", async move {
                // Whichever side failed, both are closed.
                let _ = pass_on(stream).await;
            }));
        }
    });
    let mut nothing = Vec::new();
    // A pipe that cannot be read any more is closed.
    let _ = tokio::io::stdin().read_to_end(&mut nothing).await;
    serving.abort();
    let lived_on = end_everybody(grace).await?;
    // Whoever made the directory may have taken it away already.
    let _ = std::fs::remove_file(door);
    Ok(if lived_on { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

async fn pass_on(mut visitor: UnixStream) -> Result<()> {
    let mut asked = [0; 6];
    visitor.read_exact(&mut asked).await?;
    let [a, b, c, d, high, low] = asked;
    let mut inside = TcpStream::connect((Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([high, low]))).await?;
    inside.set_nodelay(true)?;
    visitor.write_all(&[1]).await?;
    tokio::io::copy_bidirectional(&mut visitor, &mut inside).await?;
    Ok(())
}

/// Whether anybody had to be killed.
async fn end_everybody(grace: Duration) -> Result<bool> {
    let since = host::clock::monotonic();
    let mut killed = false;
    loop {
        let others = others()?;
        if others.is_empty() {
            return Ok(killed);
        }
        if since.elapsed() >= grace {
            killed = true;
            for pid in others {
                // It may have ended meanwhile.
                let _ = rustix::process::kill_process(pid, Signal::KILL);
            }
        }
        if since.elapsed() > grace + DEAD_AFTER {
            bail!("processes live on in a network namespace although they were killed");
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Everybody else in this namespace who is alive: whoever is dead and not yet waited for is in none.
fn others() -> Result<Vec<Pid>> {
    let ours = std::fs::read_link("/proc/self/ns/net")?;
    let is_ours = |pid: i32| std::fs::read_link(Path::new("/proc").join(pid.to_string()).join("ns/net"));
    let pids = std::fs::read_dir("/proc")?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let own = i32::try_from(host::process::id())?;
    let others = pids.filter(|pid| *pid != own && is_ours(*pid).is_ok_and(|space| space == ours));
    Ok(others.filter_map(Pid::from_raw).collect())
}
