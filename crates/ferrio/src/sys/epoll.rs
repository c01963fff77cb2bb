//! Readiness through `epoll`.
//!
//! Why not a reactor crate: `polling` re-arms a timer descriptor and its own wake-up descriptor around every wait, five
//! system calls where one is needed, and `mio` is edge-triggered only, which cannot express `add_reader` on a
//! descriptor whose reader takes what it likes. This file is the whole of what they would do for us.

use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

use super::fork::Process;

/// What a registration asks to be told of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interest {
    /// There is something to read, or an end of file, or an error.
    pub readable: bool,
    /// There is room to write, or an error.
    pub writable: bool,
    /// To be told once for each change, and not by every wait for as long as it holds.
    pub edge: bool,
}

impl Interest {
    /// Whether nothing is asked.
    pub fn is_none(self) -> bool {
        !self.readable && !self.writable
    }

    fn flags(self) -> EventFlags {
        let mut flags = EventFlags::empty();
        flags.set(EventFlags::IN, self.readable);
        flags.set(EventFlags::OUT, self.writable);
        flags.set(EventFlags::ET, self.edge);
        flags
    }
}

/// What has become possible on one registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Readiness {
    /// The token that the descriptor was registered with.
    pub token: u64,
    /// A read would not block. An error or a hang-up counts as readable: the read will tell.
    pub readable: bool,
    /// A write would not block. An error or a hang-up counts as writable: the write will tell.
    pub writable: bool,
}

/// The buffer that a wait fills.
pub struct Events {
    buffer: Box<[libc::epoll_event]>,
    /// How many the next wait may report.
    limit: usize,
    filled: usize,
}

impl Events {
    /// Room for `capacity` events a wait, one at least; what does not fit is reported by the next.
    pub fn with_capacity(capacity: usize) -> Self {
        let (empty, capacity) = (libc::epoll_event { events: 0, u64: 0 }, capacity.max(1));
        Self { buffer: vec![empty; capacity].into(), limit: capacity, filled: 0 }
    }

    /// Has the next waits report `limit` events at most, one at least; not more than there is room for.
    pub fn limit(&mut self, limit: usize) {
        self.limit = limit.max(1).min(self.buffer.len());
    }

