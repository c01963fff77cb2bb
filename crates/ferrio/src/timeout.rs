//! A limit to how long a future may take.

use std::error::Error;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use crate::time::sleep;

/// Awaits `future`, but no longer than `duration`.
///
/// The time counts from the first poll. A future that is done when the time is up wins, and one that never has to wait
/// is not stopped by [`Duration::ZERO`], which gives any other one turn of the loop.
///
/// # Errors
///
/// [`Elapsed`] when the time is up. The future has been dropped by then, where it waited.
///
/// # Panics
///
/// When it is first polled on a thread that runs no loop, unless `future` is done at once.
///
/// # Cancel safety
///
/// Dropping it drops `future`: it is as cancel safe as that.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use ferrio::{Elapsed, timeout};
///
/// ferrio::run(async {
///     let eternity = std::future::pending::<()>();
///     assert_eq!(timeout(Duration::from_millis(1), eternity).await, Err(Elapsed));
///     assert_eq!(timeout(Duration::from_secs(1), async { 42 }).await, Ok(42));
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub async fn timeout<F: Future>(duration: Duration, future: F) -> Result<F::Output, Elapsed> {
    let mut future = pin!(future);
    let mut limit = pin!(sleep(duration));
    poll_fn(|cx| {
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Ok(output));
        }
        limit.as_mut().poll(cx).map(|()| Err(Elapsed))
    })
    .await
}

/// The time was up before the future was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Elapsed;

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the time was up")
    }
}

impl Error for Elapsed {}

impl From<Elapsed> for io::Error {
    fn from(elapsed: Elapsed) -> Self {
        Self::new(io::ErrorKind::TimedOut, elapsed)
    }
}
