//! Receiving into two pieces of memory by one call.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Receives into `first`, and into `second` what it has no room for. So many bytes are set afterwards, those of `first`
/// before those of `second`; 0 means that the peer will send no more. Does not block.
///
/// # Errors
///
/// What `recvmsg` reports: `EAGAIN` if there is nothing, `EINTR`, `ECONNRESET`.
pub(crate) fn receive_scattered(
    socket: BorrowedFd<'_>,
    first: &mut [MaybeUninit<u8>],
    second: &mut [MaybeUninit<u8>],
) -> io::Result<usize> {
    let mut pieces =
        [first, second].map(|piece| libc::iovec { iov_base: piece.as_mut_ptr().cast(), iov_len: piece.len() });
    // SAFETY: a message header of zeros has no address, no pieces and no room for anything else.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = pieces.as_mut_ptr();
    // The type of the length is not the same everywhere; two fits.
    message.msg_iovlen = pieces.len() as _;
    // SAFETY: the header refers to two pieces that live and are borrowed mutably for the call, each of the length that
    // is told. The kernel writes to them and to the header, and nowhere else.
    let count = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT) };
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}
