//! The calls on what is read and written like a file and can be waited for: pipes, FIFOs, terminals, and sockets whose
//! owner does not care that they are.
//!
//! Such a call has no flag that keeps it from blocking: the descriptor must be [non-blocking](set_nonblocking), which
//! is a property of what it refers to, and so of every duplicate.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{FileType, fstat};
use rustix::io::{fcntl_dupfd_cloexec, ioctl_fionbio, read, write, writev};

use super::Transfer;
use super::socket::{retry, transfer};

/// What a descriptor refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PipeKind {
    /// A pipe, with or without a name.
    Fifo,
    /// A socket.
    Socket,
    /// A character device, a terminal for one.
    Device,
}

/// What `fd` refers to; `None` for what cannot be waited for, files and directories.
///
/// # Errors
///
/// What `fstat` reports.
pub fn kind(fd: BorrowedFd<'_>) -> io::Result<Option<PipeKind>> {
    Ok(match FileType::from_raw_mode(fstat(fd)?.st_mode) {
        FileType::Fifo => Some(PipeKind::Fifo),
        FileType::Socket => Some(PipeKind::Socket),
        FileType::CharacterDevice => Some(PipeKind::Device),
        _ => None,
    })
}

/// Has calls on what `fd` refers to return instead of blocking.
///
/// # Errors
///
/// What `ioctl` reports.
pub fn set_nonblocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    Ok(ioctl_fionbio(fd, true)?)
}

/// Another descriptor for the same, closed on exec.
///
/// # Errors
///
/// What `fcntl` reports, `EMFILE` for one.
pub fn duplicate(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    Ok(fcntl_dupfd_cloexec(fd, 0)?)
}

/// Reads into `buffer`; nothing is the end.
///
/// # Errors
///
/// What `read` reports; `EIO` for one at the end of a terminal.
pub fn receive(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Transfer> {
    transfer(retry(|| read(fd, &mut *buffer)))
}

/// As [`receive`], into memory that need not hold anything yet; as much of it as is reported is written.
///
/// # Errors
///
/// As there.
pub fn receive_uninit(fd: BorrowedFd<'_>, buffer: &mut [MaybeUninit<u8>]) -> io::Result<Transfer> {
    transfer(retry(|| read(fd, &mut *buffer).map(|(filled, _)| filled.len())))
}

/// Writes `bytes`, or as many of them as there is room for.
///
/// # Errors
///
/// What `write` reports; `EPIPE` when nobody will read them.
pub fn send(fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<Transfer> {
    transfer(retry(|| write(fd, bytes)))
}

/// Writes several blocks of bytes by one call.
///
/// # Errors
///
/// As for [`send`].
pub fn send_vectored(fd: BorrowedFd<'_>, slices: &[IoSlice<'_>]) -> io::Result<Transfer> {
    transfer(retry(|| writev(fd, slices)))
}