    /// The events of the last wait.
    pub fn iter(&self) -> impl Iterator<Item = Readiness> + '_ {
        const EITHER: u32 = (libc::EPOLLERR | libc::EPOLLHUP) as u32;
        const READ: u32 = libc::EPOLLIN as u32 | EITHER;
        const WRITE: u32 = libc::EPOLLOUT as u32 | EITHER;
        self.buffer[..self.filled].iter().map(|event| {
            // Copied out first: the structure is packed, and a reference into it could be misaligned.
            let (events, token) = (event.events, event.u64);
            Readiness { token, readable: events & READ != 0, writable: events & WRITE != 0 }
        })
    }

    /// Whether the last wait found nothing.
    pub fn is_empty(&self) -> bool {
        self.filled == 0
    }

    /// Forgets the events of the last wait.
    pub fn clear(&mut self) {
        self.filled = 0;
    }

    fn most(&self) -> libc::c_int {
        libc::c_int::try_from(self.limit).unwrap_or(libc::c_int::MAX)
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// One `epoll` instance.
///
/// It is `Sync`: a thread may register while another waits. What is registered, and under which token, is the reactor's
/// business. A descriptor is named by its number, as the kernel has it: its owner may have closed it, which is answered
/// by an error and harms nothing.
#[derive(Debug)]
pub struct Poller {
    epoll: OwnedFd,
    /// The process that made it. The child of a fork has the same instance, and what it undid there would be undone for
    /// the parent: so it is refused.
    process: Process,
    /// Cleared for good when the kernel does not know `epoll_pwait2` (before 5.11), or a sandbox does not (seccomp
    /// filters answer EPERM to a call that is younger than they are): deadlines are then rounded up to the millisecond.
    precise: AtomicBool,
}

impl Poller {
    /// Creates the instance, closed on exec.
    ///
    /// # Errors
    ///
    /// What `epoll_create1` reports, `EMFILE` for one; `ENOMEM`.
    pub fn new() -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        Ok(Self { epoll, process: Process::current()?, precise: AtomicBool::new(true) })
    }

    /// # Errors
    ///
    /// `NotConnected` in the child of a fork.
    fn check_owner(&self) -> io::Result<()> {
        if self.process.is_current() { Ok(()) } else { Err(inherited()) }
    }

    /// Registers `fd`.
    ///
    /// # Errors
    ///
    /// `EEXIST` if `fd` is registered, `EPERM` if it has no readiness (a regular file), `EBADF`, `ENOSPC`, `ENOMEM`;
    /// `NotConnected` in the child of a fork.
    pub fn add(&self, fd: RawFd, token: u64, interest: Interest) -> io::Result<()> {
        self.check_owner()?;
        Ok(epoll::add(&self.epoll, borrow(fd)?, EventData::new_u64(token), interest.flags())?)
    }

    /// Changes token and interest of a registered `fd`.
    ///
    /// # Errors
    ///
    /// `ENOENT` if `fd` is not registered, `EBADF` if it is not open, `NotConnected` in the child of a fork.
    pub fn modify(&self, fd: RawFd, token: u64, interest: Interest) -> io::Result<()> {
        self.check_owner()?;
        Ok(epoll::modify(&self.epoll, borrow(fd)?, EventData::new_u64(token), interest.flags())?)
    }

    /// Forgets `fd`.
    ///
    /// # Errors
    ///
    /// `ENOENT` if `fd` is not registered, `EBADF` if it is not open, `NotConnected` in the child of a fork.
    pub fn delete(&self, fd: RawFd) -> io::Result<()> {
        self.check_owner()?;
        Ok(epoll::delete(&self.epoll, borrow(fd)?)?)
    }

    /// Waits until something is ready, but no longer than `timeout`; `None` waits without a limit.
    ///
    /// Returns without events when the time is up.
    ///
    /// # Errors
    ///
    /// `EINTR` ([`io::ErrorKind::Interrupted`]) when a signal handler ran; the caller decides whether to wait again.
    /// `NotConnected` in the child of a fork, which would take events of its parent.
    pub fn wait(&self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        events.clear();
        self.check_owner()?;
        let count = match timeout {
            Some(timeout) if !timeout.is_zero() => self.wait_until(events, timeout)?,
            // Both ends of the scale are exact in milliseconds, and the older call copies no timespec.
            Some(_) => self.wait_millis(events, 0)?,
            None => self.wait_millis(events, -1)?,
        };
        events.filled = count;
        Ok(())
    }

    fn wait_until(&self, events: &mut Events, timeout: Duration) -> io::Result<usize> {
        if self.precise.load(Ordering::Relaxed) {
            match self.wait_precise(events, timeout) {
                Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => {
                    self.precise.store(false, Ordering::Relaxed);
                }
                result => return result,
            }
        }
        let millis = timeout.as_nanos().div_ceil(1_000_000);
        self.wait_millis(events, libc::c_int::try_from(millis).unwrap_or(libc::c_int::MAX))
    }

    fn wait_precise(&self, events: &mut Events, timeout: Duration) -> io::Result<usize> {
        // A timeout that time_t cannot hold is further away than the machine will live.
        let timeout = libc::timespec {
            tv_sec: libc::time_t::try_from(timeout.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        };
        // SAFETY: the kernel writes at most `limit` events to the buffer, which has room for as many and is borrowed
        // mutably for the call, and reads one timespec; the signal mask may be null.
        let count = unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                self.epoll.as_raw_fd(),
                events.buffer.as_mut_ptr(),
                events.most(),
                &raw const timeout,
                std::ptr::null::<libc::sigset_t>(),
                0usize,
            )
        };
        usize::try_from(count).map_err(|_| io::Error::last_os_error())
    }

    fn wait_millis(&self, events: &mut Events, millis: libc::c_int) -> io::Result<usize> {
        // SAFETY: the kernel writes at most `limit` events to the buffer, which has room for as many and is borrowed
        // mutably for the call.
        let count =
            unsafe { libc::epoll_wait(self.epoll.as_raw_fd(), events.buffer.as_mut_ptr(), events.most(), millis) };
        usize::try_from(count).map_err(|_| io::Error::last_os_error())
    }
}

#[cold]
fn inherited() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the event loop was made before a fork, and is the parent's")
}

/// `fd` for one `epoll_ctl`, in the form that it takes.
fn borrow<'a>(fd: RawFd) -> io::Result<BorrowedFd<'a>> {
    if fd < 0 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: not -1, the one value that a BorrowedFd must not have. Nothing but an `epoll_ctl` is done with it, which
    // answers EBADF for a descriptor that is not open.
    Ok(unsafe { BorrowedFd::borrow_raw(fd) })
}
