//! Driving a coroutine without a method call.

use std::ptr;

use pyo3::ffi;
use pyo3::prelude::*;

use super::raise::{self, Raised};

/// What one step of a coroutine came to.
pub(crate) enum Step<'py> {
    /// It waits for what it yielded.
    Yielded(Bound<'py, PyAny>),
    /// It returned.
    Returned(Bound<'py, PyAny>),
    /// It raised.
    Raised(Raised<'py>),
}

impl<'py> Step<'py> {
    /// One that did not come about.
    pub(crate) fn failed(py: Python<'py>, error: PyErr) -> Self {
        Self::Raised(raise::raised(py, error))
    }

    /// What `tp_iternext` returns for it.
    #[inline(always)]
    pub(super) fn into_next(self) -> *mut ffi::PyObject {
        match self {
            Self::Yielded(yielded) => return yielded.into_ptr(),
            // An iterator that ends without an exception ends with `None`.
            Self::Returned(value) if value.is_none() => {}
            Self::Returned(value) => super::stop_iteration::raise(value),
            Self::Raised(exception) => raise::set(exception),
        }
        ptr::null_mut()
    }
}

/// Resumes `coroutine` with `None`. Runs Python code.
#[inline]
pub(crate) fn send_none<'py>(coroutine: &Bound<'py, PyAny>) -> Step<'py> {
    let py = coroutine.py();
    let mut result = ptr::null_mut();
    // SAFETY: both arguments are live; the result is a new reference unless the step raised.
    match unsafe { ffi::PyIter_Send(coroutine.as_ptr(), ffi::Py_None(), &raw mut result) } {
        // SAFETY: a new reference, as the outcome says.
        ffi::PySendResult::PYGEN_NEXT => Step::Yielded(unsafe { Bound::from_owned_ptr(py, result) }),
        // SAFETY: as above.
        ffi::PySendResult::PYGEN_RETURN => Step::Returned(unsafe { Bound::from_owned_ptr(py, result) }),
        ffi::PySendResult::PYGEN_ERROR => Step::Raised(raise::fetch(py)),
    }
}

/// Resumes `coroutine` by raising `exception` in it. Runs Python code.
pub(crate) fn throw<'py>(coroutine: &Bound<'py, PyAny>, exception: &Bound<'py, PyAny>) -> Step<'py> {
    if let Some(step) = super::send_slots::throw(coroutine, exception) {
        return step;
    }
    let py = coroutine.py();
    match coroutine.call_method1(pyo3::intern!(py, "throw"), (exception,)) {
        Ok(yielded) => Step::Yielded(yielded),
        Err(error) => match super::stop_iteration::into_value(py, error) {
            Ok(value) => Step::Returned(value),
            Err(error) => Step::failed(py, error),
        },
    }
}

/// Whether `object` is a coroutine of an `async def` function.
#[inline]
pub(crate) fn is_native(object: &Bound<'_, PyAny>) -> bool {
    // SAFETY: compares the type of a live object.
    unsafe { ffi::PyCoro_CheckExact(object.as_ptr()) != 0 }
}

/// Whether `object` is a generator.
pub(crate) fn is_generator(object: &Bound<'_, PyAny>) -> bool {
    // SAFETY: compares the type of a live object.
    unsafe { ffi::PyGen_CheckExact(object.as_ptr()) != 0 }
}

/// Whether `object` is a generator that `types.coroutine` has made one to await.
pub(crate) fn is_awaitable_generator(object: &Bound<'_, PyAny>) -> bool {
    is_generator(object)
        && object
            .getattr(pyo3::intern!(object.py(), "gi_code"))
            .and_then(|code| code.getattr(pyo3::intern!(object.py(), "co_flags"))?.extract::<i32>())
            .is_ok_and(|flags| flags & ffi::CO_ITERABLE_COROUTINE != 0)
}
