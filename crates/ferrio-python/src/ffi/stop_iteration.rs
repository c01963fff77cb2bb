//! A result as `StopIteration`, and back.

use std::ffi::{c_uint, c_void};
use std::ptr;

use pyo3::exceptions::PyStopIteration;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyTuple, PyType};

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

/// Ends an iterator with `value`, for a slot that returns to the interpreter.
#[inline]
pub(super) fn raise(value: Bound<'_, PyAny>) {
    let py = value.py();
    let exception = if is_atom(&value) { with_atom(value) } else { Brief::make(value) };
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

/// The longest `bytes` and `str` that are atoms, in bytes and characters: one may be kept for a while.
const LONGEST_ATOM: ffi::Py_ssize_t = 4096;

/// Whether nobody can see when the value goes, and there is nothing in it: what locks and events return, and most of
/// what is read from streams.
#[inline]
fn is_atom(value: &Bound<'_, PyAny>) -> bool {
    let value = value.as_ptr();
    // SAFETY: the object is alive, and its size is read when its class is known.
    unsafe {
        if ffi::PyBytes_CheckExact(value) != 0 {
            return ffi::Py_SIZE(value) <= LONGEST_ATOM;
        }
        if ffi::PyUnicode_CheckExact(value) != 0 {
            return ffi::PyUnicode_GET_LENGTH(value) <= LONGEST_ATOM;
        }
        ffi::PyBool_Check(value) != 0 || ffi::PyLong_CheckExact(value) != 0
    }
}

/// The exception for an atom: one serves again and again, and has the last value until then; unless somebody who drives
/// an iterator by hand has kept it, or put something into it. What was put into it, as the traceback by `next()`, goes
/// when the next one is made.
#[inline]
fn with_atom(value: Bound<'_, PyAny>) -> PyResult<Bound<'_, PyAny>> {
    let py = value.py();
    let Some(kept) = KEPT.take(py) else { return keep_new(value) };
    let kept = kept.into_bound(py);
    // SAFETY: the object is alive, and was made as a `StopIteration` by `make`. Nobody else has it, or the tuple of its
    // argument. What the value takes the place of is an atom, unless somebody has put something else there, and goes
    // when the object is whole.
    unsafe {
        let fields = kept.as_ptr().cast::<ffi::PyStopIterationObject>();
        if ffi::Py_REFCNT(kept.as_ptr()) != 1 || !is_bare(fields) {
            return keep_new(value);
        }
        let arguments = (*fields).args;
        if (*fields).value != value.as_ptr() || ffi::PyTuple_GET_ITEM(arguments, 0) != value.as_ptr() {
            let argument = ffi::PyTuple_GET_ITEM(arguments, 0);
            ffi::PyTuple_SET_ITEM(arguments, 0, value.clone().into_ptr());
            let former = std::mem::replace(&mut (*fields).value, value.into_ptr());
            ffi::Py_XDECREF(argument);
            ffi::Py_XDECREF(former);
        }
    }
    drop(KEPT.replace(py, Some(kept.clone().unbind())));
    Ok(kept)
}

static KEPT: GilCell<Option<Py<PyAny>>> = GilCell::new(None);

#[cold]
fn keep_new(value: Bound<'_, PyAny>) -> PyResult<Bound<'_, PyAny>> {
    let exception = make(&value)?;
    drop(KEPT.replace(value.py(), Some(exception.clone().unbind())));
    Ok(exception)
}

/// A class of `StopIteration` whose memory is used again.
///
/// An `await` looks at the value and lets the exception go, so an exception, with a tuple of arguments, is made and
/// destroyed for every result. Here both are there already, in the free list. Nothing but code that drives an iterator
/// by hand ever sees one, and it finds in it all that it would find in any other.
struct Brief;

/// How many objects are kept. One is enough, but where the end of a value awaits others.
const MOST_FREE: usize = 16;

static FREE: GilCell<Vec<Free>> = GilCell::new(Vec::new());

/// Memory whose object is gone: without a value, with `None` in its tuple of arguments, and with nothing else. The
/// collector shows the tuple to whoever asks for all objects.
struct Free(*mut ffi::PyObject);

// SAFETY: a pointer that nobody else has, used with the interpreter lock held.
unsafe impl Send for Free {}

impl Brief {
    #[inline]
    fn make(value: Bound<'_, PyAny>) -> PyResult<Bound<'_, PyAny>> {
        let py = value.py();
        let class = Self::class(py)?.as_type_ptr();
        let Some(Free(object)) = FREE.with(py, Vec::pop) else { return Self::make_new(class, value) };
        // SAFETY: memory of an object of the class, as `Free` says, whose tuple of one nobody else has.
        unsafe {
            ffi::PyObject_Init(object, class);
            let fields = object.cast::<ffi::PyStopIterationObject>();
            ffi::Py_DECREF(ffi::PyTuple_GET_ITEM((*fields).args, 0));
            ffi::PyTuple_SET_ITEM((*fields).args, 0, value.clone().into_ptr());
            (*fields).value = value.into_ptr();
            // The collector stops following a tuple in which it has found nothing to follow.
            if ffi::PyObject_GC_IsTracked((*fields).args) == 0 {
                ffi::PyObject_GC_Track((*fields).args.cast());
            }
            ffi::PyObject_GC_Track(object.cast());
            Ok(Bound::from_owned_ptr(py, object))
        }
    }

    #[cold]
    fn make_new(class: *mut ffi::PyTypeObject, value: Bound<'_, PyAny>) -> PyResult<Bound<'_, PyAny>> {
        let py = value.py();
        let arguments = PyTuple::new(py, [&value])?;
        // SAFETY: a new object of the class, whose fields are empty; none other than these two is ever needed.
        unsafe {
            let object = Bound::from_owned_ptr_or_err(py, ffi::PyType_GenericAlloc(class, 0))?;
            let fields = object.as_ptr().cast::<ffi::PyStopIterationObject>();
            (*fields).args = arguments.into_ptr();
            (*fields).value = value.into_ptr();
            Ok(object)
        }
    }

    #[inline]
    fn class(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
        static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
        CLASS.get_or_try_init(py, || Self::make_class(py)).map(|class| class.bind(py))
    }

    fn make_class(py: Python<'_>) -> PyResult<Py<PyType>> {
        let destroy: unsafe extern "C" fn(*mut ffi::PyObject) = Self::destroy;
        let mut slots = [
            ffi::PyType_Slot { slot: ffi::Py_tp_dealloc, pfunc: destroy as *mut c_void },
            ffi::PyType_Slot { slot: 0, pfunc: ptr::null_mut() },
        ];
        let mut spec = ffi::PyType_Spec {
            name: c"builtins.StopIteration".as_ptr(),
            // As in the class that it extends.
            basicsize: 0,
            itemsize: 0,
            flags: ffi::Py_TPFLAGS_DEFAULT as c_uint,
            slots: slots.as_mut_ptr(),
        };
        let base = py.get_type::<PyStopIteration>();
        // SAFETY: the specification is whole, and copied; the base is a class.
        unsafe {
            let class = ffi::PyType_FromSpecWithBases(&raw mut spec, base.as_ptr());
            Ok(Bound::from_owned_ptr_or_err(py, class)?.cast_into_unchecked::<PyType>().unbind())
        }
    }

    /// The class's `tp_dealloc`.
    unsafe extern "C" fn destroy(object: *mut ffi::PyObject) {
        // SAFETY: called by the interpreter, with its lock held, on an object of the class whose count fell to zero.
        // Its memory is in the list, with its fields empty, before what it held is given up, which runs Python code.
        unsafe {
            let py = Python::assume_attached();
            let class = ffi::Py_TYPE(object);
            let fields = object.cast::<ffi::PyStopIterationObject>();
            if is_bare(fields) && FREE.with(py, |free| free.len() < MOST_FREE) {
                ffi::PyObject_GC_UnTrack(object.cast());
                let arguments = (*fields).args;
                let argument = ffi::PyTuple_GET_ITEM(arguments, 0);
                ffi::PyTuple_SET_ITEM(arguments, 0, ffi::Py_NewRef(ffi::Py_None()));
                let value = std::mem::replace(&mut (*fields).value, ptr::null_mut());
                FREE.with(py, |free| free.push(Free(object)));
                ffi::Py_DECREF(class.cast());
                ffi::Py_XDECREF(argument);
                ffi::Py_XDECREF(value);
                return;
            }
            if let Some(destroy) = (*ffi::PyExc_StopIteration.cast::<ffi::PyTypeObject>()).tp_dealloc {
                destroy(object);
            }
            ffi::Py_DECREF(class.cast());
        }
    }
}

/// Whether there is nothing in the exception but its value and the tuple of one argument, which nobody else has.
///
/// # Safety
///
/// It is a `StopIteration`, alive or on its way out.
#[inline]
unsafe fn is_bare(exception: *const ffi::PyStopIterationObject) -> bool {
    // SAFETY: as the function's; the tuple is looked at when it is known to be one.
    unsafe {
        let arguments = (*exception).args;
        (*exception).dict.is_null()
            && (*exception).notes.is_null()
            && (*exception).traceback.is_null()
            && (*exception).context.is_null()
            && (*exception).cause.is_null()
            && (&raw const (*exception).suppress_context).cast::<u8>().read() == 0
            && !arguments.is_null()
            && ffi::Py_REFCNT(arguments) == 1
            && ffi::PyTuple_CheckExact(arguments) != 0
            && ffi::PyTuple_GET_SIZE(arguments) == 1
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
