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

use rustix::io::Errno;
use rustix::net::{
    self, AddressFamily, Protocol, RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, SocketFlags, SocketType,
    ipproto, sockopt,
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

/// What kind of socket a descriptor is, in the numbers of the operating system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// The address family, `AF_INET` for one.
    pub family: i32,
    /// The type, `SOCK_STREAM` for one.
    pub kind: i32,
    /// The protocol, 0 for the only one of its family and type.
    pub protocol: i32,
}

impl Kind {
    /// Whether this is TCP, over whichever version of IP.
    pub fn is_tcp(self) -> bool {
        matches!(self.family, libc::AF_INET | libc::AF_INET6)
            && self.kind == libc::SOCK_STREAM
            && matches!(self.protocol, 0 | libc::IPPROTO_TCP)
    }
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
        Ok((_, count, sender)) => Ok(Some((count, sender.map_or(Address::NAMELESS, Address::from)))),
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

/// Accepts a connection, non-blocking and closed on exec; `None` if none is waiting.
///
/// # Errors
///
/// What `accept4` reports: `EMFILE` and its like when descriptors or memory have run out, `ECONNABORTED` when the peer
/// was quicker, and errors of the network.
pub fn accept(socket: BorrowedFd<'_>) -> io::Result<Option<(OwnedFd, Address)>> {
    match retry(|| net::acceptfrom_with(socket, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)) {
        Ok((connection, peer)) => Ok(Some((connection, peer.map_or(Address::NAMELESS, Address::from)))),
        Err(Errno::AGAIN) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Makes a socket, non-blocking and closed on exec.
///
/// # Errors
///
/// What `socket` reports: `EMFILE`, `EAFNOSUPPORT` for two.
pub fn open(kind: Kind) -> io::Result<OwnedFd> {
    let family = u16::try_from(kind.family).map_err(|_| Errno::AFNOSUPPORT)?;
    let family = AddressFamily::from_raw(family);
    let protocol = match kind.protocol {
        libc::IPPROTO_TCP => Some(ipproto::TCP),
        number => u32::try_from(number).ok().and_then(std::num::NonZeroU32::new).map(Protocol::from_raw),
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket_type = SocketType::from_raw(u32::try_from(kind.kind).map_err(|_| Errno::INVAL)?);
    Ok(net::socket_with(family, socket_type, flags, protocol)?)
}

/// Begins to connect; true if the connection stands already. Otherwise the socket becomes writable when it is decided,
/// and [`take_error`] tells how.
///
/// # Errors
///
/// What `connect` reports, other than that it goes on.
pub fn connect(socket: BorrowedFd<'_>, address: &SocketAddr) -> io::Result<bool> {
    match net::connect(socket, address) {
        Ok(()) => Ok(true),
        // An interrupted connect goes on as well.
        Err(Errno::INPROGRESS | Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Gives the socket a local address.
///
/// # Errors
///
/// What `bind` reports, `EADDRINUSE` and `EADDRNOTAVAIL` for two.
pub fn bind(socket: BorrowedFd<'_>, address: &SocketAddr) -> io::Result<()> {
    Ok(net::bind(socket, address)?)
}

/// The error that is pending on the socket, and takes it away.
///
/// # Errors
///
/// What asking reports; the pending error is the value.
pub fn take_error(socket: BorrowedFd<'_>) -> io::Result<Option<io::Error>> {
    Ok(sockopt::socket_error(socket)?.err().map(io::Error::from))
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
    Ok(net::getsockname(socket)?.into())
}

/// The address of the other end.
///
/// # Errors
///
/// What `getpeername` reports, `ENOTCONN` if there is none any more.
pub fn peer_address(socket: BorrowedFd<'_>) -> io::Result<Address> {
    Ok(net::getpeername(socket)?.map_or(Address::NAMELESS, Address::from))
}
