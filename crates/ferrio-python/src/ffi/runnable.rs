//! Python objects in the engine's ready queue.
//!
//! A queued object is one reference and one static table: no allocation, and nothing that is called between the queue
//! and the object's own `run`.

use std::any::Any;
use std::cell::RefCell;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;

use ferrio::engine::{Flow, Runnable, SendRunnable, Vtable};
use pyo3::gc::PyVisit;
use pyo3::panic::PanicException;
use pyo3::prelude::*;
use pyo3::{PyClass, PyTraverseError, ffi};

/// A way in which a class can be run by the loop. One class can have several (a task's step, a task's wake-up).
pub(crate) trait Job: Sized {
    type Class: PyClass;

    /// Runs the object. What Python raises and what must leave the loop is given to [`leave`].
    fn run(object: &Bound<'_, Self::Class>) -> Flow;
}

/// Marks the tables whose pointer is a Python object.
const TAG: u32 = 1;

struct Table<J>(std::marker::PhantomData<J>);

impl<J: Job> Table<J> {
    const VTABLE: &'static Vtable = &Vtable { run: run::<J>, clone, drop, tag: TAG };
}

thread_local! {
    /// What made the last [`Flow::Break`] of this thread's loop.
    static LEAVING: RefCell<Option<PyErr>> = const { RefCell::new(None) };
}

/// Queues `object` as `J`.
#[inline]
pub(crate) fn runnable<J: Job>(object: Py<J::Class>) -> Runnable {
    let Some(data) = NonNull::new(object.into_ptr()) else { unreachable!("a Py is never null") };
    // SAFETY: the table's functions take a pointer that carries a reference to an object of `J::Class`; the loop runs
    // and drops its queue with the interpreter lock held, or the drop is deferred by PyO3; `run` catches panics.
    unsafe { Runnable::new(data.cast(), Table::<J>::VTABLE) }
}

/// As [`runnable`], for the queue that other threads use.
pub(crate) fn send_runnable<J: Job>(object: Py<J::Class>) -> SendRunnable {
    // SAFETY: a `Py` may change threads, and its drop defers itself where the interpreter lock is not held.
    unsafe { SendRunnable::new(runnable::<J>(object)) }
}

/// An object that is to be queued as `J` when something has happened: a runnable before its time.
///
/// Unlike a [`Runnable`], it says what it holds, to a garbage collector and to who looks at a future's callbacks.
#[derive(Debug)]
pub(crate) struct Waiter {
    object: Py<PyAny>,
    vtable: &'static Vtable,
}

impl Waiter {
    #[inline]
    pub(crate) fn new<J: Job>(object: Py<J::Class>) -> Self {
        Self { object: object.into_any(), vtable: Table::<J>::VTABLE }
    }

    pub(crate) fn object(&self) -> &Py<PyAny> {
        &self.object
    }

    pub(crate) fn clone_ref(&self, py: Python<'_>) -> Self {
        Self { object: self.object.clone_ref(py), vtable: self.vtable }
    }

    #[inline]
    pub(crate) fn into_runnable(self) -> Runnable {
        let Some(data) = NonNull::new(self.object.into_ptr()) else { unreachable!("a Py is never null") };
        // SAFETY: as in `runnable`: the table was chosen together with the object, by its class.
        unsafe { Runnable::new(data.cast(), self.vtable) }
    }
}

/// Ends the loop's turn; the loop raises `error` to whoever runs it.
pub(crate) fn leave(error: PyErr) -> Flow {
    // An earlier error that nobody has taken can only be of a loop that ended in the same breath: the last one counts.
    let earlier = LEAVING.with(|leaving| leaving.replace(Some(error)));
    std::mem::drop(earlier);
    Flow::Break
}

/// What the last [`leave`] of this thread was given.
pub(crate) fn take_leaving() -> Option<PyErr> {
    LEAVING.with(|leaving| leaving.take())
}

/// Shows the object behind a queued runnable to the garbage collector, if it is a Python object.
pub(crate) fn traverse(runnable: &Runnable, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
    match runnable.data_if(TAG) {
        // SAFETY: the tag says that the pointer is a live object's; it is only borrowed, and forgotten.
        Some(data) => unsafe {
            let object = ManuallyDrop::new(into_py(data));
            visit.call(&*object)
        },
        None => Ok(()),
    }
}

/// The object behind a queued runnable, if it is a Python object.
pub(crate) fn object(py: Python<'_>, runnable: &Runnable) -> Option<Py<PyAny>> {
    runnable.data_if(TAG).map(|data| {
        // SAFETY: the tag says that the pointer is a live object's; the reference is the runnable's, and forgotten.
        let object = unsafe { ManuallyDrop::new(into_py(data)) };
        object.clone_ref(py)
    })
}

unsafe fn run<J: Job>(data: NonNull<()>) -> Flow {
    // SAFETY: the loop runs its queue with the interpreter lock held.
    let py = unsafe { Python::assume_attached() };
    // SAFETY: the pointer carries a reference to an object of `J::Class`, see `runnable`.
    let object = unsafe { Bound::from_owned_ptr(py, data.as_ptr().cast()).cast_into_unchecked::<J::Class>() };
    match catch_unwind(AssertUnwindSafe(|| J::run(&object))) {
        Ok(flow) => flow,
        Err(payload) => leave(panic_error(&*payload)),
    }
}

/// Runs `f` for the interpreter, to which it returns a new reference, or null with an exception set; a panic is one.
///
/// A pointer is all that crosses the catch: a `Result` with room for an error would be copied on the way, and copies of
/// what has just been written in other pieces are slow.
#[inline]
pub(super) fn trampoline(py: Python<'_>, f: impl FnOnce() -> *mut ffi::PyObject) -> *mut ffi::PyObject {
    catch_unwind(AssertUnwindSafe(f)).unwrap_or_else(|payload| {
        panic_error(&*payload).restore(py);
        std::ptr::null_mut()
    })
}

/// A panic, as the exception that Python sees.
pub(super) fn panic_error(payload: &(dyn Any + Send)) -> PyErr {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("panic in ferrio");
    PanicException::new_err(text.to_owned())
}

/// # Safety
///
/// The pointer is a live object's, and its reference is the caller's to give.
unsafe fn into_py(data: NonNull<()>) -> Py<PyAny> {
    // SAFETY: `Py` is a transparent wrapper of a non-null object pointer. Its own constructor asks for the interpreter
    // lock, which a drop of the queue may not have.
    unsafe { std::mem::transmute::<NonNull<()>, Py<PyAny>>(data) }
}

unsafe fn clone(data: NonNull<()>) -> NonNull<()> {
    // SAFETY: clones are made by the loop, which holds the interpreter lock, of a pointer to a live object.
    unsafe { ffi::Py_IncRef(data.as_ptr().cast()) };
    data
}

unsafe fn drop(data: NonNull<()>) {
    // SAFETY: the pointer carries one reference, which `Py` gives up, later if the interpreter lock is not held.
    std::mem::drop(unsafe { into_py(data) });
}
