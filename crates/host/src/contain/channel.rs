//! A pair of sockets between a process and its child, over which open files travel beside bytes.

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// How many files one message may carry.
pub const MAX_FILES: usize = 16;

/// Two ends; reading from either waits no longer than `patience`.
pub fn pair(patience: Duration) -> io::Result<(UnixStream, UnixStream)> {
    let (ours, theirs) = UnixStream::pair()?;
    for end in [&ours, &theirs] {
        end.set_read_timeout(Some(patience))?;
        end.set_write_timeout(Some(patience))?;
    }
    Ok((ours, theirs))
}

/// Sends one byte and, with it, open files.
pub fn send_files(socket: &UnixStream, tag: u8, files: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FILES))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !files.is_empty() && !control.push(SendAncillaryMessage::ScmRights(files)) {
        return Err(io::Error::other("too many files for one message"));
    }
    rustix::net::sendmsg(socket, &[IoSlice::new(&[tag])], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Receives one byte and the files that came with it; `None` when the other end is closed.
pub fn receive_files(socket: &UnixStream) -> io::Result<Option<(u8, Vec<OwnedFd>)>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FILES))];
    loop {
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut tag = [0];
        let received = rustix::net::recvmsg(socket, &mut [IoSliceMut::new(&mut tag)], &mut control, receive_flags());
        let message = match received {
            Ok(message) => message,
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        };
        if message.bytes == 0 {
            return Ok(None);
        }
        let mut files = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                files.extend(rights);
            }
        }
        return Ok(Some((tag[0], files)));
    }
}

fn receive_flags() -> RecvFlags {
    #[cfg(target_os = "linux")]
    return RecvFlags::CMSG_CLOEXEC;
    #[cfg(not(target_os = "linux"))]
    return RecvFlags::empty();
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::fd::AsFd;

    #[test]
    fn a_file_arrives_open_and_bytes_after_it_stay_in_order() {
        let (ours, mut theirs) = pair(Duration::from_secs(5)).unwrap();
        let (mut reader, writer) = io::pipe().unwrap();
        send_files(&ours, b'F', &[writer.as_fd()]).unwrap();
        (&ours).write_all(b"rest\n").unwrap();
        drop(writer);

        let (tag, mut files) = receive_files(&theirs).unwrap().unwrap();
        let mut rest = [0; 5];
        theirs.read_exact(&mut rest).unwrap();
        std::fs::File::from(files.remove(0)).write_all(b"through it").unwrap();

        assert_eq!((tag, &rest), (b'F', b"rest\n"));
        let mut read = String::new();
        reader.read_to_string(&mut read).unwrap();
        assert_eq!(read, "through it");
        drop(ours);
        assert!(receive_files(&theirs).unwrap().is_none());
    }
}
