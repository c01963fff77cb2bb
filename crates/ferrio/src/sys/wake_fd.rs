//! A descriptor that ends another thread's wait.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::{Errno, write};

/// An `eventfd` that is never read.
///
/// It is registered edge-triggered, so every write is one event and the loop spends no system call on draining it.
/// Only when its counter is about to overflow, after 2^64 - 2 wake-ups, would a write find no room; the wake-up is
/// pending in that case, which is all that was asked for.
#[derive(Debug)]
pub struct WakeFd(OwnedFd);

impl WakeFd {
    /// Creates the descriptor, closed on exec.
    ///
    /// # Errors
    ///
    /// What `eventfd` reports, `EMFILE` for one.
    pub fn new() -> io::Result<Self> {
        Ok(Self(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    /// Wakes the thread that waits for this descriptor, or that is about to.
    ///
    /// # Errors
    ///
    /// What `write` reports, except that a full counter is a success.
    pub fn wake(&self) -> io::Result<()> {
        loop {
            return match write(&self.0, &1u64.to_ne_bytes()) {
                Ok(_) | Err(Errno::AGAIN) => Ok(()),
                Err(Errno::INTR) => continue,
                Err(error) => Err(error.into()),
            };
        }
    }
}

impl AsFd for WakeFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
