//! What ferrio asks of the operating system, one file per facility.
//!
//! | facility | file | system calls |
//! |---|---|---|
//! | readiness, level-triggered | [`Poller`] | `epoll_create1`, `epoll_ctl`, `epoll_pwait2` (or `epoll_wait`) |
//! | waking a thread that waits | [`WakeFd`] | `eventfd` |
//! | signals as bytes in a pipe | [`SignalPipe`] | `socketpair` |
//! | monotonic time | [`monotonic`] | `clock_gettime`, in the vDSO |
//!
//! A platform is supported when it supplies these four; nothing above this room names a system call of theirs.

mod epoll;
mod signal_pipe;
mod time;
mod wake_fd;

pub use epoll::{Events, Interest, Poller, Readiness};
pub use signal_pipe::SignalPipe;
pub use time::monotonic;
pub use wake_fd::WakeFd;
