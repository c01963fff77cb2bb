//! Errors of the operating system, as Python raises them.

use std::io;

use pyo3::exceptions::PyOSError;
use pyo3::intern;
use pyo3::prelude::*;

use crate::asyncio;

/// `OSError(errno, strerror)`, which is `ConnectionResetError` and its like by the number.
pub(crate) fn os_error(py: Python<'_>, error: &io::Error) -> PyErr {
    let Some(number) = error.raw_os_error() else { return PyOSError::new_err(error.to_string()) };
    os_error_of(py, number)
}

/// The same by its number.
pub(crate) fn os_error_of(py: Python<'_>, number: i32) -> PyErr {
    let text = asyncio::module(py, "os").and_then(|os| os.call_method1(intern!(py, "strerror"), (number,)));
    match text {
        // By a call: the base class picks the subclass, and a lazily made exception would not have its number checked.
        Ok(text) => match py.get_type::<PyOSError>().call1((number, text)) {
            Ok(exception) => PyErr::from_value(exception),
            Err(error) => error,
        },
        Err(error) => error,
    }
}
