//! `await` without trampolines.
//!
//! The interpreter awaits an object by two slots, `am_await` and `tp_iternext`, once and twice for every await. These
//! fill them for a class that is its own iterator. The methods of the same names, which PyO3 makes, stay for callers
//! who look them up.

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::{Borrowed, PyClass};

use super::coroutine::Step;
use super::raise::into_pointer;
use super::runnable::trampoline;

/// A class whose objects are awaited by iterating them.
pub(crate) trait AwaitedByItself: PyClass {
    /// # Errors
    ///
    /// If the object cannot be awaited.
    fn check(this: &Bound<'_, Self>) -> PyResult<()>;

    /// Yields what is to be waited for, or ends.
    fn advance<'py>(this: &Bound<'py, Self>) -> Step<'py>;
}

/// Fills the slots of `class`, which is `T` or extends it. To be called before the class is used.
pub(crate) fn install<T: AwaitedByItself, C: PyClass>(py: Python<'_>) {
    let class = py.get_type::<C>().as_type_ptr();
    // SAFETY: PyO3 makes a heap type, whose slots may be set until it is used; the table is part of it, and there
    // because `T` has an `__await__`.
    unsafe {
        (*class).tp_iternext = Some(next::<T>);
        if let Some(table) = (*class).tp_as_async.as_mut() {
            table.am_await = Some(itself::<T>);
        }
        ffi::PyType_Modified(class);
    }
}

unsafe extern "C" fn itself<T: AwaitedByItself>(this: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: a slot of the class is called with an object of the class, and with the interpreter lock held.
    let (py, this) = unsafe {
        let py = Python::assume_attached();
        (py, Borrowed::from_ptr(py, this).cast_unchecked::<T>())
    };
    into_pointer(py, T::check(&this).map(|()| this.to_owned()))
}

unsafe extern "C" fn next<T: AwaitedByItself>(this: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: as above.
    let (py, this) = unsafe {
        let py = Python::assume_attached();
        (py, Borrowed::from_ptr(py, this).cast_unchecked::<T>())
    };
    trampoline(py, || T::advance(&this).into_next())
}
