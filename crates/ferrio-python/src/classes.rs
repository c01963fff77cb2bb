//! Classes that stand for asyncio's.

use pyo3::PyClass;
use pyo3::intern;
use pyo3::prelude::*;

/// Adds a class to the module, under the short name that errors know Python's own classes by: "'Lock' object ...".
pub(crate) fn add<T: PyClass>(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let class = module.py().get_type::<T>();
    // PyO3 names a class together with its module. To assign the name is what shortens it.
    class.setattr(intern!(module.py(), "__name__"), class.name()?)?;
    module.add(class.name()?, &class)
}

/// `__class__` of a class with a namesake in asyncio: that one, for an object of this very class, so that `isinstance`
/// says yes; a subclass answers for itself.
macro_rules! stands_for {
    ($class:ident, $asyncio:ident) => {
        #[pymethods]
        impl $class {
            #[getter]
            fn __class__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
                if slf.is_exact_instance_of::<Self>() {
                    return crate::asyncio::$asyncio(slf.py()).cloned();
                }
                Ok(slf.get_type().into_any())
            }
        }
    };
}

pub(crate) use stands_for;
