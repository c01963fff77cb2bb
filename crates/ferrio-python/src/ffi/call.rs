//! Vectorcalls without argument tuples.

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};

/// `callable()`.
#[inline]
pub(crate) fn call0<'py>(callable: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: a live object; returns a new reference, or null with an exception set.
    unsafe { Bound::from_owned_ptr_or_err(callable.py(), ffi::PyObject_CallNoArgs(callable.as_ptr())) }
}

/// `callable(argument)`.
#[inline]
pub(crate) fn call1<'py>(callable: &Bound<'py, PyAny>, argument: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: live objects; returns a new reference, or null with an exception set.
    unsafe {
        Bound::from_owned_ptr_or_err(callable.py(), ffi::PyObject_CallOneArg(callable.as_ptr(), argument.as_ptr()))
    }
}

/// `callable(first, second)`.
#[inline]
pub(crate) fn call2<'py>(
    callable: &Bound<'py, PyAny>,
    first: &Bound<'py, PyAny>,
    second: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    // The slot before the arguments is the callee's to use, as the flag says: a bound method puts its object there.
    let arguments = [std::ptr::null_mut(), first.as_ptr(), second.as_ptr()];
    let count = 2 | ffi::PY_VECTORCALL_ARGUMENTS_OFFSET;
    // SAFETY: live objects, and `count` of them behind the slot that the flag grants; returns as above.
    unsafe {
        let arguments = arguments.as_ptr().add(1);
        let result = ffi::PyObject_Vectorcall(callable.as_ptr(), arguments, count, std::ptr::null_mut());
        Bound::from_owned_ptr_or_err(callable.py(), result)
    }
}

/// `callable(*arguments)`.
#[inline]
pub(crate) fn call_tuple<'py>(
    callable: &Bound<'py, PyAny>,
    arguments: &Bound<'py, PyTuple>,
) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: live objects; returns a new reference, or null with an exception set.
    unsafe {
        let result = ffi::PyObject_Call(callable.as_ptr(), arguments.as_ptr(), std::ptr::null_mut());
        Bound::from_owned_ptr_or_err(callable.py(), result)
    }
}

/// `object.name(argument)`, without making the bound method.
#[inline]
pub(crate) fn method1<'py>(
    object: &Bound<'py, PyAny>,
    name: &Bound<'py, PyString>,
    argument: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let arguments = [object.as_ptr(), argument.as_ptr()];
    // SAFETY: live objects, two of them; returns a new reference, or null with an exception set.
    unsafe {
        let result = ffi::PyObject_VectorcallMethod(name.as_ptr(), arguments.as_ptr(), 2, std::ptr::null_mut());
        Bound::from_owned_ptr_or_err(object.py(), result)
    }
}

/// `object.name(first, second)`, without making the bound method.
#[inline]
pub(crate) fn method2<'py>(
    object: &Bound<'py, PyAny>,
    name: &Bound<'py, PyString>,
    first: &Bound<'py, PyAny>,
    second: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let arguments = [object.as_ptr(), first.as_ptr(), second.as_ptr()];
    // SAFETY: live objects, three of them; returns a new reference, or null with an exception set.
    unsafe {
        let result = ffi::PyObject_VectorcallMethod(name.as_ptr(), arguments.as_ptr(), 3, std::ptr::null_mut());
        Bound::from_owned_ptr_or_err(object.py(), result)
    }
}

/// `object.name()`, without making the bound method.
#[inline]
pub(crate) fn method0<'py>(object: &Bound<'py, PyAny>, name: &Bound<'py, PyString>) -> PyResult<Bound<'py, PyAny>> {
    let arguments = [object.as_ptr()];
    // SAFETY: as above, with the object alone.
    unsafe {
        let result = ffi::PyObject_VectorcallMethod(name.as_ptr(), arguments.as_ptr(), 1, std::ptr::null_mut());
        Bound::from_owned_ptr_or_err(object.py(), result)
    }
}
