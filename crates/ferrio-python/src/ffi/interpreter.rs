//! Which interpreter of the process this is.

use pyo3::exceptions::PyImportError;
use pyo3::ffi;
use pyo3::prelude::*;

/// What is static here, classes for one, is the main interpreter's. Most other interpreters do not load an extension
/// that does not declare itself fit for them; those that share the lock, as web servers make them, load any.
///
/// # Errors
///
/// `ImportError` in another interpreter than the main one.
pub(crate) fn check_main(_py: Python<'_>) -> PyResult<()> {
    // SAFETY: the thread is attached, so there is a current interpreter. The pointers are compared and not followed.
    let is_main = unsafe { ffi::PyInterpreterState_Get() == ffi::PyInterpreterState_Main() };
    if is_main { Ok(()) } else { Err(PyImportError::new_err("ferrio does not load in subinterpreters")) }
}
