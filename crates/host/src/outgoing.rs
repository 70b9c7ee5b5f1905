//! Connections to hosts elsewhere, for processes of ours that carry what others say: no runtime, one thread each.
//!
//! TLS is rustls with the roots that Mozilla trusts, compiled in: nothing that a machine or a repository could change
//! makes a host believed.

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// An open connection.
#[derive(Debug)]
pub struct Outgoing {
    stream: Stream,
}

#[derive(Debug)]
enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

/// How long the parts of a conversation may take.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    pub connect: Duration,
    /// Until the other side says something, each time.
    pub silence: Duration,
}

/// Connects to the first address of a name that answers.
pub fn connect(host: &str, port: u16, tls: bool, patience: Patience) -> io::Result<Outgoing> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, format!("{host} has no address"));
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, patience.connect) {
            Ok(stream) => return open(stream, host, tls, patience),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn open(stream: TcpStream, host: &str, tls: bool, patience: Patience) -> io::Result<Outgoing> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(patience.silence))?;
    stream.set_write_timeout(Some(patience.silence))?;
    if !tls {
        return Ok(Outgoing { stream: Stream::Plain(stream) });
    }
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let connection = ClientConnection::new(config()?, name).map_err(io::Error::other)?;
    Ok(Outgoing { stream: Stream::Tls(Box::new(StreamOwned::new(connection, stream))) })
}

fn config() -> io::Result<Arc<ClientConfig>> {
    static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    if let Some(config) = CONFIG.get() {
        return Ok(Arc::clone(config));
    }
    let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = builder.map_err(io::Error::other)?.with_root_certificates(roots).with_no_client_auth();
    Ok(Arc::clone(CONFIG.get_or_init(|| Arc::new(config))))
}

impl Read for Outgoing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.stream {
            Stream::Plain(stream) => stream.read(buffer),
            Stream::Tls(stream) => match stream.read(buffer) {
                // Many hosts just hang up: what was said is complete by its own length, or it is not.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
                read => read,
            },
        }
    }
}

impl Write for Outgoing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.stream {
            Stream::Plain(stream) => stream.write(bytes),
            Stream::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.stream {
            Stream::Plain(stream) => stream.flush(),
            Stream::Tls(stream) => stream.flush(),
        }
    }
}
