//! The TimeoutError, and what becomes of other exceptions that a scope is left with.

use pyo3::exceptions::{PyBaseExceptionGroup, PyException, PyTimeoutError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::asyncio;
use crate::ffi::raise::settled;

/// Raises TimeoutError for a scope that is left with its own cancellation; puts one into the history of any other
/// exception that the cancellation led to.
pub(super) fn time_out(failure: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = failure.py();
    if asyncio::cancelled_error::is(failure) {
        let error = settled(py, PyTimeoutError::new_err(()));
        error.set_cause(py, Some(PyErr::from_value(failure.clone())));
        error.value(py).setattr(intern!(py, "__context__"), failure)?;
        return Err(error);
    }
    explain(failure)?;
    if failure.is_instance_of::<PyBaseExceptionGroup>() && failure.is_instance_of::<PyException>() {
        for error in failure.getattr(intern!(py, "exceptions"))?.cast::<PyTuple>()? {
            explain(&error)?;
        }
    }
    Ok(())
}

/// Puts a TimeoutError between the exception and the CancelledError in whose handling it was raised.
fn explain(error: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = error.py();
    let mut later = error.clone();
    loop {
        let earlier = later.getattr(intern!(py, "__context__"))?;
        if earlier.is_none() {
            return Ok(());
        }
        if asyncio::cancelled_error::is(&earlier) {
            let timeout = settled(py, PyTimeoutError::new_err(()));
            timeout.set_cause(py, Some(PyErr::from_value(earlier.clone())));
            timeout.value(py).setattr(intern!(py, "__context__"), &earlier)?;
            return later.setattr(intern!(py, "__context__"), timeout.value(py));
        }
        later = earlier;
    }
}
