//! Numbers.

use std::ffi::c_int;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyFloat, PyInt};

/// The number as a float, if it is a `float`, or an `int` of 64 bits, which is what most delays are: no `__float__` is
/// called for these.
#[inline]
pub(crate) fn plain_f64(number: &Bound<'_, PyAny>) -> Option<f64> {
    if let Ok(float) = number.cast_exact::<PyFloat>() {
        return Some(float.value());
    }
    if !number.is_exact_instance_of::<PyInt>() {
        return None;
    }
    let mut overflow: c_int = 0;
    // SAFETY: it is an int, for which the conversion raises nothing.
    let value = unsafe { ffi::PyLong_AsLongLongAndOverflow(number.as_ptr(), &raw mut overflow) };
    (overflow == 0).then_some(value as f64)
}

/// The number as a float.
///
/// # Errors
///
/// `TypeError` if it is not a number, `OverflowError` if it is too large for a float, and what `__float__` raises.
#[inline]
pub(crate) fn to_f64(number: &Bound<'_, PyAny>) -> PyResult<f64> {
    plain_f64(number).map_or_else(|| number.extract(), Ok)
}
