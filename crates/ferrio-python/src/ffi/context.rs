//! Entering and leaving a `contextvars.Context`.

use pyo3::prelude::*;
use pyo3::{Borrowed, ffi};

/// A copy of the current context.
#[inline]
pub(crate) fn copy_current(py: Python<'_>) -> PyResult<Py<PyAny>> {
    // SAFETY: returns a new reference, or null with an exception set.
    unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyContext_CopyCurrent()).map(Bound::unbind) }
}

/// A copy of `context`.
pub(crate) fn copy(context: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
    // SAFETY: returns a new reference, or null with an exception set; it checks the type itself.
    unsafe { Bound::from_owned_ptr_or_err(context.py(), ffi::PyContext_Copy(context.as_ptr())).map(Bound::unbind) }
}

/// Whether `object` is a `contextvars.Context`.
#[inline]
pub(crate) fn is_context(object: &Bound<'_, PyAny>) -> bool {
    // SAFETY: compares the type of a live object.
    unsafe { ffi::PyContext_CheckExact(object.as_ptr()) != 0 }
}

/// Runs `f` inside `context`, which must stay alive meanwhile.
///
/// # Errors
///
/// `RuntimeError` if the context is entered already. An error on leaving can only mean that `f` left a context that it
/// did not enter; the exception of that is handed to `sys.unraisablehook`, since `f` has a result of its own.
#[inline]
pub(crate) fn run_in<R>(context: Borrowed<'_, '_, PyAny>, f: impl FnOnce() -> R) -> PyResult<R> {
    let py = context.py();
    // SAFETY: a live object; the function checks that it is a context, and sets an exception when it fails.
    if unsafe { ffi::PyContext_Enter(context.as_ptr()) } < 0 {
        return Err(PyErr::fetch(py));
    }
    let entered = Entered(context);
    let result = f();
    drop(entered);
    Ok(result)
}

/// A context that is left when this goes, be it with a panic.
struct Entered<'a, 'py>(Borrowed<'a, 'py, PyAny>);

impl Drop for Entered<'_, '_> {
    #[inline]
    fn drop(&mut self) {
        let py = self.0.py();
        // SAFETY: a live object; the function checks what it is, and sets an exception when it fails.
        if unsafe { ffi::PyContext_Exit(self.0.as_ptr()) } < 0 {
            PyErr::fetch(py).write_unraisable(py, None);
        }
    }
}
