//! Recursion that is counted.

use std::cell::Cell;

use pyo3::exceptions::PyRecursionError;
use pyo3::ffi;
use pyo3::prelude::*;

/// How deep a function may come back to itself. The interpreter's own count allows for frames of C that are smaller
/// than ours: Python 3.13 goes down ten thousand, which is more than a stack of eight megabytes holds.
const DEEPEST: u32 = 1000;

thread_local! {
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// Runs `f` one level deeper. For functions that come back to themselves as often as a user's objects are nested.
///
/// # Errors
///
/// `RecursionError` if that is too deep, and what `f` fails with.
pub(crate) fn deeper<R>(py: Python<'_>, f: impl FnOnce() -> PyResult<R>) -> PyResult<R> {
    let depth = DEPTH.get();
    if depth >= DEEPEST {
        return Err(PyRecursionError::new_err("maximum recursion depth exceeded in a chain of futures"));
    }
    // SAFETY: the lock is held, the text is static; a failure sets an exception.
    if unsafe { ffi::Py_EnterRecursiveCall(c" in a chain of futures".as_ptr()) } != 0 {
        return Err(PyErr::fetch(py));
    }
    DEPTH.set(depth + 1);
    let result = f();
    DEPTH.set(depth);
    // SAFETY: entered above.
    unsafe { ffi::Py_LeaveRecursiveCall() };
    result
}
