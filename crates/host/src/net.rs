//! Unix sockets in directories of ours, however long their path is: the kernel allows about a hundred bytes.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use tokio::net::UnixStream;

const MAX_SOCKET_PATH: usize = 100;

/// Listens under `name` in the current directory; only this user may connect, and nothing waits in `accept`.
pub fn listen_here(name: &str) -> io::Result<UnixListener> {
    match std::fs::remove_file(name) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(name)?;
    std::fs::set_permissions(name, std::fs::Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// A port of this machine's loopback that nobody listens on now.
pub fn free_port() -> io::Result<u16> {
    Ok(std::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// Connects to the socket `name` in `dir`.
pub async fn connect_in(dir: &Path, name: &str) -> io::Result<UnixStream> {
    let path = dir.join(name);
    if path.as_os_str().len() <= MAX_SOCKET_PATH {
        return UnixStream::connect(path).await;
    }
    connect_by_short_name(dir, name).await
}

#[cfg(target_os = "linux")]
async fn connect_by_short_name(dir: &Path, name: &str) -> io::Result<UnixStream> {
    use std::os::fd::AsRawFd;
    // The short name holds as long as the descriptor is open.
    let open = std::fs::File::open(dir)?;
    UnixStream::connect(format!("/proc/self/fd/{}/{name}", open.as_raw_fd())).await
}

#[cfg(not(target_os = "linux"))]
async fn connect_by_short_name(dir: &Path, name: &str) -> io::Result<UnixStream> {
    let link = Path::new("/tmp").join(crate::random::base62(12));
    std::os::unix::fs::symlink(dir, &link)?;
    let connected = UnixStream::connect(link.join(name)).await;
    // Best effort: the link was needed for this moment only.
    let _ = std::fs::remove_file(&link);
    connected
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_deep_down_is_reached() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("d".repeat(120));
        std::fs::create_dir(&deep).unwrap();
        // Listening needs the current directory, which tests share: listen high up and move it down.
        let high = dir.path().join("s");
        let listener = UnixListener::bind(&high).unwrap();
        std::fs::rename(&high, deep.join("s")).unwrap();

        let connected = connect_in(&deep, "s").await;

        assert!(connected.is_ok(), "{connected:?}");
        drop(listener);
        // Not the socket that was closed: a process that another test is starting may hold its copy of it for a moment.
        assert!(connect_in(&deep, "another").await.is_err());
    }
}
