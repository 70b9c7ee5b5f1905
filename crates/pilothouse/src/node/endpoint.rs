//! `endpoint.json`: how commands on this machine find a running server.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::failure::{Failure, Result};

pub(crate) const FILE: &str = "endpoint.json";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Endpoint {
    pub(crate) url: String,
    pub(crate) pid: u32,
    pub(crate) token_file: PathBuf,
}

/// The server of a data directory; `None` when none left word.
pub(crate) fn read(data_dir: &Path) -> Result<Option<Endpoint>> {
    let path = data_dir.join(FILE);
    match host::fs::read_text(&path, 64 * 1024) {
        Ok(text) => serde_json::from_str(&text).map(Some).map_err(|error| {
            Failure::failed(format!("{} is not understood: {error}", path.display()))
                .remedy("Remove it, or name the server with --server URL.")
        }),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Leaves word of a server that listens on `address`.
pub(crate) fn write(data_dir: &Path, address: SocketAddr, token_file: &Path) -> Result<Endpoint> {
    let endpoint = Endpoint { url: url_of(address), pid: host::process::id(), token_file: token_file.to_owned() };
    let text = serde_json::to_string_pretty(&endpoint).map_err(|error| Failure::failed(error.to_string()))?;
    host::fs::write_atomic(&data_dir.join(FILE), format!("{text}\n").as_bytes())?;
    Ok(endpoint)
}

/// Takes the word back, unless another server has left its own meanwhile.
pub(crate) fn remove(data_dir: &Path, ours: &Endpoint) {
    if let Ok(Some(found)) = read(data_dir)
        && found == *ours
        && let Err(error) = host::fs::remove_file(&data_dir.join(FILE))
    {
        tracing::warn!(%error, "Could not remove {FILE}");
    }
}

/// An address that can be called from this machine.
pub(crate) fn url_of(address: SocketAddr) -> String {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    format!("http://{}", SocketAddr::new(ip, address.port()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_on_every_address_is_called_on_loopback() {
        for (address, url) in [
            ("127.0.0.1:8010", "http://127.0.0.1:8010"),
            ("0.0.0.0:8010", "http://127.0.0.1:8010"),
            ("[::]:8010", "http://[::1]:8010"),
            ("10.1.2.3:80", "http://10.1.2.3:80"),
        ] {
            assert_eq!(url_of(address.parse().unwrap()), url);
        }
    }

    #[test]
    fn a_server_takes_back_only_its_own_word() {
        let dir = tempfile::tempdir().unwrap();
        let first = write(dir.path(), "127.0.0.1:1".parse().unwrap(), Path::new("/t")).unwrap();
        let second = write(dir.path(), "127.0.0.1:2".parse().unwrap(), Path::new("/t")).unwrap();

        remove(dir.path(), &first);
        assert_eq!(read(dir.path()).unwrap(), Some(second.clone()));
        remove(dir.path(), &second);
        assert_eq!(read(dir.path()).unwrap(), None);
    }
}
