//! All that is unsafe about native tasks.

use std::cell::Cell;
use std::future::Future;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::thread::{self, ThreadId};

use super::contained::contain_drop;
use super::registry::Registration;
use super::{Contained, Metadata, Outcome};
use crate::engine::{Flow, LoopHandle, Runnable, SendRunnable, Vtable};

/// One step of a task, waiting to run.
type Step = async_task::Runnable<Metadata>;

/// Allocates a task for `body`, whose steps go to `handle`. The first step is returned; it has gone nowhere yet.
pub(super) fn spawn<F>(
    body: Body<F>,
    metadata: Metadata,
    handle: LoopHandle,
) -> (SendRunnable, async_task::Task<Outcome<F::Output>, Metadata>, AbortHandle)
where
    F: Future + 'static,
    F::Output: 'static,
{
    let schedule = move |step| {
        // Refused by a closed loop, the step is dropped: `STEP.drop` looks where.
        drop(handle.push(into_runnable(step)));
    };
    // SAFETY:
    // 1. `body` may not be `Send`: `STEP` polls and drops it on its home thread only, which is the present one, and
    //    leaks it elsewhere. Nothing else ever has a step in its hands.
    // 2. `body` is 'static, and `schedule` is Send, Sync and 'static.
    let (step, task) = unsafe { async_task::Builder::new().metadata(metadata).spawn_unchecked(|_| body, schedule) };
    let abort = AbortHandle { metadata: NonNull::from(step.metadata()), waker: step.waker() };
    (into_runnable(step), task, abort)
}

static STEP: Vtable = Vtable { run: run_step, clone: clone_step, drop: drop_step, tag: 0 };

fn into_runnable(step: Step) -> SendRunnable {
    // SAFETY: the pointer comes from `into_raw` and carries the step's one reference. `run_step` and `drop_step` may be
    // called on any thread, since they check on which they are; they do not unwind.
    unsafe { SendRunnable::new(Runnable::new(step.into_raw(), &STEP)) }
}

unsafe fn run_step(data: NonNull<()>) -> Flow {
    // SAFETY: made by `into_runnable`; the caller gives up its reference.
    let step = unsafe { Step::from_raw(data) };
    if !is_home(step.metadata()) {
        // The embedder has moved the loop to another thread. The hook tells; the future cannot even be dropped here.
        _ = catch_unwind(|| {
            panic!("a native task was met by a loop that runs in another thread than it was spawned in")
        });
        mem::forget(step);
    } else if step.metadata().aborted.load(Ordering::Acquire) {
        drop(step);
    } else {
        step.run();
    }
    Flow::Continue
}

unsafe fn clone_step(_: NonNull<()>) -> NonNull<()> {
    // Nobody has a reason to: it is neither a reader's nor a signal's work.
    panic!("a native task's step runs once, and cannot be cloned");
}

unsafe fn drop_step(data: NonNull<()>) {
    // SAFETY: made by `into_runnable`; the caller gives up its reference.
    let step = unsafe { Step::from_raw(data) };
    if is_home(step.metadata()) {
        drop(step);
    } else {
        mem::forget(step);
    }
}

fn is_home(metadata: &Metadata) -> bool {
    thread_local! {
        static HERE: ThreadId = thread::current().id();
    }
    HERE.with(|here| *here == metadata.home)
}

/// Ends a task from any thread.
#[derive(Clone, Debug)]
pub(crate) struct AbortHandle {
    metadata: NonNull<Metadata>,
    /// Besides waking, it keeps the task's allocation, and so `metadata`, where it is.
    waker: Waker,
}

// SAFETY: a `Waker` is Send and Sync, and so is `Metadata`, of which this is a shared reference.
unsafe impl Send for AbortHandle {}
// SAFETY: as for `Send`.
unsafe impl Sync for AbortHandle {}

impl AbortHandle {
    pub(super) fn waker(&self) -> &Waker {
        &self.waker
    }

    pub(crate) fn abort(&self) {
        // SAFETY: `waker` is a reference to the task, and the metadata lives as long as any.
        unsafe { self.metadata.as_ref() }.aborted.store(true, Ordering::Release);
        self.waker.wake_by_ref();
    }
}

/// What a task polls: the future, dropped with care, and its place in the registry.
#[derive(Debug)]
pub(super) struct Body<F> {
    /// Pinned. There until it is done.
    future: Option<F>,
    _registration: Registration,
}

