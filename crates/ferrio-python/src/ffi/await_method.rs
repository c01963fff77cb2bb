//! An `__await__` that differs by who calls it.
//!
//! The interpreter's `await` uses the type's slot, Python code that calls `future.__await__()` the attribute. The two
//! are the same thing until they are told apart here.

use pyo3::PyClass;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;

/// Makes `object.__await__()` mean `iter(object)`, and leaves `await object` as it is. Subclasses that Python defines
/// go the way of the attribute. To be called once, before an object or a subclass exists.
pub(crate) fn iterate_by_hand<T: PyClass>(py: Python<'_>) -> PyResult<()> {
    let class = py.get_type::<T>().as_type_ptr();
    // SAFETY: the type is alive, and nobody uses it yet. Its dictionary is written to directly because assigning the
    // attribute would change the slot as well; the interpreter is told to forget what it may have read.
    unsafe {
        let dict = Bound::from_borrowed_ptr_or_err(py, (*class).tp_dict)?;
        let iterate = dict.get_item(intern!(py, "__iter__"))?;
        dict.set_item(intern!(py, "__await__"), iterate)?;
        ffi::PyType_Modified(class);
    }
    Ok(())
}
