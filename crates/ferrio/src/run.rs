//! From a program without a loop into one, and back.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use crate::engine::{BlockingPark, Clock, EventLoop, lend};
use crate::task::spawn_on;

/// Makes a loop, runs it on this thread until `future` is done, and closes it.
///
/// The future is a task like those that it spawns, and takes its turns with them; it may borrow from the caller. Tasks
/// that are not done when it is are dropped where they wait. Closures that run in [`unblock`](crate::unblock()) are
/// waited for.
///
/// # Errors
///
/// What the making of the loop reports (`EMFILE`), or a wait.
///
/// # Panics
///
/// With the panic of `future`, after the loop was closed; and if a loop runs on this thread already.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// let greeting = String::from("hello");
/// let length = ferrio::run(async {
///     ferrio::sleep(Duration::from_millis(1)).await;
///     greeting.len()
/// })?;
/// assert_eq!(length, 5);
/// # Ok::<(), std::io::Error>(())
/// ```
#[track_caller]
pub fn run<F: Future>(future: F) -> io::Result<F::Output> {
    assert!(EventLoop::current().is_none(), "ferrio::run() was called on a thread that runs a loop already");
    let closing = Closing(EventLoop::new(Clock::Monotonic)?);
    run_on(&closing.0, future)
}

/// Closes the loop, also when a panic passes by.
struct Closing(Rc<EventLoop>);

impl Drop for Closing {
    fn drop(&mut self) {
        // So that a destructor finds the loop that its future ran on.
        let _entered = self.0.enter();
        drop(self.0.close());
        self.0.blocking().wait();
    }
}

/// Runs `event_loop` on this thread until `future` is done; other tasks stay where they are, for the next run.
///
/// For loops with a [`Clock`] of one's own, and for more than one run of a loop. Runs may be nested: in a task of the
/// loop the call blocks that task, while the others take their turns.
///
/// # Errors
///
/// What a wait reports; and if the loop is closed, before or by one of its tasks. The future is dropped then.
///
/// # Panics
///
/// With the panic of `future`.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use ferrio::engine::{Clock, EventLoop};
///
/// // A clock that jumps to the next deadline: the hour is over at once.
/// let event_loop = EventLoop::new(Clock::Stepped(0.into()))?;
/// ferrio::run_on(&event_loop, ferrio::sleep(Duration::from_secs(3600)))?;
/// assert_eq!(event_loop.clock().now(), 3_600_000_000_000);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn run_on<F: Future>(event_loop: &Rc<EventLoop>, future: F) -> io::Result<F::Output> {
    let mut output = None;
    {
        let future = pin!(async { output = Some(future.await) });
        lend(future, |lent| drive(event_loop, lent))?;
    }
    output.ok_or_else(|| io::Error::other("the loop was closed before the future was done"))
}

/// Turns the loop until `main` is done, or is not going to be.
fn drive(event_loop: &Rc<EventLoop>, main: impl Future<Output = ()> + 'static) -> io::Result<()> {
    let _entered = event_loop.enter();
    let mut main = spawn_on(event_loop, main);
    while !main.is_finished() && !event_loop.is_closed() {
        // Whoever breaks the turn asks for nothing more than that: there is no embedder here who would have to hear it.
        _ = event_loop.run_once(&mut BlockingPark)?;
    }
    // Only for its panic. Aborted, it has left no output.
    _ = Pin::new(&mut main).poll(&mut Context::from_waker(Waker::noop())) as Poll<_>;
    Ok(())
}
