//! The way out of a sandbox without a network: listeners that were opened inside, answered by a process outside.
//!
//! It is this same binary again. What connects inside is joined to the one address that its listener stands for, or
//! spoken with by the broker of a model ([`crate::broker`]), so nobody inside chooses where a connection leads.

use super::init;
use crate::broker::{Broker, Desk};
use crate::spec::Spec;
use host::contain::{self, Pid, Spawn, channel};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::io::{self, Read};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// What the supervisor puts in place of a spec's path.
pub(super) const FLAG: &str = "--forward";

const PATIENCE: Duration = Duration::from_secs(30);
const MAX_CONNECTIONS: usize = 256;
const LISTENERS: u8 = b'L';

/// What a listener stands for.
#[derive(Clone, Serialize, Deserialize)]
pub(super) enum Target {
    Joined(SocketAddr),
    Brokered { broker: Broker, nonce: String },
}

/// What the listeners at these addresses stand for.
pub(super) fn targets(spec: &Spec, addresses: &[SocketAddr]) -> Vec<Target> {
    let target = |address: &SocketAddr| match &spec.broker {
        Some(broker) if broker.listen == *address => {
            Target::Brokered { broker: broker.clone(), nonce: spec.nonce.clone() }
        }
        _ => Target::Joined(*address),
    };
    addresses.iter().map(target).collect()
}

/// The supervisor's side of the process.
pub(super) struct Forwarder {
    pid: Pid,
    socket: UnixStream,
}

impl Forwarder {
    /// Starts it; it waits for its listeners.
    pub(super) fn start() -> io::Result<Self> {
        let (ours, theirs) = channel::pair(PATIENCE)?;
        let argv: Vec<OsString> = vec!["pilothouse".into(), "supervise".into(), FLAG.into()];
        let pid = contain::spawn(Spawn {
            env: Some(Vec::new()),
            stdin: Some(OwnedFd::from(theirs)),
            dies_with_parent: true,
            ..Spawn::new(PathBuf::from("/proc/self/exe"), argv)
        })?;
        Ok(Self { pid, socket: ours })
    }

    /// Hands the listeners over, each with what it stands for.
    pub(super) fn serve(&self, listeners: &[BorrowedFd<'_>], targets: &[Target]) -> io::Result<()> {
        channel::send_files(&self.socket, LISTENERS, listeners)?;
        init::write_document(&self.socket, &targets)
    }

    pub(super) fn stop(&self) {
        contain::signal(self.pid, contain::Signal::KILL);
    }
}

/// Runs outside, for as long as the supervisor lives.
pub(super) fn main() -> i32 {
    match forward() {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("supervise {FLAG}: {error}");
            1
        }
    }
}

fn forward() -> io::Result<()> {
    contain::hide_memory()?;
    let mut socket = UnixStream::from(OwnedFd::from(contain::take_stdin()?));
    contain::detach_stdio()?;
    let Some((LISTENERS, listeners)) = channel::receive_files(&socket)? else { return Ok(()) };
    let targets: Vec<Target> = init::read_document(&socket)?;
    // Nothing more is said: what arrives now is the other end closing, which ends this process with the threads.
    socket.set_read_timeout(None)?;
    for (listener, target) in listeners.into_iter().zip(targets) {
        let listener = TcpListener::from(listener);
        let answer: Answer = match target {
            Target::Joined(address) => Arc::new(move |inside| join(inside, address)),
            Target::Brokered { broker, nonce } => {
                // It works in the attempt's directory, as its supervisor does.
                let desk = Desk::open(broker, Path::new("."), &nonce)?;
                Arc::new(move |inside| desk.serve(inside))
            }
        };
        std::thread::Builder::new().spawn(move || accept(&listener, &answer))?;
    }
    let _ = socket.read(&mut [0]);
    Ok(())
}

/// What is done with whoever connects.
type Answer = Arc<dyn Fn(&TcpStream) -> io::Result<()> + Send + Sync>;

static CONNECTIONS: AtomicUsize = AtomicUsize::new(0);

fn accept(listener: &TcpListener, answer: &Answer) {
    loop {
        let Ok((inside, _)) = listener.accept() else {
            // Out of descriptors, most likely: others end in time.
            std::thread::sleep(Duration::from_millis(50));
            continue;
        };
        if CONNECTIONS.fetch_add(1, Ordering::Relaxed) >= MAX_CONNECTIONS {
            CONNECTIONS.fetch_sub(1, Ordering::Relaxed);
            continue;
        }
        let answer = Arc::clone(answer);
        let joined = std::thread::Builder::new().spawn(move || {
            // Either end may go at any time; the other then sees a closed connection, which says it all.
            let _ = answer(&inside);
            CONNECTIONS.fetch_sub(1, Ordering::Relaxed);
        });
        if joined.is_err() {
            CONNECTIONS.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

fn join(inside: &TcpStream, target: SocketAddr) -> io::Result<()> {
    let outside = TcpStream::connect_timeout(&target, PATIENCE)?;
    inside.set_nodelay(true)?;
    outside.set_nodelay(true)?;
    std::thread::scope(|scope| {
        scope.spawn(|| carry(inside, &outside));
        carry(&outside, inside);
    });
    Ok(())
}

fn carry(mut from: &TcpStream, mut to: &TcpStream) {
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
    // Whoever no longer reads must not keep the other waiting.
    let _ = from.shutdown(Shutdown::Read);
}
