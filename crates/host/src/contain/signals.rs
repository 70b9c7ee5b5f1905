//! Signals as something to wait for, and what the first process of a namespace does with them.

use super::set_nonblocking;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicI32, Ordering};

/// What signals have asked for since they were last looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Caught {
    pub terminate: bool,
    pub child: bool,
}

/// Turns SIGTERM, SIGINT, SIGHUP and SIGCHLD into a readable descriptor.
#[derive(Debug)]
pub struct Signals {
    reader: OwnedFd,
}

static SIGNAL_PIPE: AtomicI32 = AtomicI32::new(-1);

impl Signals {
    pub fn install() -> io::Result<Self> {
        use rustix::io::{FdFlags, fcntl_setfd};
        use std::os::fd::IntoRawFd;
        let (reader, writer) = rustix::pipe::pipe()?;
        for end in [&reader, &writer] {
            fcntl_setfd(end, FdFlags::CLOEXEC)?;
            set_nonblocking(end)?;
        }
        // The writer stays open as long as the process: a handler may run at any moment.
        SIGNAL_PIPE.store(writer.into_raw_fd(), Ordering::SeqCst);
        for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGCHLD] {
            install_handler(signal, note_signal)?;
        }
        Ok(Self { reader })
    }

    /// What was caught since the last call.
    pub fn take(&self) -> Caught {
        let mut caught = Caught::default();
        let mut buffer = [0u8; 64];
        while let Ok(n) = rustix::io::read(&self.reader, &mut buffer) {
            for &byte in &buffer[..n] {
                match i32::from(byte) {
                    libc::SIGCHLD => caught.child = true,
                    _ => caught.terminate = true,
                }
            }
            if n < buffer.len() {
                break;
            }
        }
        caught
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }
}

extern "C" fn note_signal(signal: libc::c_int) {
    let fd = SIGNAL_PIPE.load(Ordering::SeqCst);
    let byte = u8::try_from(signal).unwrap_or(0);
    // SAFETY: write(2) may be called in a handler; the byte lives on this stack. A full pipe already says enough.
    unsafe { libc::write(fd, std::ptr::from_ref(&byte).cast(), 1) };
}

/// In the first process of a namespace: hands SIGTERM on to every other process in it.
pub fn pass_on_termination() -> io::Result<()> {
    install_handler(libc::SIGTERM, terminate_namespace)
}

/// From now on SIGTERM changes nothing here: for rehearsing what a stubborn program does.
pub fn ignore_termination() -> io::Result<()> {
    install_handler(libc::SIGTERM, ignore_signal)
}

extern "C" fn ignore_signal(_: libc::c_int) {}

extern "C" fn terminate_namespace(_: libc::c_int) {
    // SAFETY: getpid(2) and kill(2) may be called in a handler. -1 means everybody, which is the namespace only as long
    // as we are its first process.
    unsafe {
        if libc::getpid() == 1 {
            libc::kill(-1, libc::SIGTERM);
        }
    }
}

fn install_handler(signal: libc::c_int, handler: extern "C" fn(libc::c_int)) -> io::Result<()> {
    // SAFETY: a zeroed sigaction is a valid one, the handlers above use only what may be used in a handler.
    let result = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as *const () as libc::sighandler_t;
        action.sa_flags = libc::SA_RESTART;
        libc::sigemptyset(&raw mut action.sa_mask);
        libc::sigaction(signal, &raw const action, std::ptr::null_mut())
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
