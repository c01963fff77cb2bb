//! Classes that stand for asyncio's.

use pyo3::PyClass;
use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple, PyType};

use crate::asyncio;

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

/// An attribute by which asyncio's class keeps what ferrio's keeps in Rust, for programs that read it although its name
/// says that it is private.
///
/// It is no data descriptor: what a program assigns to the name hides it, as it would on asyncio.
#[pyclass(frozen, module = "ferrio._ferrio", name = "_Attribute")]
struct Attribute {
    read: Read,
}

/// How an [`Attribute`] is read of an object.
pub(crate) type Read = for<'a, 'py> fn(&'a Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>>;

#[pymethods]
impl Attribute {
    fn __get__<'py>(
        slf: &Bound<'py, Self>,
        object: Option<&Bound<'py, PyAny>>,
        _class: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        match object {
            Some(object) => (slf.get().read)(object),
            None => Ok(slf.clone().into_any()),
        }
    }
}

/// Gives the class `T` attributes that can be read and hidden.
pub(crate) fn readable<T: PyClass>(py: Python<'_>, attributes: &[(&str, Read)]) -> PyResult<()> {
    let class = py.get_type::<T>();
    attributes.iter().try_for_each(|(name, read)| class.setattr(*name, Bound::new(py, Attribute { read: *read })?))
}

/// Has `copy` and `pickle` take along what Rust keeps, under the names by which asyncio's class has it in its
/// `__dict__`: attributes of the class that can be read and set.
macro_rules! copied {
    ($class:ident, $names:expr) => {
        #[pymethods]
        impl $class {
            fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyTuple>> {
                crate::classes::reduce(slf.as_any())
            }

            fn __getstate__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
                crate::classes::state(slf.as_any(), &$names)
            }

            fn __setstate__(slf: &Bound<'_, Self>, state: &Bound<'_, PyAny>) -> PyResult<()> {
                crate::classes::set_state(slf.as_any(), state, &$names)
            }
        }
    };
}

pub(crate) use copied;

/// How an object is made again: not as `object` has it, which compares the class with what `__class__` says.
pub(crate) fn reduce<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyTuple>> {
    let py = object.py();
    let make = asyncio::module(py, "ferrio._ferrio")?.getattr(intern!(py, "_new"))?;
    let arguments = PyTuple::new(py, [object.get_type()])?.into_any();
    PyTuple::new(py, [make, arguments, object.call_method0(intern!(py, "__getstate__"))?])
}

/// A new object of `cls` before `__init__`, for what was copied or pickled.
#[pyfunction]
pub(crate) fn _new<'py>(cls: &Bound<'py, PyType>) -> PyResult<Bound<'py, PyAny>> {
    cls.call_method1(intern!(cls.py(), "__new__"), (cls,))
}

/// What `object.__getstate__` takes along, and the attributes `names` with it.
pub(crate) fn state<'py>(object: &Bound<'py, PyAny>, names: &[&str]) -> PyResult<Bound<'py, PyAny>> {
    let py = object.py();
    let plain = py.get_type::<PyAny>().call_method1(intern!(py, "__getstate__"), (object,))?;
    // With `__slots__` in a subclass there are two parts.
    let (attributes, slots) = match plain.cast::<PyTuple>() {
        Ok(both) => (both.get_item(0)?, Some(both.get_item(1)?)),
        Err(_) => (plain, None),
    };
    let attributes = if attributes.is_none() { PyDict::new(py) } else { attributes.cast_into::<PyDict>()?.copy()? };
    for name in names {
        attributes.set_item(name, object.getattr(*name)?)?;
    }
    match slots {
        Some(slots) => Ok(PyTuple::new(py, [attributes.into_any(), slots])?.into_any()),
        None => Ok(attributes.into_any()),
    }
}

/// Puts what [`state`] has taken along into an object that is new.
pub(crate) fn set_state(object: &Bound<'_, PyAny>, state: &Bound<'_, PyAny>, names: &[&str]) -> PyResult<()> {
    let py = object.py();
    let (attributes, slots) = match state.cast::<PyTuple>() {
        Ok(both) => (both.get_item(0)?, Some(both.get_item(1)?)),
        Err(_) => (state.clone(), None),
    };
    let own = object.getattr(intern!(py, "__dict__"))?;
    for (name, value) in attributes.cast_into::<PyDict>()? {
        if names.contains(&name.cast::<PyString>()?.to_str()?) {
            object.setattr(name.cast::<PyString>()?, value)?;
        } else {
            own.set_item(name, value)?;
        }
    }
    let Some(slots) = slots.filter(|slots| !slots.is_none()) else { return Ok(()) };
    for (name, value) in slots.cast_into::<PyDict>()? {
        object.setattr(name.cast_into::<PyString>().map_err(|_| PyTypeError::new_err("a slot has a name"))?, value)?;
    }
    Ok(())
}
