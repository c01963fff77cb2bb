//! The exception that is being handled, as `sys.exception()` says.

use pyo3::exceptions::PyBaseException;
use pyo3::ffi;
use pyo3::prelude::*;

/// Runs `f` as an `except` block for `exception` would: `sys.exception()` is it, and what is raised has it as context.
///
/// What is no exception is not handled.
pub(crate) fn handling<R>(exception: &Bound<'_, PyAny>, f: impl FnOnce() -> R) -> R {
    if !exception.is_instance_of::<PyBaseException>() {
        return f();
    }
    // SAFETY: the lock is held, as the token in `exception` proves; what was handled is a reference of our own, or
    // null.
    let before = unsafe { Bound::from_owned_ptr_or_opt(exception.py(), ffi::PyErr_GetHandledException()) };
    // SAFETY: an exception, of which the interpreter takes a reference of its own.
    unsafe { ffi::PyErr_SetHandledException(exception.as_ptr()) };
    let _restored = Restore(before);
    f()
}

struct Restore<'py>(Option<Bound<'py, PyAny>>);

impl Drop for Restore<'_> {
    fn drop(&mut self) {
        let before = self.0.as_ref().map_or(std::ptr::null_mut(), Bound::as_ptr);
        // SAFETY: the frame that had it handled waits for this one; an exception, None or null, as the interpreter gave
        // it.
        unsafe { ffi::PyErr_SetHandledException(before) };
    }
}
