//! A result as `StopIteration`, and back.

use pyo3::exceptions::PyStopIteration;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

/// The error that an iterator ends with to hand `value` to the `await` it serves.
///
/// A tuple or an exception is wrapped, since raising would spread or adopt it.
pub(crate) fn with_value(value: Bound<'_, PyAny>) -> PyErr {
    let py = value.py();
    if !value.is_instance_of::<PyTuple>() && !value.is_instance_of::<pyo3::exceptions::PyBaseException>() {
        // SAFETY: both are live; the function takes its own references and sets the exception that is fetched next.
        unsafe { ffi::PyErr_SetObject(ffi::PyExc_StopIteration, value.as_ptr()) };
        return PyErr::fetch(py);
    }
    match py.get_type::<PyStopIteration>().call1((value,)) {
        Ok(exception) => PyErr::from_value(exception),
        Err(error) => error,
    }
}

/// The value that `error` carries if it is a `StopIteration`; otherwise the error itself.
pub(crate) fn into_value(py: Python<'_>, error: PyErr) -> Result<Bound<'_, PyAny>, PyErr> {
    if error.is_instance_of::<PyStopIteration>(py) {
        error.value(py).getattr(pyo3::intern!(py, "value"))
    } else {
        Err(error)
    }
}
