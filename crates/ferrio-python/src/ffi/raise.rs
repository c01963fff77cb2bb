//! Raising as the `raise` statement does, and errors that can be looked at.

use std::ptr;

use pyo3::exceptions::PyBaseException;
use pyo3::ffi;
use pyo3::prelude::*;

/// The error that `raise exception` makes here: what is being handled becomes its context.
///
/// A `PyErr` made of the exception leaves the context as it is. The interpreter's own way also breaks the circle that
/// would arise where the exception is in the history of what is being handled.
pub(crate) fn raise(exception: Bound<'_, PyBaseException>) -> PyErr {
    let py = exception.py();
    // SAFETY: both are live, and an exception is an instance of its class; the function takes its own references and
    // sets the error that is fetched next.
    unsafe { ffi::PyErr_SetObject(ffi::Py_TYPE(exception.as_ptr()).cast(), exception.as_ptr()) };
    PyErr::fetch(py)
}

/// An exception that has been raised. To move it is to move a pointer; a `PyErr` is large, and has a lock in it.
pub(crate) type Raised<'py> = Bound<'py, PyBaseException>;

/// The exception as `raise` leaves it, when it comes from elsewhere: what is being handled here is its context.
#[inline]
pub(crate) fn in_context(exception: Raised<'_>) -> Raised<'_> {
    // SAFETY: the lock is held; a new reference to an exception, None, or null.
    let handled = unsafe { Bound::from_owned_ptr_or_opt(exception.py(), ffi::PyErr_GetHandledException()) };
    if handled.is_none_or(|handled| handled.is_none() || handled.is(&exception)) {
        return exception;
    }
    let py = exception.py();
    raised(py, raise(exception))
}

/// As [`in_context`], for one that may have been raised here before, and has its context then.
pub(crate) fn in_some_context(exception: Raised<'_>) -> Raised<'_> {
    // SAFETY: an exception; a new reference, or null.
    let context =
        unsafe { Bound::from_owned_ptr_or_opt(exception.py(), ffi::PyException_GetContext(exception.as_ptr())) };
    if context.is_some() { exception } else { in_context(exception) }
}

/// `object` as the exception that it should be; `TypeError` if it is none.
#[inline]
pub(crate) fn exception(object: Bound<'_, PyAny>) -> Raised<'_> {
    object.cast_into().unwrap_or_else(|error| {
        let object = error.into_inner();
        raised(object.py(), PyErr::from_value(object))
    })
}

/// Takes the exception that is set, and makes it if it is a class and arguments so far.
///
/// One must be set; a panic is an exception like others here.
pub(crate) fn fetch(py: Python<'_>) -> Raised<'_> {
    let (mut class, mut value, mut traceback) = (ptr::null_mut(), ptr::null_mut(), ptr::null_mut());
    // SAFETY: the lock is held and an error is set, so that class and value are not null and owned afterwards, and the
    // value is an exception.
    #[allow(deprecated, reason = "what replaces these is there from Python 3.12 on")]
    unsafe {
        ffi::PyErr_Fetch(&mut class, &mut value, &mut traceback);
        if ffi::Py_Version < 0x030C_0000 {
            ffi::PyErr_NormalizeException(&mut class, &mut value, &mut traceback);
            if !traceback.is_null() {
                ffi::PyException_SetTraceback(value, traceback);
            }
        }
        drop((Bound::from_owned_ptr_or_opt(py, class), Bound::from_owned_ptr_or_opt(py, traceback)));
        Bound::from_owned_ptr(py, value).cast_into_unchecked()
    }
}

/// Sets the exception, for the interpreter to find when it is returned to.
pub(crate) fn set(exception: Raised<'_>) {
    // SAFETY: the references that are given away are owned: the class's, the exception's, and the traceback's if there
    // is one.
    #[allow(deprecated, reason = "what replaces it is there from Python 3.12 on")]
    unsafe {
        let class = ffi::Py_NewRef(ffi::Py_TYPE(exception.as_ptr()).cast());
        let traceback = ffi::PyException_GetTraceback(exception.as_ptr());
        ffi::PyErr_Restore(class, exception.into_ptr(), traceback);
    }
}

/// What a function of the C interface returns for `result`: a new reference, or null with the error set.
#[inline]
pub(super) fn into_pointer<T>(py: Python<'_>, result: PyResult<Bound<'_, T>>) -> *mut ffi::PyObject {
    match result {
        Ok(value) => value.into_ptr(),
        Err(error) => {
            error.restore(py);
            ptr::null_mut()
        }
    }
}

/// The exception of `error`. Makes it, if there is none yet, also while the interpreter ends: see [`settled`].
pub(crate) fn raised(py: Python<'_>, error: PyErr) -> Raised<'_> {
    error.restore(py);
    fetch(py)
}

/// `error`, so that it can be looked at even while the interpreter ends. Makes the exception, if there is none yet.
///
/// What Rust code raises is a class and arguments until somebody looks. PyO3 makes the exception of these with the
/// interpreter lock given up and taken back, and panics where it cannot be taken back: that is when finalizers close
/// the last coroutines, and in a thread that has to stop meanwhile. All errors that such code looks at go through here.
pub(crate) fn settled(py: Python<'_>, error: PyErr) -> PyErr {
    raised(py, error).into()
}

/// Runs `f` with no error set, and sets the one that was set before again, whatever it is.
///
/// (`PyErr::take` goes on with a panic that it finds.)
pub(super) fn aside(_py: Python<'_>, f: impl FnOnce()) {
    let (mut class, mut value, mut traceback) = (ptr::null_mut(), ptr::null_mut(), ptr::null_mut());
    // SAFETY: the lock is held; what was fetched is given back. Errors that `f` left are overwritten.
    #[allow(deprecated, reason = "what replaces these is there from Python 3.12 on")]
    unsafe {
        ffi::PyErr_Fetch(&mut class, &mut value, &mut traceback);
        f();
        ffi::PyErr_Restore(class, value, traceback);
    }
}
