//! Recursion that the interpreter counts.

use pyo3::ffi;
use pyo3::prelude::*;

/// Runs `f` one level deeper. For functions that come back to themselves as often as a user's objects are nested.
///
/// # Errors
///
/// `RecursionError` if that is too deep, and what `f` fails with.
pub(crate) fn deeper<R>(py: Python<'_>, f: impl FnOnce() -> PyResult<R>) -> PyResult<R> {
    // SAFETY: the lock is held, the text is static; a failure sets an exception.
    if unsafe { ffi::Py_EnterRecursiveCall(c" in a chain of futures".as_ptr()) } != 0 {
        return Err(PyErr::fetch(py));
    }
    let result = f();
    // SAFETY: entered above.
    unsafe { ffi::Py_LeaveRecursiveCall() };
    result
}
