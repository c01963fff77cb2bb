//! Attributes that a program has given to an object, beside those of its class.

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use pyo3::{Borrowed, PyClass};

/// Whether there is one of that name: a function that is, stands in the place of the method, which is then not
/// to be passed by. Costs a look at a size where a program has given nothing. Runs Python code only for a
/// `__dict__` with keys that are no strings.
#[inline]
pub(crate) fn has<'py, T: PyClass>(object: &Bound<'py, T>, name: &Bound<'py, PyString>) -> PyResult<bool> {
    // SAFETY: the class is alive as long as the interpreter, and says where its objects have a pointer to their
    // `__dict__`, if they have one. It is null or a dictionary, and the object, which is borrowed, keeps it.
    let dict = unsafe {
        let offset = (*T::type_object_raw(object.py())).tp_dictoffset;
        if offset <= 0 {
            return Ok(false);
        }
        let dict = *object.as_ptr().byte_offset(offset).cast::<*mut ffi::PyObject>();
        if dict.is_null() || ffi::PyDict_Size(dict) == 0 {
            return Ok(false);
        }
        Borrowed::from_ptr(object.py(), dict).to_owned()
    };
    dict.cast_into::<PyDict>()?.contains(name)
}
