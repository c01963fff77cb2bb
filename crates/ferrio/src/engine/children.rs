//! What runs when a child process has ended.
//!
//! The process's end is the readiness of a [`PidFd`] in the reactor: no signal handler, which only a main thread could
//! have, and no thread. Where there are no such descriptors (an old kernel, a sandbox), or the reactor takes no more, a
//! thread of its own blocks until the process has ended. Neither takes the status: that is [`ChildWatch::reap`], called
//! by what runs. So on the loop's thread a process is either not reaped, and its number is its own, or known to be.

use std::io;
use std::thread;

use super::{Direction, EventLoop, Runnable, SendRunnable, SourceKey};
use crate::sys::{ChildStatus, PidFd, reap_child, signal_child, wait_for_child};

/// The watch for the end of one child process.
#[derive(Debug)]
pub struct ChildWatch {
    pid: i32,
    way: Way,
}

#[derive(Debug)]
enum Way {
    PidFd {
        fd: PidFd,
        key: SourceKey,
    },
    Thread,
    /// There was nothing left to watch.
    Gone,
}

/// A thread that does nothing but wait needs no more, in bytes.
const STACK: usize = 64 * 1024;

impl ChildWatch {
    /// Has `work` queued when the child with the number `pid` has ended, or at once if it has and left nothing behind.
    /// It may be queued more than once until [`end`](Self::end) is called.
    ///
    /// # Errors
    ///
    /// What the start of a thread reports, where one is needed; what the reactor reports.
    pub fn new(event_loop: &EventLoop, pid: i32, work: SendRunnable) -> io::Result<Self> {
        match Self::by_descriptor(event_loop, pid, &work) {
            Ok(watch) => Ok(watch),
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {
                event_loop.push(work.into_inner());
                Ok(Self { pid, way: Way::Gone })
            }
            // The loop is closed.
            Err(error) if error.raw_os_error().is_none() => Err(error),
            // Whatever the reason, out of descriptors for one: a thread needs nothing of the kind.
            Err(_) => Self::by_thread(event_loop, pid, work),
        }
    }

    fn by_descriptor(event_loop: &EventLoop, pid: i32, work: &SendRunnable) -> io::Result<Self> {
        let fd = PidFd::open(pid)?;
        let reactor = event_loop.reactor();
        let key = reactor.insert(fd.number());
        match reactor.watch(key, Direction::Read, work.to_inner()) {
            Ok(_) => Ok(Self { pid, way: Way::PidFd { fd, key } }),
            Err(error) => {
                drop(reactor.remove(key));
                Err(error)
            }
        }
    }

    /// [`new`](Self::new) where there are no descriptors for processes.
    ///
    /// # Errors
    ///
    /// What the start of a thread reports.
    pub fn by_thread(event_loop: &EventLoop, pid: i32, work: SendRunnable) -> io::Result<Self> {
        let handle = event_loop.handle().clone();
        let wait = move || {
            // That there is no such child any more is an end as well.
            _ = wait_for_child(pid);
            if handle.push(work).is_err() {
                // The loop is closed, and nobody is left who would reap.
                _ = reap_child(pid);
            }
        };
        thread::Builder::new().name(format!("ferrio-waitpid-{pid}")).stack_size(STACK).spawn(wait)?;
        Ok(Self { pid, way: Way::Thread })
    }

    /// The process's number.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Takes the process's status from the kernel, which then forgets the process. Does not block.
    ///
    /// # Errors
    ///
    /// What `waitid` reports, other than that there is no such child.
    pub fn reap(&self) -> io::Result<ChildStatus> {
        match &self.way {
            Way::PidFd { fd, .. } => fd.reap(),
            Way::Thread => reap_child(self.pid),
            Way::Gone => Ok(ChildStatus::Unknown),
        }
    }

    /// Sends a signal. To be called only while nobody has reaped the process; with a descriptor it never reaches
    /// another.
    ///
    /// # Errors
    ///
    /// `ESRCH` if somebody has reaped it, `EPERM`, `EINVAL` for what is no signal.
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        match &self.way {
            Way::PidFd { fd, .. } => match fd.signal(signal) {
                // A sandbox can know the one call and not the other.
                Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => signal_child(self.pid, signal),
                result => result,
            },
            Way::Thread => signal_child(self.pid, signal),
            Way::Gone => Err(io::Error::from_raw_os_error(libc::ESRCH)),
        }
    }

    /// Ends the watch, and returns what was to run. A thread that still waits goes on to.
    pub fn end(self, event_loop: &EventLoop) -> Option<Runnable> {
        match self.way {
            // Removed before the descriptor is closed.
            Way::PidFd { fd, key } => {
                let (work, _) = event_loop.reactor().remove(key);
                drop(fd);
                work
            }
            Way::Thread | Way::Gone => None,
        }
    }
}
