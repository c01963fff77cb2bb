//! Waiting for a child process.

use std::io;
use std::process::{Child, ExitStatus};

use crate::io::Async;
use crate::sys::{PidFd, wait_for_child};
use crate::unblock::unblock;

/// Waits until `child` has ended, and reaps it, as [`Child::wait`] does without blocking the loop.
///
/// Its standard input is closed first, if it is still there. Its output is to be read beside this, if it is a pipe: a
/// child that finds the pipe full does not end.
///
/// # Errors
///
/// What the wait reports: `ECHILD` if somebody else has reaped the child, `EMFILE` if there is no descriptor left.
///
/// # Panics
///
/// If the child has not ended, and no loop runs on this thread.
///
/// # Cancel safety
///
/// Dropping it loses nothing, and leaves the child running. (Where the system has no descriptors for processes, before
/// Linux 5.3 or in a sandbox, a thread goes on waiting.)
///
/// # Examples
///
/// ```
/// use std::process::{Command, Stdio};
/// use ferrio::{Async, exit_status};
/// use futures_lite::AsyncReadExt;
///
/// # fn main() -> std::io::Result<()> {
/// ferrio::run(async {
///     let mut child = Command::new("echo").arg("hello").stdout(Stdio::piped()).spawn()?;
///     let mut said = String::new();
///     if let Some(stdout) = child.stdout.take() {
///         Async::new(stdout)?.read_to_string(&mut said).await?;
///     }
///     assert!(exit_status(&mut child).await?.success());
///     assert_eq!(said, "hello\n");
///     Ok(())
/// })?
/// # }
/// ```
pub async fn exit_status(child: &mut Child) -> io::Result<ExitStatus> {
    drop(child.stdin.take());
    if let Some(status) = child.try_wait()? {
        return Ok(status);
    }
    let Ok(pid) = i32::try_from(child.id()) else { return Err(io::Error::from_raw_os_error(libc::ESRCH)) };
    let process = match PidFd::open(pid) {
        Ok(process) => Async::new(process)?,
        Err(error) if error.raw_os_error() == Some(libc::EMFILE) => return Err(error),
        Err(_) => {
            unblock(move || wait_for_child(pid)).await?;
            return child.wait();
        }
    };
    loop {
        process.readable().await?;
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
    }
}
