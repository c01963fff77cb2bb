//! The unit of work: a pointer and a static table of functions.

use std::mem::ManuallyDrop;
use std::ptr::NonNull;

/// Whether the turn goes on after a [`Runnable`] has run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Flow {
    /// Run the next one.
    Continue,
    /// Leave [`EventLoop::run_once`](super::EventLoop::run_once) now; what has not run stays queued, in order.
    Break,
}

/// What can be done with the pointer of a [`Runnable`].
///
/// It plays the part of a trait object's table, but for a pointer that the implementer chooses: a reference-counted
/// object of another runtime becomes a `Runnable` without an allocation, and the same object can be queued under
/// several tables (a task's first step, its wake-up).
#[derive(Debug)]
pub struct Vtable {
    /// Runs the work and gives up the pointer's reference.
    pub run: unsafe fn(NonNull<()>) -> Flow,
    /// Takes one more reference, for work that is queued each time something is ready.
    pub clone: unsafe fn(NonNull<()>) -> NonNull<()>,
    /// Gives up the reference without running.
    pub drop: unsafe fn(NonNull<()>),
    /// A number of the embedder's choice, by which it knows its own tables; 0 for tables of this crate.
    pub tag: u32,
}

/// Something to run once, on the loop's thread.
///
/// A native task, a callback of another language and a task's step are all this, in one queue.
#[derive(Debug)]
pub struct Runnable {
    data: NonNull<()>,
    vtable: &'static Vtable,
}

impl Runnable {
    /// Makes a runnable of a pointer that carries one reference.
    ///
    /// # Safety
    ///
    /// 1. Every function of `vtable` accepts `data` for as long as the reference exists.
    /// 2. `run` and `drop` may be called on any thread that may hold the value; unless it is wrapped into a
    ///    [`SendRunnable`], that is the thread of the loop it is given to.
    /// 3. `run` does not unwind.
    #[inline]
    pub unsafe fn new(data: NonNull<()>, vtable: &'static Vtable) -> Self {
        Self { data, vtable }
    }

    /// Runs the work.
    #[inline]
    pub fn run(self) -> Flow {
        let this = ManuallyDrop::new(self);
        // SAFETY: condition 1 of `new`; the reference is given up exactly once, since `this` is never dropped.
        unsafe { (this.vtable.run)(this.data) }
    }

    /// The pointer, if the table carries `tag`: for an embedder that looks for its own work in a queue.
    pub fn data_if(&self, tag: u32) -> Option<NonNull<()>> {
        (self.vtable.tag == tag).then_some(self.data)
    }
}

impl Clone for Runnable {
    #[inline]
    fn clone(&self) -> Self {
        // SAFETY: condition 1 of `new`; the reference that is borrowed through `self` exists.
        let data = unsafe { (self.vtable.clone)(self.data) };
        Self { data, vtable: self.vtable }
    }
}

impl Drop for Runnable {
    fn drop(&mut self) {
        // SAFETY: condition 1 of `new`; `run` forgets the value, so the reference is given up exactly once.
        unsafe { (self.vtable.drop)(self.data) }
    }
}

/// A [`Runnable`] that may change threads before it runs.
#[derive(Debug)]
pub struct SendRunnable(Runnable);

// SAFETY: the condition of `SendRunnable::new`.
unsafe impl Send for SendRunnable {}

impl SendRunnable {
    /// Vouches for a runnable.
    ///
    /// # Safety
    ///
    /// `run` may be called on the loop's thread and `drop` on any thread, whichever thread made the runnable.
    #[inline]
    pub unsafe fn new(runnable: Runnable) -> Self {
        Self(runnable)
    }

    /// The runnable, for the thread that runs it.
    #[inline]
    pub fn into_inner(self) -> Runnable {
        self.0
    }
}
