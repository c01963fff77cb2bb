//! How a Rust future becomes runnables of a loop.
//!
//! | file | noun | belongs to |
//! |---|---|---|
//! | this one | [`Task`]: a spawned future, as seen by who waits for it | any thread, if the output may go there |
//! | `raw` | all that is unsafe: the vtable of a task's steps, the projection to its future, the lending of one | |
//! | [`registry`](Registry) | the tasks that are not done, so that closing a loop reaches them | the loop's thread |
//! | [`contained`](Contained) | a value whose destructor cannot unwind | its owner |
//!
//! The state of a task (scheduled, running, completed, closed, and who holds it) is `async-task`'s. What is added here:
//!
//! - **One step, one [`Runnable`](super::Runnable).** A wake-up, from whatever thread, makes a runnable and hands it to
//!   the [`LoopHandle`](super::LoopHandle); it runs in the loop's ready queue between everything else.
//! - **A future never leaves its thread.** It need not be `Send`, but its wakers may go anywhere, so a step may be in
//!   another thread's hands when the loop closes. Closing first takes hold of every task ([`Registry`]), so that their
//!   futures are dropped at home. A step that another thread is handing over in that very moment is leaked: to run its
//!   future's destructor there would be unsound, and there is no one left at home to do it.
//! - **No panic leaves a step.** The future's is stored as the task's outcome; a destructor's ends at the destructor.

mod contained;
mod raw;
mod registry;

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::AtomicBool;
use std::task::{Context, Poll};
use std::thread::{self, ThreadId};

pub(super) use contained::Contained;
pub(crate) use contained::contain_drop;
pub(crate) use raw::{AbortHandle, lend};
pub(super) use registry::Registry;

use super::EventLoop;

/// What a task came to: a value or a panic.
type Outcome<T> = Contained<thread::Result<T>>;

/// What lies beside the future, for every thread that holds some part of the task to read.
#[derive(Debug)]
struct Metadata {
    /// Where the future lives.
    home: ThreadId,
    /// The next step is to drop the future instead of polling it.
    aborted: AtomicBool,
}

/// A spawned future, as seen by who waits for it. Dropping this lets the task go on.
#[derive(Debug)]
pub(crate) struct Task<T> {
    /// There until its output has been taken.
    task: Option<async_task::FallibleTask<Outcome<T>, Metadata>>,
    abort: raw::AbortHandle,
}

/// Queues the first step of `future` on `event_loop`, which this thread has to run.
///
/// If the loop is closed, the future is dropped at once and the task is finished without an output.
pub(crate) fn spawn<F>(event_loop: &Rc<EventLoop>, future: F) -> Task<F::Output>
where
    F: Future + 'static,
    F::Output: 'static,
{
    let registration = event_loop.tasks().reserve(event_loop);
    let key = registration.key();
    let metadata = Metadata { home: thread::current().id(), aborted: AtomicBool::new(false) };
    let (step, task, abort) = raw::spawn(future, registration, metadata, event_loop.handle().clone());
    if event_loop.is_closed() {
        drop(step);
    } else {
        event_loop.tasks().set(key, abort.waker().clone());
        event_loop.push(step.into_inner());
    }
    Task { task: Some(task.fallible()), abort }
}

impl<T> Task<T> {
    /// Has the future dropped in place of its next step. A task that is done by then stays what it is.
    pub(crate) fn abort(&self) {
        self.abort.abort();
    }

    /// What ends the task without its output's type. It keeps the task's memory.
    pub(crate) fn abort_handle(&self) -> AbortHandle {
        self.abort.clone()
    }

    /// Whether the task will not run any more.
    pub(crate) fn is_finished(&self) -> bool {
        self.task.as_ref().is_none_or(async_task::FallibleTask::is_finished)
    }
}

impl<T> Future for Task<T> {
    /// `None` if the future was dropped before it was done.
    type Output = Option<thread::Result<T>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(task) = &mut self.task else { panic!("a task was polled after its output was taken") };
        let outcome = std::task::ready!(Pin::new(task).poll(cx));
        self.task = None;
        Poll::Ready(outcome.and_then(Contained::into_inner))
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            task.detach();
        }
    }
}
