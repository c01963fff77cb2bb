//! Whether this process is still the one that it was.
//!
//! To ask for the process's number would be a system call. The C library tells the child of a fork instead, of any that
//! is made through it.

use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// How many forks lie between this process and the one that loaded ferrio.
static FORKS: AtomicU32 = AtomicU32::new(0);

/// A process, as it was at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Process(u32);

impl Process {
    /// This one.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if the C library cannot remember to tell the child of a fork.
    pub(super) fn current() -> io::Result<Self> {
        static REGISTERED: OnceLock<i32> = OnceLock::new();
        match *REGISTERED.get_or_init(register) {
            0 => Ok(Self(FORKS.load(Ordering::Relaxed))),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }

    /// Whether this process is not a child of that.
    #[inline]
    pub(super) fn is_current(self) -> bool {
        self.0 == FORKS.load(Ordering::Relaxed)
    }
}

fn register() -> i32 {
    // SAFETY: the function may run in the child of a fork: it changes one number, and calls nothing. It is there as
    // long as this code is; a library that is unloaded takes its functions out of the list.
    unsafe { libc::pthread_atfork(None, None, Some(count)) }
}

unsafe extern "C" fn count() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}
