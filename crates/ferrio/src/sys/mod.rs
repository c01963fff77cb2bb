//! What ferrio asks of the operating system, one file per facility.
//!
//! | facility | file | system calls |
//! |---|---|---|
//! | readiness, level-triggered | [`Poller`] | `epoll_create1`, `epoll_ctl`, `epoll_pwait2` (or `epoll_wait`) |
//! | waking a thread that waits | [`WakeFd`] | `eventfd` |
//! | signals as bytes in a pipe | [`SignalPipe`] | `socketpair` |
//! | the end of a child process | [`PidFd`], and the `*_child` functions without it | `pidfd_open`, `waitid`, `kill` |
//! | monotonic time | [`monotonic`] | `clock_gettime`, in the vDSO |
//! | the child of a fork | `Process` | `pthread_atfork` |
//! | receiving into two pieces of memory | `receive_scattered` | `recvmsg` |
//!
//! A platform is supported when it supplies these seven; nothing above this room names a system call of theirs.

mod child;
mod epoll;
mod fork;
mod scatter;
mod signal_pipe;
mod time;
mod wake_fd;

pub use child::{ChildStatus, PidFd, reap_child, signal_child, wait_for_child};
pub use epoll::{Events, Interest, Poller, Readiness};
pub(crate) use scatter::receive_scattered;
pub use signal_pipe::SignalPipe;
pub use time::monotonic;
pub use wake_fd::WakeFd;
