//! Raising as the `raise` statement does.

use pyo3::exceptions::PyBaseException;
use pyo3::ffi;
use pyo3::prelude::*;

/// The error that `raise exception` makes here: what is being handled becomes its context.
///
/// A `PyErr` made of the exception leaves the context as it is. The interpreter's own way also breaks the circle that
/// would arise where the exception is in the history of what is being handled.
pub(crate) fn raise(exception: Bound<'_, PyBaseException>) -> PyErr {
    let py = exception.py();
    // SAFETY: both are live, and an exception is an instance of its class; the function takes its own references and
    // sets the error that is fetched next.
    unsafe { ffi::PyErr_SetObject(ffi::Py_TYPE(exception.as_ptr()).cast(), exception.as_ptr()) };
    PyErr::fetch(py)
}
