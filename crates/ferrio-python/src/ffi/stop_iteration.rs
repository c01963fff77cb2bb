//! A result as `StopIteration`, and back.

use std::ptr;

use pyo3::exceptions::PyStopIteration;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyBytes, PyTuple};

use super::cell::GilCell;

/// The error that an iterator ends with to hand `value` to the `await` it serves.
pub(crate) fn with_value(value: Bound<'_, PyAny>) -> PyErr {
    if value.is_none() {
        // As the interpreter's own: without arguments.
        return PyStopIteration::new_err(());
    }
    match make(&value) {
        Ok(exception) => PyErr::from_value(exception),
        Err(error) => error,
    }
}

/// Raises [`with_value`], for a slot that returns to the interpreter.
#[inline]
pub(super) fn raise(value: Bound<'_, PyAny>) {
    let py = value.py();
    let exception = if value.is(PyBool::new(py, true).as_any()) {
        with_true(value)
    } else if let Some(bytes) = small_bytes(&value) {
        with_small_bytes(bytes)
    } else {
        make(&value)
    };
    match exception {
        // SAFETY: the two references that are given away are owned: the class's own and that of the exception.
        #[allow(deprecated, reason = "what replaces it is there from Python 3.12 on")]
        Ok(exception) => unsafe {
            let class = ffi::Py_NewRef(ffi::Py_TYPE(exception.as_ptr()).cast());
            ffi::PyErr_Restore(class, exception.into_ptr(), ptr::null_mut());
        },
        Err(error) => error.restore(py),
    }
}

/// The exception for True, which is what locks and events return.
///
/// An `await` looks at the value and lets the exception go, so one serves again and again. Code that drives a coroutine by
/// hand may keep it, or change it: then there is another.
fn with_true(value: Bound<'_, PyAny>) -> PyResult<Bound<'_, PyAny>> {
    static KEPT: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let kept = KEPT.get_or_try_init(value.py(), || make(&value).map(Bound::unbind))?.bind(value.py());
    // SAFETY: the object is alive, and was made as a `StopIteration` by `make`.
    let is_untouched = unsafe {
        let fields = &*kept.as_ptr().cast::<ffi::PyStopIterationObject>();
        ffi::Py_REFCNT(kept.as_ptr()) == 1
            && [fields.dict, fields.notes, fields.traceback, fields.context, fields.cause].iter().all(|it| it.is_null())
            && fields.value == value.as_ptr()
    };
    if is_untouched { Ok(kept.clone()) } else { make(&value) }
}

/// Bytes of no more than this many are kept until the next ones come: a line, and no file.
const SMALL: usize = 1024;

#[inline]
fn small_bytes<'a, 'py>(value: &'a Bound<'py, PyAny>) -> Option<&'a Bound<'py, PyBytes>> {
    value.cast_exact::<PyBytes>().ok().filter(|bytes| bytes.as_bytes().len() <= SMALL)
}

/// The exception for a few bytes, which is what streams return: the last one again, with others in it, if nobody else has
/// it. What it holds lives longer than it should by that, which nobody can tell of bytes.
fn with_small_bytes<'py>(value: &Bound<'py, PyBytes>) -> PyResult<Bound<'py, PyAny>> {
    static KEPT: GilCell<Option<Py<PyAny>>> = GilCell::new(None);
    let py = value.py();
    // Taken out: what is let go below runs no Python code, but who looks here meanwhile would find half of it.
    if let Some(kept) = KEPT.take(py).map(|kept| kept.into_bound(py))
        && refill(&kept, value)
    {
        KEPT.with(py, |place| *place = Some(kept.clone().unbind()));
        return Ok(kept);
    }
    let made = make(value.as_any())?;
    drop(KEPT.replace(py, Some(made.clone().unbind())));
    Ok(made)
}

/// Puts `value` into the place of what `exception` holds, unless somebody else has it, or has changed it.
#[inline]
fn refill(exception: &Bound<'_, PyAny>, value: &Bound<'_, PyBytes>) -> bool {
    // SAFETY: `make` has made the object as a `StopIteration`, and it is alive. What is written to is reached by nobody
    // else: the exception has no other reference, and neither has its tuple of arguments, whose one item and the value
    // are the same bytes. Those that are let go are bytes, which run nothing.
    unsafe {
        let fields = exception.as_ptr().cast::<ffi::PyStopIterationObject>();
        let is_untouched = ffi::Py_REFCNT(exception.as_ptr()) == 1
            && [(*fields).dict, (*fields).notes, (*fields).traceback, (*fields).context, (*fields).cause]
                .iter()
                .all(|it| it.is_null());
        let (arguments, before) = ((*fields).args, (*fields).value);
        if !is_untouched
            || arguments.is_null()
            || before.is_null()
            || ffi::PyTuple_CheckExact(arguments) == 0
            || ffi::Py_REFCNT(arguments) != 1
            || ffi::PyTuple_GET_SIZE(arguments) != 1
            || ffi::PyTuple_GET_ITEM(arguments, 0) != before
            || ffi::PyBytes_CheckExact(before) == 0
        {
            return false;
        }
        (*fields).value = value.clone().into_ptr().cast();
        ffi::PyTuple_SET_ITEM(arguments, 0, value.clone().into_ptr());
        ffi::Py_DECREF(before);
        ffi::Py_DECREF(before);
        true
    }
}

/// `StopIteration(value)`, without a call: any value goes, also one that raising would take for arguments.
fn make<'py>(value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = value.py();
    let arguments = PyTuple::new(py, [value])?;
    // SAFETY: the class is static and makes its objects by this slot, from a tuple of arguments. What `__init__` would
    // do besides is to set `value`, which is empty so far.
    unsafe {
        let class = ffi::PyExc_StopIteration.cast::<ffi::PyTypeObject>();
        let Some(new) = (*class).tp_new else { return py.get_type::<PyStopIteration>().call1(arguments) };
        let exception = Bound::from_owned_ptr_or_err(py, new(class, arguments.as_ptr(), ptr::null_mut()))?;
        let fields = exception.as_ptr().cast::<ffi::PyStopIterationObject>();
        let empty = std::mem::replace(&mut (*fields).value, value.clone().into_ptr());
        ffi::Py_XDECREF(empty);
        Ok(exception)
    }
}

/// The value that `error` carries if it is a `StopIteration`; otherwise the error itself.
pub(crate) fn into_value(py: Python<'_>, error: PyErr) -> Result<Bound<'_, PyAny>, PyErr> {
    if error.is_instance_of::<PyStopIteration>(py) { error.value(py).getattr(intern!(py, "value")) } else { Err(error) }
}
