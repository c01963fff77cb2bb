//! Child processes: their end, and signals to them.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, pidfd_open, waitid};

/// What became of a child process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChildStatus {
    /// It has not ended.
    Running,
    /// It ended with this status, from 0 to 255.
    Exited(i32),
    /// This signal ended it.
    Killed(i32),
    /// It has ended, and somebody else has its status: another caller, or the kernel, which keeps none while `SIGCHLD`
    /// is ignored.
    Unknown,
}

/// A descriptor that refers to one process, and to no other that gets its number later. It is readable from the
/// process's end on.
#[derive(Debug)]
pub struct PidFd {
    fd: OwnedFd,
    pid: Pid,
}

impl PidFd {
    /// Opens one for the child with the number `pid`, closed on exec.
    ///
    /// # Errors
    ///
    /// `ESRCH` if there is no such process, `ENOSYS` before Linux 5.3, whatever a sandbox answers to a call that it
    /// does not know, `EMFILE`.
    pub fn open(pid: i32) -> io::Result<Self> {
        let pid = number(pid)?;
        Ok(Self { fd: pidfd_open(pid, PidfdFlags::empty())?, pid })
    }

    /// The number of the descriptor.
    pub fn number(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// Takes the process's status from the kernel, which then forgets the process. Does not block.
    ///
    /// # Errors
    ///
    /// What `waitid` reports, other than that there is no such child.
    pub fn reap(&self) -> io::Result<ChildStatus> {
        match reap(WaitId::PidFd(self.fd.as_fd())) {
            // Linux 5.3 has the descriptors, and cannot wait for one.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => reap(WaitId::Pid(self.pid)),
            status => status,
        }
    }

    /// Sends a signal; 0 sends none and tells whether one could be sent.
    ///
    /// # Errors
    ///
    /// `ESRCH` if the process has ended and been reaped, by whomever, `EPERM`, `EINVAL` for what is no signal.
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        let (fd, no_info) = (self.fd.as_raw_fd(), std::ptr::null::<libc::siginfo_t>());
        // SAFETY: the descriptor is open, and the structure may be null.
        match unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, signal, no_info, 0u32) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl AsFd for PidFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Blocks until the child with the number `pid` has ended. Its status is left for [`reap_child`].
///
/// # Errors
///
/// `ECHILD` if there is no such child, or no longer.
pub fn wait_for_child(pid: i32) -> io::Result<()> {
    let pid = number(pid)?;
    loop {
        match waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT) {
            Err(Errno::INTR) => {}
            result => return Ok(result.map(drop)?),
        }
    }
}

/// As [`PidFd::reap`], by the child's number.
///
/// # Errors
///
/// As there.
pub fn reap_child(pid: i32) -> io::Result<ChildStatus> {
    reap(WaitId::Pid(number(pid)?))
}

/// As [`PidFd::signal`], by the child's number, which must not have been reaped: the number may be another's then.
///
/// # Errors
///
/// As there.
pub fn signal_child(pid: i32, signal: i32) -> io::Result<()> {
    let pid = number(pid)?.as_raw_nonzero().get();
    // SAFETY: touches no memory; the number is positive, so that it means one process.
    match unsafe { libc::kill(pid, signal) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn number(pid: i32) -> io::Result<Pid> {
    // The others mean several processes, or one that is nobody's child.
    match (pid > 1).then(|| Pid::from_raw(pid)).flatten() {
        Some(pid) => Ok(pid),
        None => Err(Errno::SRCH.into()),
    }
}

fn reap(child: WaitId<'_>) -> io::Result<ChildStatus> {
    loop {
        return match waitid(child.clone(), WaitIdOptions::EXITED | WaitIdOptions::NOHANG) {
            Ok(None) => Ok(ChildStatus::Running),
            Ok(Some(status)) => match (status.exit_status(), status.terminating_signal()) {
                (Some(status), _) => Ok(ChildStatus::Exited(status)),
                (None, Some(signal)) => Ok(ChildStatus::Killed(signal)),
                (None, None) => Ok(ChildStatus::Unknown),
            },
            Err(Errno::CHILD) => Ok(ChildStatus::Unknown),
            Err(Errno::INTR) => continue,
            Err(error) => Err(error.into()),
        };
    }
}
