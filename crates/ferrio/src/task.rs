//! Tasks: futures that run beside each other.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::io;
use std::panic::resume_unwind;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use crate::engine::{EventLoop, Task, current_or_panic, spawn_task};

/// Runs `future` on the current loop, beside the caller.
///
/// It is polled for the first time in the loop's next turn, in the order of spawning. Neither the future nor its output
/// need be `Send`: they stay on this thread, whoever wakes them.
///
/// The loop holds the task until it is done or the loop is closed: a task whose [`JoinHandle`] is dropped goes on.
///
/// # Panics
///
/// If no loop runs on this thread.
///
/// # Examples
///
/// ```
/// ferrio::run(async {
///     let task = ferrio::spawn(async { 6 * 7 });
///     assert_eq!(task.await, Ok(42));
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[track_caller]
pub fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + 'static,
    F::Output: 'static,
{
    spawn_on(&current_or_panic(), future)
}

/// Runs `future` on `event_loop`, which need not be running yet.
///
/// For embedders, who drive a loop themselves with [`EventLoop::run_once`]. The loop has to be run by this thread:
/// should an embedder move it to another one, the task is not run there, and what it holds is leaked, with a message
/// from the panic hook.
///
/// On a closed loop the future is dropped at once, and the handle resolves to [`Aborted`].
///
/// # Examples
///
/// ```
/// use ferrio::engine::{BlockingPark, Clock, EventLoop, Flow};
///
/// let event_loop = EventLoop::new(Clock::Monotonic)?;
/// let task = ferrio::spawn_on(&event_loop, async { println!("in a turn of my own loop") });
/// let _entered = event_loop.enter();
/// while !task.is_finished() {
///     assert_eq!(event_loop.run_once(&mut BlockingPark)?, Flow::Continue);
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn spawn_on<F>(event_loop: &Rc<EventLoop>, future: F) -> JoinHandle<F::Output>
where
    F: Future + 'static,
    F::Output: 'static,
{
    JoinHandle(spawn_task(event_loop, future))
}

/// A spawned task: a future of its output.
///
/// Dropping the handle *detaches* the task: it runs on, and its output is dropped. To end it, [`abort`](Self::abort)
/// it.
///
/// The handle may go to another thread if the output may; it can be awaited there, on any executor.
///
/// # Panics
///
/// When the task has panicked, awaiting its handle resumes that panic. If the handle is gone, the panic hook's message
/// is all that is left of it. Polling it again after it was ready panics as well.
///
/// # Cancel safety
///
/// Awaiting `&mut handle` is cancel safe: the output stays with the task until it is taken.
#[derive(Debug)]
pub struct JoinHandle<T>(Task<T>);

impl<T> JoinHandle<T> {
    pub(crate) fn new(task: Task<T>) -> Self {
        Self(task)
    }

    /// Ends the task: in place of its next step its future is dropped. Callable from any thread that has the handle.
    ///
    /// The future is dropped where it waits, as with every Rust future; it cannot refuse. Awaiting the handle waits
    /// until that has happened, and gives [`Aborted`]. A task that is done by then keeps its output, so a task that
    /// aborts itself and returns without waiting again has returned.
    ///
    /// # Examples
    ///
    /// ```
    /// ferrio::run(async {
    ///     let task = ferrio::spawn(std::future::pending::<()>());
    ///     task.abort();
    ///     assert_eq!(task.await, Err(ferrio::Aborted));
    /// })?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn abort(&self) {
        self.0.abort();
    }

    /// Whether the task is done, has panicked, or was aborted.
    pub fn is_finished(&self) -> bool {
        self.0.is_finished()
    }
}

impl<T> Future for JoinHandle<T> {
    type Output = Result<T, Aborted>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(match ready!(Pin::new(&mut self.0).poll(cx)) {
            Some(Ok(output)) => Ok(output),
            Some(Err(payload)) => resume_unwind(payload),
            None => Err(Aborted),
        })
    }
}

/// The task was aborted, or its loop closed, before it was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Aborted;

impl fmt::Display for Aborted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the task was aborted")
    }
}

impl Error for Aborted {}

impl From<Aborted> for io::Error {
    fn from(aborted: Aborted) -> Self {
        Self::other(aborted)
    }
}
