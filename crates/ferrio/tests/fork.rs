//! The child of a fork, which has its parent's loop and must not touch it.
//!
//! Alone in its file: a fork of a process in which other tests run copies the locks that they hold.

mod common;

use std::io::{self, ErrorKind};
use std::os::unix::net::UnixStream;

use common::{monotonic, secs};
use ferrio::{Async, run, run_on, sleep, unblock};
use futures_lite::{AsyncReadExt, AsyncWriteExt};

#[test]
fn an_inherited_loop_refuses_to_wait_and_a_new_one_runs() {
    let event_loop = monotonic();
    run_on(&event_loop, sleep(secs(1) / 1000)).unwrap();
    // SAFETY: the child makes no use of what other threads may have locked but the C library's memory, which can be
    // used after a fork, and ends without the harness.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let refused = run_on(&event_loop, sleep(secs(1) / 1000)).map_err(|error| error.kind());
        let of_its_own = run(async {
            let (mut near, mut far) = Async::<UnixStream>::pair()?;
            let mut byte = [0];
            near.write_all(&[7]).await?;
            far.read_exact(&mut byte).await?;
            io::Result::Ok(unblock(move || byte[0]).await)
        });
        let ran = matches!(of_its_own, Ok(Ok(7)));
        let failures = i32::from(refused != Err(ErrorKind::NotConnected)) + 2 * i32::from(!ran);
        // SAFETY: ends the process.
        unsafe { libc::_exit(failures) };
    }
    let mut status = 0;
    // SAFETY: the child is this process's, and the status is written by the call.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    assert_eq!(status, 0, "1 << 8: the loop that was inherited ran; 2 << 8: a new one did not");
    run_on(&event_loop, sleep(secs(1) / 1000)).unwrap();
}