impl<F: Future> Body<F> {
    pub(super) fn new(future: F, registration: Registration) -> Self {
        Self { future: Some(future), _registration: registration }
    }
}

impl<F> Body<F> {
    fn future(self: Pin<&mut Self>) -> Pin<&mut Option<F>> {
        // SAFETY: the field is pinned whenever the body is: it is only ever reached through here, never moved out of,
        // the type is `Unpin` only if the field is, and the destructor below drops it in place.
        unsafe { self.map_unchecked_mut(|body| &mut body.future) }
    }
}

impl<F: Future> Future for Body<F> {
    type Output = Outcome<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let step = catch_unwind(AssertUnwindSafe(|| {
            let Some(future) = self.as_mut().future().as_pin_mut() else { return Poll::Pending };
            let poll = future.poll(cx);
            if poll.is_ready() {
                // Here, so that a destructor that panics counts as the task's panic.
                self.as_mut().future().set(None);
            }
            poll
        }));
        match step {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(output)) => Poll::Ready(Contained::new(Ok(output))),
            Err(payload) => Poll::Ready(Contained::new(Err(payload))),
        }
    }
}

impl<F> Drop for Body<F> {
    fn drop(&mut self) {
        // SAFETY: the body is not moved after this.
        let mut future = unsafe { Pin::new_unchecked(self) }.future();
        contain_drop(|| future.set(None));
    }
}

/// Runs `scope` with a future that polls `future`, and is done when that is done or when `scope` is left.
///
/// This is how a task comes to poll what it must not own, because it is borrowed.
pub(crate) fn lend<R>(future: Pin<&mut dyn Future<Output = ()>>, scope: impl FnOnce(Lent) -> R) -> R {
    struct TakeBack(Rc<Slot>);

    impl Drop for TakeBack {
        fn drop(&mut self) {
            self.0.set(None);
        }
    }

    // SAFETY: only the lifetime changes. The reference is in the slot, or on the stack of a `Lent::poll` further up;
    // the slot is emptied before this function is left in any way, and a poll that began inside has ended by then.
    let future: Pin<&'static mut dyn Future<Output = ()>> = unsafe { mem::transmute(future) };
    let lent = TakeBack(Rc::new(Cell::new(Some(future))));
    scope(Lent(Rc::clone(&lent.0)))
}

type Slot = Cell<Option<Pin<&'static mut dyn Future<Output = ()>>>>;

/// Polls a future that belongs to the caller of [`lend`].
pub(crate) struct Lent(Rc<Slot>);

impl Future for Lent {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(mut future) = self.0.take() else { return Poll::Ready(()) };
        let poll = future.as_mut().poll(cx);
        if poll.is_pending() {
            self.0.set(Some(future));
        }
        poll
    }
}

#[cfg(test)]
mod tests {
    //! What cannot be arranged from outside: a step in another thread's hands.

    use std::cell::Cell;
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    use super::*;
    use crate::engine::{Clock, EventLoop};

    /// Tells that it was dropped. Not `Send`.
    struct Local(Arc<AtomicBool>, #[expect(dead_code, reason = "keeps it from being Send")] Cell<Rc<()>>);

    impl Drop for Local {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Release);
        }
    }

    fn local_step() -> (SendRunnable, Arc<AtomicBool>) {
        let event_loop = EventLoop::new(Clock::Monotonic).unwrap();
        let dropped = Arc::new(AtomicBool::new(false));
        let local = Local(Arc::clone(&dropped), Cell::default());
        let future = async move {
            let _local = local;
            std::future::pending::<()>().await;
        };
        let metadata = Metadata { home: thread::current().id(), aborted: AtomicBool::new(false) };
        let body = Body::new(future, event_loop.tasks().reserve(&event_loop));
        let (step, task, _) = spawn(body, metadata, event_loop.handle().clone());
        task.detach();
        (step, dropped)
    }

    #[test]
    fn a_step_is_dropped_at_home() {
        let (step, dropped) = local_step();
        drop(step);
        assert!(dropped.load(Ordering::Acquire));
    }

    #[test]
    fn a_step_is_neither_run_nor_dropped_in_another_thread() {
        for use_up in [|step: SendRunnable| drop(step), |step: SendRunnable| _ = step.into_inner().run()] {
            let (step, dropped) = local_step();
            thread::spawn(move || use_up(step)).join().unwrap();
            assert!(!dropped.load(Ordering::Acquire));
        }
    }
}
