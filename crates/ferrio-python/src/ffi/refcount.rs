//! How many references an object has.

use pyo3::ffi;
use pyo3::prelude::*;

/// Whether the caller's reference is the only strong one.
///
/// References that the interpreter's stack borrows are not counted: ask this only of objects that no Python function
/// has.
#[inline]
pub(crate) fn is_only_reference(object: &Bound<'_, PyAny>) -> bool {
    count(object) == 1
}

/// How many strong references there are, with the same reservation.
#[inline]
pub(crate) fn count(object: &Bound<'_, PyAny>) -> ffi::Py_ssize_t {
    // SAFETY: a live object.
    unsafe { ffi::Py_REFCNT(object.as_ptr()) }
}
