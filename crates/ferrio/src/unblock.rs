//! What would block the loop, in another thread.

use crate::engine::current_or_panic;

/// Runs `closure` in a thread of the loop's [pool](crate::engine::BlockingPool), and waits for what it returns.
///
/// It begins when it is first polled; [`spawn`](crate::spawn) it to have it run beside the caller. There is no thread
/// before the first call.
///
/// # Panics
///
/// With the closure's panic; when it is first polled on a thread that runs no loop, or one that is closed; and if the
/// system refuses the first thread.
///
/// # Cancel safety
///
/// Dropping it keeps a closure that has not begun from running. One that has begun cannot be stopped: it runs to its
/// end, and its result is dropped.
///
/// # Examples
///
/// ```
/// ferrio::run(async {
///     let found = ferrio::unblock(|| std::fs::metadata("/")).await;
///     assert!(found.is_ok_and(|found| found.is_dir()));
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub async fn unblock<T, F>(closure: F) -> T
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    // The loop is let go before the wait: a task that held it would keep it from being dropped.
    let submitted = current_or_panic().blocking().submit(closure);
    match submitted {
        Ok(task) => task.await,
        Err(error) => panic!("a closure could not be given to a thread: {error}"),
    }
}
