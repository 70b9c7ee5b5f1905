//! The workers that are connected to a supervisor: usually one, for a moment two, never strangers.

use crate::protocol::{self, MAX_LINE, Reply, Report, Request, SOCKET, Side};
use host::contain;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};

const MAX_CLIENTS: usize = 16;

pub(super) struct Clients {
    listener: UnixListener,
    nonce: String,
    clients: Vec<Client>,
    next: u64,
}

struct Client {
    id: ClientId,
    stream: UnixStream,
    buffer: Vec<u8>,
    /// The answer that proves us to it, once it has proven itself to us.
    welcome: Option<String>,
    proven: bool,
    gone: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ClientId(u64);

impl Clients {
    /// Listens in the current directory.
    pub(super) fn listen(nonce: &str) -> io::Result<Self> {
        let listener = host::net::listen_here(SOCKET)?;
        Ok(Self { listener, nonce: nonce.to_owned(), clients: Vec::new(), next: 0 })
    }

    pub(super) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        std::iter::once(self.listener.as_fd()).chain(self.clients.iter().map(|client| client.stream.as_fd()))
    }

    pub(super) fn any_proven(&self) -> bool {
        self.clients.iter().any(|client| client.proven)
    }

    /// Lets newcomers in, notices who left, and gives back what proven ones ask, in order.
    pub(super) fn requests(&mut self) -> Vec<(ClientId, Request)> {
        self.accept();
        let mut requests = Vec::new();
        for client in &mut self.clients {
            for line in client.lines() {
                match client.parse(&self.nonce, &line) {
                    Ok(request) => requests.push((client.id, request)),
                    Err(message) => {
                        client.send(&Reply::Refused { message });
                        client.gone = true;
                        break;
                    }
                }
            }
        }
        self.clients.retain(|client| !client.gone);
        requests
    }

    /// Answers one request.
    pub(super) fn answer(&mut self, id: ClientId, report: &Report) {
        if let Some(client) = self.clients.iter_mut().find(|client| client.id == id) {
            let reply = match client.welcome.take() {
                Some(proof) => Reply::Welcome { proof, report: report.clone() },
                None => Reply::Report(report.clone()),
            };
            client.send(&reply);
        }
        self.clients.retain(|client| !client.gone);
    }

    fn accept(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            let ours = contain::peer_uid(&stream).is_none_or(|uid| uid == host::process::effective_uid());
            if !ours || stream.set_nonblocking(true).is_err() {
                continue;
            }
            if self.clients.len() >= MAX_CLIENTS {
                // Whoever connects without knowing the nonce must not keep out who knows it.
                match self.clients.iter().position(|client| !client.proven) {
                    Some(stranger) => drop(self.clients.remove(stranger)),
                    None => continue,
                }
            }
            self.next += 1;
            let id = ClientId(self.next);
            self.clients.push(Client { id, stream, buffer: Vec::new(), welcome: None, proven: false, gone: false });
        }
    }
}

impl Client {
    fn lines(&mut self) -> Vec<Vec<u8>> {
        let mut chunk = [0; 4096];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => self.gone = true,
                Ok(n) => {
                    self.buffer.extend_from_slice(&chunk[..n]);
                    if self.buffer.len() <= MAX_LINE {
                        continue;
                    }
                    self.gone = true;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => self.gone = true,
            }
            break;
        }
        let mut lines = Vec::new();
        while let Some(end) = self.buffer.iter().position(|&byte| byte == b'\n') {
            let rest = self.buffer.split_off(end + 1);
            lines.push(std::mem::replace(&mut self.buffer, rest));
        }
        lines
    }

    fn parse(&mut self, nonce: &str, line: &[u8]) -> Result<Request, String> {
        let request: Request = serde_json::from_slice(line).map_err(|_| "the request is not understood".to_owned())?;
        match &request {
            Request::Hello { version, .. } if *version != crate::spec::VERSION => {
                Err(format!("this supervisor speaks version {}", crate::spec::VERSION))
            }
            Request::Hello { challenge, proof, .. } => {
                if !protocol::is_proven(nonce, Side::Controller, challenge, proof) {
                    return Err("the nonce is not known to you".to_owned());
                }
                self.proven = true;
                self.welcome = Some(protocol::proof(nonce, Side::Supervisor, challenge));
                Ok(request)
            }
            Request::Extend { .. } | Request::Stop { .. } | Request::Status | Request::Hold { .. } if self.proven => {
                Ok(request)
            }
            Request::Extend { .. } | Request::Stop { .. } | Request::Status | Request::Hold { .. } => {
                Err("say hello first".to_owned())
            }
        }
    }

    fn send(&mut self, reply: &Reply) {
        let mut line = serde_json::to_vec(reply).expect("a reply has only plain fields");
        line.push(b'\n');
        // A reply is small; a client whose socket is full has not read for long and is let go.
        if self.stream.write_all(&line).is_err() {
            self.gone = true;
        }
    }
}
