//! The calls on a socket, with "would block" told apart from errors.
//!
//! Calls that move bytes never block, not even on a socket that was left blocking: the caller may hold a lock that the
//! peer needs.
//!
//! An interrupted call is made again: a signal is noticed by the loop's next wait, and none of these calls sleeps.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::io::Errno;
use rustix::net::{
    self, AddressFamily, RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, SocketAddrUnix, SocketFlags, SocketType,
    sockopt,
};

use super::Address;
use crate::sys::receive_scattered;

/// What came of moving bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Transfer {
    /// So many bytes were moved; of a receive, none means that the peer will send no more.
    Done(usize),
    /// None could be moved now.
    WouldBlock,
}

pub(super) fn retry<T>(mut call: impl FnMut() -> rustix::io::Result<T>) -> rustix::io::Result<T> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            result => return result,
        }
    }
}

pub(super) fn transfer(result: rustix::io::Result<usize>) -> io::Result<Transfer> {
    match result {
        Ok(count) => Ok(Transfer::Done(count)),
        Err(Errno::AGAIN) => Ok(Transfer::WouldBlock),
        Err(error) => Err(error.into()),
    }
}

/// Receives into `buffer`.
///
/// # Errors
///
/// What `recv` reports, `ECONNRESET` for one.
#[inline]
pub fn recv(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Transfer> {
    transfer(retry(|| net::recv(socket, &mut *buffer, RecvFlags::DONTWAIT).map(|(_, count)| count)))
}

/// How many bytes there are to receive; 0 also if the system does not say.
///
/// # Examples
///
/// ```
/// # use std::{io::Write, os::fd::AsFd, os::unix::net::UnixStream};
/// let (ours, mut theirs) = UnixStream::pair()?;
/// assert_eq!(ferrio::net::socket::available(ours.as_fd()), 0);
/// theirs.write_all(b"hello")?;
/// assert_eq!(ferrio::net::socket::available(ours.as_fd()), 5);
/// # Ok::<(), std::io::Error>(())
/// ```
#[inline]
pub fn available(socket: BorrowedFd<'_>) -> usize {
    rustix::io::ioctl_fionread(socket).map_or(0, |count| usize::try_from(count).unwrap_or(0))
}

/// Receives into memory that need not hold anything yet; as much of it as is reported is written.
///
/// # Errors
///
/// As for [`recv`].
#[inline]
pub fn recv_uninit(socket: BorrowedFd<'_>, buffer: &mut [MaybeUninit<u8>]) -> io::Result<Transfer> {
    transfer(retry(|| net::recv(socket, &mut *buffer, RecvFlags::DONTWAIT).map(|(_, count)| count)))
}

/// As [`recv_uninit`], into `first`, and into `second` what that has no room for: one call where two would tell the
/// peer of room twice.
///
/// # Errors
///
/// As for [`recv`].
pub fn recv_scattered(
    socket: BorrowedFd<'_>,
    first: &mut [MaybeUninit<u8>],
    second: &mut [MaybeUninit<u8>],
) -> io::Result<Transfer> {
    loop {
        match receive_scattered(socket, first, second) {
            Ok(count) => return Ok(Transfer::Done(count)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Transfer::WouldBlock),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Receives a datagram into `buffer`, and tells where it comes from; `None` if there is none. What there is no room for
/// is lost.
///
/// # Errors
///
/// What `recvfrom` reports, `ECONNREFUSED` for one, of an earlier datagram.
#[inline]
pub fn recv_from(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Option<(usize, Address)>> {
    match retry(|| net::recvfrom(socket, &mut *buffer, RecvFlags::DONTWAIT)) {
        Ok((_, count, sender)) => Ok(Some((count, sender.map_or(Address::NAMELESS, Address::of)))),
        Err(Errno::AGAIN) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Sends `bytes` as one datagram to `address`.
///
/// # Errors
///
/// What `sendto` reports, `EMSGSIZE` for one.
#[inline]
pub fn send_to(socket: BorrowedFd<'_>, bytes: &[u8], address: &SocketAddr) -> io::Result<Transfer> {
    transfer(retry(|| net::sendto(socket, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT, address)))
}

/// Sends as much of `bytes` as the socket takes. A peer that is gone is an error, never a signal.
///
/// # Errors
///
/// What `send` reports, `EPIPE` and `ECONNRESET` for two.
#[inline]
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<Transfer> {
    transfer(retry(|| net::send(socket, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)))
}

/// Sends as much of `slices`, in their order, as the socket takes.
///
/// # Errors
///
/// As for [`send`]; `EMSGSIZE` for more slices than the kernel takes in one call.
pub fn send_vectored(socket: BorrowedFd<'_>, slices: &[IoSlice<'_>]) -> io::Result<Transfer> {
    let mut control = SendAncillaryBuffer::default();
    transfer(retry(|| net::sendmsg(socket, slices, &mut control, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)))
}

/// Sends at most `count` bytes of `file`, those from `offset` on, without a way through this process; none were sent if
/// the file has no more. Unlike the other calls it waits for room if the socket was left blocking, and for the disk in
/// any case.
///
/// # Errors
///
/// What `sendfile` reports: `EINVAL` for what is no file, and errors of the connection.
pub fn send_file(socket: BorrowedFd<'_>, file: BorrowedFd<'_>, offset: u64, count: usize) -> io::Result<Transfer> {
    transfer(retry(|| {
        let mut offset = offset;
        rustix::fs::sendfile(socket, file, Some(&mut offset), count)
    }))
}

/// Ends the sending side: the peer reads an end of file behind what was sent.
///
/// # Errors
///
/// `ENOTCONN` if there is no connection any more.
pub fn shutdown_write(socket: BorrowedFd<'_>) -> io::Result<()> {
    Ok(net::shutdown(socket, Shutdown::Write)?)
}

/// Begins to connect a new TCP socket, non-blocking and closed on exec. It is writable when that has come to an end:
/// then it has an error to tell, or a peer.
///
/// # Errors
///
/// What `socket` and `connect` report, `EMFILE` and `ENETUNREACH` for two; `ECONNREFUSED` can come at once.
pub fn connect(address: &SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = net::socket_with(family, SocketType::STREAM, NEW, None)?;
    match net::connect(&socket, address) {
        // An interrupted one goes on.
        Ok(()) | Err(Errno::INPROGRESS | Errno::INTR) => Ok(socket),
        Err(error) => Err(error.into()),
    }
}

/// Connects a new Unix stream socket, non-blocking and closed on exec; `None` if the listener's queue is full.
///
/// # Errors
///
/// What `socket` and `connect` report, `ENOENT` and `ECONNREFUSED` for two; `ENAMETOOLONG`.
pub fn connect_unix(path: &Path) -> io::Result<Option<OwnedFd>> {
    let address = SocketAddrUnix::new(path)?;
    let socket = net::socket_with(AddressFamily::UNIX, SocketType::STREAM, NEW, None)?;
    match retry(|| net::connect(&socket, &address)) {
        Ok(()) => Ok(Some(socket)),
        Err(Errno::AGAIN) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// What every new socket is.
const NEW: SocketFlags = SocketFlags::CLOEXEC.union(SocketFlags::NONBLOCK);

/// Accepts a connection, non-blocking and closed on exec; `None` if none is waiting.
///
/// # Errors
///
/// What `accept4` reports: `EMFILE` and its like when descriptors or memory have run out, `ECONNABORTED` when the peer
/// was quicker, and errors of the network.
pub fn accept(socket: BorrowedFd<'_>) -> io::Result<Option<(OwnedFd, Address)>> {
    match retry(|| net::acceptfrom_with(socket, NEW)) {
        Ok((connection, peer)) => Ok(Some((connection, peer.map_or(Address::NAMELESS, Address::of)))),
        Err(Errno::AGAIN) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Has small writes sent at once, without waiting for the peer to acknowledge earlier ones.
///
/// # Errors
///
/// What `setsockopt` reports.
pub fn set_nodelay(socket: BorrowedFd<'_>) -> io::Result<()> {
    Ok(sockopt::set_tcp_nodelay(socket, true)?)
}

/// The address of this end.
///
/// # Errors
///
/// What `getsockname` reports.
pub fn local_address(socket: BorrowedFd<'_>) -> io::Result<Address> {
    Ok(Address::of(net::getsockname(socket)?))
}

/// The address of the other end.
///
/// # Errors
///
/// What `getpeername` reports, `ENOTCONN` if there is none any more.
pub fn peer_address(socket: BorrowedFd<'_>) -> io::Result<Address> {
    Ok(net::getpeername(socket)?.map_or(Address::NAMELESS, Address::of))
}
