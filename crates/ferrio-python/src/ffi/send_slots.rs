//! A coroutine's slots.
//!
//! Who drives a coroutine from C resumes it by `am_send`, the `await` of an interpreter's own coroutine by
//! `tp_iternext`, and finds it by `am_await`. These fill the three for a class whose objects are coroutines. The
//! methods of the same meaning, which PyO3 makes, stay for callers who look them up. A generator that is a coroutine
//! asks for `tp_iter`, which is filled without an `__iter__`: what looks for that takes a coroutine for no iterable.

use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::{Borrowed, PyClass};

use super::coroutine::Step;
use super::raise;
use super::runnable::trampoline;
use super::thread::attached;

/// A class whose objects are coroutines.
pub(crate) trait Driven: PyClass {
    /// Resumes the coroutine with `None`. Runs Python code.
    fn advance<'py>(this: &Bound<'py, Self>) -> Step<'py>;

    /// Resumes the coroutine by raising `failure` where it waits. Runs Python code.
    fn throw<'py>(this: &Bound<'py, Self>, failure: Bound<'py, PyAny>) -> Step<'py>;

    /// The iterator behind `yield from`.
    ///
    /// # Errors
    ///
    /// `TypeError` for who may not drive a coroutine so.
    fn iterate<'py>(this: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>>;

    /// Whether `None` is all that can be sent to it, as it has not begun.
    fn is_created(this: &Bound<'_, Self>) -> bool;
}

/// Fills the slots. To be called before the class is used.
pub(crate) fn install<T: Driven>(py: Python<'_>) {
    let class = py.get_type::<T>().as_type_ptr();
    // SAFETY: PyO3 makes a heap type, whose slots may be set until it is used; the table is part of it, and there
    // because the class has an `__await__`.
    unsafe {
        (*class).tp_iternext = Some(next::<T>);
        (*class).tp_iter = Some(iterate::<T>);
        if let Some(table) = (*class).tp_as_async.as_mut() {
            table.am_await = Some(itself);
            table.am_send = Some(send::<T>);
        }
        ffi::PyType_Modified(class);
    }
    // Set once; another interpreter's class goes the way of the method.
    _ = THROW.set(
        py,
        (class.addr(), |coroutine, failure| {
            // SAFETY: `throw` has compared the class.
            T::throw(unsafe { coroutine.cast_unchecked::<T>() }, failure)
        }),
    );
}

type Throw = for<'py> fn(&Bound<'py, PyAny>, Bound<'py, PyAny>) -> Step<'py>;

/// There is no slot for throwing: the class that has one of ours, by its address, and what to call.
static THROW: PyOnceLock<(usize, Throw)> = PyOnceLock::new();

/// Throws `failure` into `coroutine` if it is one of ours; `None` if it is not. Runs Python code.
#[inline]
pub(super) fn throw<'py>(coroutine: &Bound<'py, PyAny>, failure: &Bound<'py, PyAny>) -> Option<Step<'py>> {
    let (class, throw) = THROW.get(coroutine.py())?;
    // SAFETY: reads the class of a live object.
    let actual = unsafe { ffi::Py_TYPE(coroutine.as_ptr()) };
    (actual.addr() == *class).then(|| throw(coroutine, failure.clone()))
}

/// What happens when a value is sent to a coroutine that has not begun.
pub(crate) fn not_begun() -> PyErr {
    PyTypeError::new_err("can't send non-None value to a just-started coroutine")
}

unsafe extern "C" fn itself(this: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: a slot is called with a live object, and returns a new reference.
    unsafe { ffi::Py_NewRef(this) }
}

unsafe extern "C" fn iterate<T: Driven>(this: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: slots are called with the interpreter's lock held.
    let py = unsafe { Python::assume_attached() };
    attached(py, |py| {
        // SAFETY: a slot of the class is called with an object of the class.
        let this = unsafe { Borrowed::from_ptr(py, this).cast_unchecked::<T>() };
        trampoline(py, || raise::into_pointer(py, T::iterate(&this)))
    })
}

// Both are attached: plain Python code can be the caller, and what a frame drops is given up at once only so.

unsafe extern "C" fn next<T: Driven>(this: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: slots are called with the interpreter's lock held.
    let py = unsafe { Python::assume_attached() };
    attached(py, |py| {
        // SAFETY: a slot of the class is called with an object of the class.
        let this = unsafe { Borrowed::from_ptr(py, this).cast_unchecked::<T>() };
        trampoline(py, || T::advance(&this).into_next())
    })
}

unsafe extern "C" fn send<T: Driven>(
    this: *mut ffi::PyObject,
    value: *mut ffi::PyObject,
    result: *mut *mut ffi::PyObject,
) -> ffi::PySendResult {
    // SAFETY: slots are called with the interpreter's lock held.
    let py = unsafe { Python::assume_attached() };
    attached(py, |py| {
        // SAFETY: as above; the value is a live object.
        let (this, is_none) =
            unsafe { (Borrowed::from_ptr(py, this).cast_unchecked::<T>(), ffi::Py_IsNone(value) != 0) };
        let mut outcome = ffi::PySendResult::PYGEN_ERROR;
        let object = trampoline(py, || {
            let step = if is_none || !T::is_created(&this) { T::advance(&this) } else { Step::failed(py, not_begun()) };
            match step {
                Step::Yielded(yielded) => {
                    outcome = ffi::PySendResult::PYGEN_NEXT;
                    yielded.into_ptr()
                }
                Step::Returned(value) => {
                    outcome = ffi::PySendResult::PYGEN_RETURN;
                    value.into_ptr()
                }
                Step::Raised(exception) => {
                    raise::set(exception);
                    std::ptr::null_mut()
                }
            }
        });
        // SAFETY: the caller's place for a new reference.
        unsafe { *result = object };
        outcome
    })
}
