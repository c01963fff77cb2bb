//! The unit of work: a pointer and a static table of functions.

use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::Arc;

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

/// Work without unsafe code: anything behind an [`Rc`] or an [`Arc`] becomes a [`Runnable`] by having this.
///
/// ```
/// use std::cell::Cell;
/// use std::rc::Rc;
/// use ferrio::engine::{BlockingPark, Clock, EventLoop, Flow, Runnable, Work};
///
/// struct Counter(Cell<u32>);
///
/// impl Work for Counter {
///     fn run(&self) -> Flow {
///         self.0.set(self.0.get() + 1);
///         Flow::Continue
///     }
/// }
///
/// let event_loop = EventLoop::new(Clock::Monotonic)?;
/// let counter = Rc::new(Counter(Cell::new(0)));
/// event_loop.push(Runnable::from_rc(Rc::clone(&counter)));
/// // Or a closure.
/// event_loop.push(Runnable::from_rc(Rc::new(|| Flow::Continue)));
/// assert_eq!(event_loop.run_once(&mut BlockingPark)?, Flow::Continue);
/// assert_eq!(counter.0.get(), 1);
/// # Ok::<(), std::io::Error>(())
/// ```
pub trait Work {
    /// Does the work, once for each time it was queued.
    ///
    /// A panic is reported by the panic hook and ends there; the turn goes on.
    fn run(&self) -> Flow;
}

/// A closure is called.
impl<F: Fn() -> Flow> Work for F {
    fn run(&self) -> Flow {
        self()
    }
}

/// Something to run once, on the loop's thread.
///
/// A native task, a callback of another language and a task's step are all this, in one queue.
///
/// # Panics
///
/// Cloning the step of a native task panics: a step runs once.
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

    /// Makes a runnable of work that stays on this thread.
    pub fn from_rc<W: Work + 'static>(work: Rc<W>) -> Self {
        let data = Rc::into_raw(work).cast_mut();
        // SAFETY: `into_raw` gives a pointer that is not null, with one reference, and the table is the one for it; an
        // `Rc` is not `Send`, so neither is what is made of it here. `run` does not unwind.
        unsafe { Self::new(NonNull::new_unchecked(data).cast(), &Counted::<Rc<W>>::TABLE) }
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

    /// Makes a runnable of work that any thread may hold.
    pub fn from_arc<W: Work + Send + Sync + 'static>(work: Arc<W>) -> Self {
        let data = Arc::into_raw(work).cast_mut();
        // SAFETY: as in `Runnable::from_rc`; `W` may be used and dropped on any thread.
        unsafe { Self::new(Runnable::new(NonNull::new_unchecked(data).cast(), &Counted::<Arc<W>>::TABLE)) }
    }

    /// Another reference to the runnable, where [`into_inner`](Self::into_inner) can be called.
    pub(super) fn to_inner(&self) -> Runnable {
        self.0.clone()
    }

    /// The runnable. To be called on the thread of its loop, the only one that may run it.
    #[inline]
    pub(super) fn into_inner(self) -> Runnable {
        self.0
    }
}

/// The tables of [`Runnable::from_rc`] and [`SendRunnable::from_arc`].
struct Counted<P>(PhantomData<P>);

impl<W: Work + 'static> Counted<Rc<W>> {
    const TABLE: Vtable = Vtable { run: Self::run, clone: Self::clone, drop: Self::drop, tag: 0 };

    unsafe fn run(data: NonNull<()>) -> Flow {
        // SAFETY: made by `from_rc`; the caller gives up its reference.
        let work = unsafe { Rc::from_raw(data.cast::<W>().as_ptr()) };
        contain(move || work.run())
    }

    unsafe fn clone(data: NonNull<()>) -> NonNull<()> {
        // SAFETY: made by `from_rc`; the caller keeps its reference.
        unsafe { Rc::increment_strong_count(data.cast::<W>().as_ptr()) };
        data
    }

    unsafe fn drop(data: NonNull<()>) {
        // SAFETY: made by `from_rc`; the caller gives up its reference.
        drop(unsafe { Rc::from_raw(data.cast::<W>().as_ptr()) });
    }
}

impl<W: Work + Send + Sync + 'static> Counted<Arc<W>> {
    const TABLE: Vtable = Vtable { run: Self::run, clone: Self::clone, drop: Self::drop, tag: 0 };

    unsafe fn run(data: NonNull<()>) -> Flow {
        // SAFETY: made by `from_arc`; the caller gives up its reference.
        let work = unsafe { Arc::from_raw(data.cast::<W>().as_ptr()) };
        contain(move || work.run())
    }

    unsafe fn clone(data: NonNull<()>) -> NonNull<()> {
        // SAFETY: made by `from_arc`; the caller keeps its reference.
        unsafe { Arc::increment_strong_count(data.cast::<W>().as_ptr()) };
        data
    }

    unsafe fn drop(data: NonNull<()>) {
        // SAFETY: made by `from_arc`; the caller gives up its reference.
        drop(unsafe { Arc::from_raw(data.cast::<W>().as_ptr()) });
    }
}

/// Condition 3 of [`Runnable::new`]: a panic ends in the closure, which owns the work and so drops it inside.
fn contain(work: impl FnOnce() -> Flow) -> Flow {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|payload| {
        // The hook has told of it. The payload's own destructor could panic again, so it is not given the chance.
        std::mem::forget(payload);
        Flow::Continue
    })
}
