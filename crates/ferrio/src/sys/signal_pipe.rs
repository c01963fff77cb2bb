//! Signals as bytes.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::io::{Errno, read, write};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

/// A pair of sockets: a signal handler writes the signal's number as one byte, the loop reads it.
///
/// Both ends are non-blocking: a handler must never wait, and a byte that finds no room is one of many that wait.
#[derive(Debug)]
pub struct SignalPipe {
    reader: OwnedFd,
    writer: OwnedFd,
}

impl SignalPipe {
    /// Creates the pair, closed on exec.
    ///
    /// # Errors
    ///
    /// What `socketpair` reports, `EMFILE` for one.
    pub fn new() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (reader, writer) = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        Ok(Self { reader, writer })
    }

    /// The descriptor for the handler's side, in the form that `signal.set_wakeup_fd` and C handlers take.
    pub fn writer(&self) -> RawFd {
        self.writer.as_raw_fd()
    }

    /// Calls `each` for every signal number that has arrived.
    ///
    /// # Errors
    ///
    /// What `read` reports, other than that there is nothing to read.
    pub fn drain(&self, mut each: impl FnMut(u8)) -> io::Result<()> {
        let mut numbers = [0; 256];
        loop {
            match read(&self.reader, &mut numbers[..]) {
                Ok(0) | Err(Errno::AGAIN) => return Ok(()),
                Ok(count) => numbers[..count].iter().copied().for_each(&mut each),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Writes the signal numbers that have arrived to another descriptor, as far as that takes them.
    ///
    /// An error is nobody's who calls this: the descriptor belongs to somebody else.
    pub fn pass_on(&self, to: BorrowedFd<'_>) {
        let _: io::Result<()> = self.drain(|signal| {
            let _: Result<usize, Errno> = write(to, &[signal]);
        });
    }
}

impl AsFd for SignalPipe {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }
}
