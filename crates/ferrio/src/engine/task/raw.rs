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

/// Allocates a task for `future`, whose steps go to `handle`. The first step is returned; it has gone nowhere yet.
pub(super) fn spawn<F>(
    future: F,
    registration: Registration,
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
    let body = |metadata| Body { future: Some(future), metadata, _registration: registration };
    // SAFETY:
    // 1. The body may not be `Send`: `STEP` polls and drops it on its home thread only, which is the present one, and
    //    leaks it elsewhere. Nothing else ever has a step in its hands.
    // 2. It borrows nothing but the metadata, and `schedule` is Send, Sync and 'static.
    let (step, task) = unsafe { async_task::Builder::new().metadata(metadata).spawn_unchecked(body, schedule) };
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
struct Body<'a, F> {
    /// Pinned. There until it is done.
    future: Option<F>,
    /// Of the same task.
    metadata: &'a Metadata,
    _registration: Registration,
}

impl<'a, F> Body<'a, F> {
    fn metadata(self: Pin<&mut Self>) -> &'a Metadata {
        // SAFETY: nothing is moved. A shared reference to the whole would do, but for a future that refers to itself by
        // exclusive ones, which that would end.
        unsafe { self.get_unchecked_mut() }.metadata
    }

    fn future(self: Pin<&mut Self>) -> Pin<&mut Option<F>> {
        // SAFETY: the field is pinned whenever the body is: it is only ever reached through here, never moved out of,
        // the type is `Unpin` only if the field is, and the destructor below drops it in place.
        unsafe { self.map_unchecked_mut(|body| &mut body.future) }
    }
}

impl<F: Future> Future for Body<'_, F> {
    type Output = Outcome<F::Output>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // Another thread can say so after `run_step` has looked and before this step counts as running. Its wake-up
        // finds the step on its way then, and asks for no other: so that is asked for here.
        if self.as_mut().metadata().aborted.load(Ordering::Acquire) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
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

impl<F> Drop for Body<'_, F> {
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
    use std::mem::ManuallyDrop;
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    use super::*;
    use crate::engine::{BlockingPark, Clock, EventLoop};

    /// Tells that it was dropped. Not `Send`.
    struct Local(Arc<AtomicBool>, #[expect(dead_code, reason = "keeps it from being Send")] Cell<Rc<()>>);

    impl Drop for Local {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Release);
        }
    }

    fn local_step(event_loop: &Rc<EventLoop>) -> (SendRunnable, AbortHandle, Arc<AtomicBool>) {
        let dropped = Arc::new(AtomicBool::new(false));
        let local = Local(Arc::clone(&dropped), Cell::default());
        let future = async move {
            let _local = local;
            std::future::pending::<()>().await;
        };
        let metadata = Metadata { home: thread::current().id(), aborted: AtomicBool::new(false) };
        let registration = event_loop.tasks().reserve(event_loop);
        let (step, task, abort) = spawn(future, registration, metadata, event_loop.handle().clone());
        task.detach();
        (step, abort, dropped)
    }

    fn event_loop() -> Rc<EventLoop> {
        EventLoop::new(Clock::Monotonic).unwrap()
    }

    #[test]
    fn a_step_is_dropped_at_home() {
        let (step, _, dropped) = local_step(&event_loop());
        drop(step);
        assert!(dropped.load(Ordering::Acquire));
    }

    #[test]
    fn a_step_is_neither_run_nor_dropped_in_another_thread() {
        for use_up in [|step: SendRunnable| drop(step), |step: SendRunnable| _ = step.into_inner().run()] {
            let (step, _, dropped) = local_step(&event_loop());
            thread::spawn(move || use_up(step)).join().unwrap();
            assert!(!dropped.load(Ordering::Acquire));
        }
    }

    #[test]
    fn an_abort_is_not_lost_on_a_step_that_is_about_to_run() {
        let event_loop = event_loop();
        let (step, abort, dropped) = local_step(&event_loop);
        let step = ManuallyDrop::new(step.into_inner());
        // Between the look at the flag and the run.
        abort.abort();
        // SAFETY: made by `into_runnable`; its reference is given up here.
        unsafe { Step::from_raw(step.data_if(STEP.tag).unwrap()) }.run();
        assert!(!dropped.load(Ordering::Acquire));
        event_loop.hurry();
        assert_eq!(event_loop.run_once(&mut BlockingPark).unwrap(), Flow::Continue);
        assert!(dropped.load(Ordering::Acquire));
    }
}
