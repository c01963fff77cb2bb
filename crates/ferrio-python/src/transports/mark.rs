//! The sizes at which a producer pauses and goes on, as programs give them.

use pyo3::prelude::*;
use pyo3::types::{PyFloat, PyInt};

/// A size in bytes; a larger one than there is memory means as much as the largest, and the part of a byte nothing.
///
/// # Errors
///
/// `TypeError` for what is no number.
pub(crate) fn mark(value: &Bound<'_, PyAny>) -> PyResult<Option<i64>> {
    if value.is_none() {
        return Ok(None);
    }
    if let Ok(float) = value.cast::<PyFloat>() {
        // Saturating; what is no number at all is in no order, and becomes a mark that is refused.
        let float = float.value();
        return Ok(Some(if float.is_nan() { -1 } else { float.floor() as i64 }));
    }
    value.extract().map(Some).or_else(|error| match value.cast::<PyInt>() {
        Ok(int) if int.gt(0)? => Ok(Some(i64::MAX)),
        Ok(_) => Ok(Some(i64::MIN)),
        Err(_) => Err(error),
    })
}
