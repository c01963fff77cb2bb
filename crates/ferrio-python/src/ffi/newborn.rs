//! Objects that have a `__dict__` and no contents yet.
//!
//! Python 3.11 makes an object in three steps: memory, which the garbage collector follows from then on; the
//! `__dict__`, which is a new object and so may set the collector off; contents, which PyO3 writes. A collection in the
//! second step reads contents that are not there: null references in fresh memory, dangling ones in memory from a pool.
//! (Later Pythons collect between instructions only.)
//!
//! The interpreter keeps dictionaries that were given up, and makes a new one of them without asking the collector. So
//! one is given up right before the object is made.

use pyo3::PyClass;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// To be called where an object of a class with a `__dict__` is about to be made. The collector may run in it, and with
/// it any Python code.
#[inline]
pub(crate) fn has_dict(py: Python<'_>) {
    // SAFETY: a constant of the interpreter.
    if unsafe { ffi::Py_Version } < 0x030C_0000 {
        drop(PyDict::new(py));
    }
}

/// `contents` as an object, of a class with a `__dict__`.
pub(crate) fn make<T: PyClass>(py: Python<'_>, contents: impl Into<PyClassInitializer<T>>) -> PyResult<Py<T>> {
    has_dict(py);
    Py::new(py, contents)
}
