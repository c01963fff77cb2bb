//! Descriptors that are known by their number.

use std::os::fd::{BorrowedFd, RawFd};

/// `fd` for one system call.
///
/// The number is all that there is once a Python object owns the descriptor. The caller makes sure that the owner has
/// not closed it; should it have, the call answers `EBADF`.
#[inline]
pub(crate) fn borrow<'a>(fd: RawFd) -> BorrowedFd<'a> {
    debug_assert!(fd >= 0, "a transport has a descriptor");
    // SAFETY: never -1, since a transport is made of an open descriptor only. Nothing but system calls is done with the
    // value, which are safe on any number.
    unsafe { BorrowedFd::borrow_raw(fd) }
}
