//! The iterator behind `iter(future)`.
//!
//! `await` does not come here, see `Future.__await__`; code that drives a future by hand does, and finds `send`,
//! `throw` and `close` as on asyncio's own.

use pyo3::exceptions::{PyBaseException, PyDeprecationWarning, PyTypeError};
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::types::{PyTraceback, PyTuple, PyType};
use pyo3::{PyTraverseError, intern};

use super::Future;
use crate::ffi::cell::GilCell;
use crate::ffi::stop_iteration;

/// What `iter(future)` returns.
#[pyclass(frozen, module = "ferrio._ferrio")]
pub(crate) struct FutureIter(GilCell<Option<Py<Future>>>);

impl FutureIter {
    pub(crate) fn new(future: Py<Future>) -> Self {
        Self(GilCell::new(Some(future)))
    }
}

#[pymethods]
impl FutureIter {
    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let Some(future) = self.0.clone_ref(py) else { return Ok(None) };
        // Once the future is done, its result comes every time, as from asyncio's since Python 3.14.
        Future::__next__(future.bind(py))
    }

    fn send<'py>(&self, py: Python<'py>, _value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let none = || stop_iteration::with_value(py.None().into_bound(py));
        self.__next__(py)?.ok_or_else(none)
    }

    #[pyo3(signature = (*arguments))]
    fn throw(&self, arguments: &Bound<'_, PyTuple>) -> PyResult<Py<PyAny>> {
        let error = thrown(arguments)?;
        drop(self.0.take(arguments.py()));
        Err(PyErr::from_value(error))
    }

    fn close(&self, py: Python<'_>) {
        drop(self.0.take(py));
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.0.traverse(visit, |future, visit| visit.call(future))
    }

    fn __clear__(slf: &Bound<'_, Self>) {
        drop(slf.get().0.take(slf.py()));
    }
}

/// The exception that `throw()` is asked to raise, from its one to three arguments.
pub(crate) fn thrown<'py>(arguments: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyAny>> {
    let py = arguments.py();
    let count = arguments.len();
    if let Ok(only) = arguments.get_borrowed_item(0)
        && count == 1
        && only.is_instance_of::<PyBaseException>()
    {
        return Ok(only.to_owned());
    }
    if !(1..=3).contains(&count) {
        return Err(PyTypeError::new_err(format!("throw expected at least 1 and at most 3 arguments, got {count}")));
    }
    // As the interpreter's own generators do, from the same version on.
    if count > 1 && py.version_info() >= (3, 12) {
        let category = py.get_type::<PyDeprecationWarning>();
        let text = c"the (type, exc, tb) signature of throw() is deprecated, use the single-arg signature instead.";
        PyErr::warn(py, &category, text, 1)?;
    }
    let kind = arguments.get_item(0)?;
    let optional = |index| match arguments.iter().nth(index) {
        Some(argument) if !argument.is_none() => Some(argument),
        _ => None,
    };
    let (value, traceback) = (optional(1), optional(2));
    if traceback.as_ref().is_some_and(|traceback| !traceback.is_instance_of::<PyTraceback>()) {
        return Err(PyTypeError::new_err("throw() third argument must be a traceback"));
    }
    let error = match kind.cast::<PyType>() {
        Ok(class) if class.is_subclass_of::<PyBaseException>()? => match value {
            Some(value) if value.is_instance(class)? => value,
            Some(value) => match value.cast::<PyTuple>() {
                Ok(values) => class.call1(values)?,
                Err(_) => class.call1((value,))?,
            },
            None => class.call0()?,
        },
        _ if kind.is_instance_of::<PyBaseException>() => {
            if value.is_some() {
                return Err(PyTypeError::new_err("instance exception may not have a separate value"));
            }
            kind
        }
        _ => {
            let class = kind.get_type().name()?;
            let text = "exceptions must be classes or instances deriving from BaseException, not";
            return Err(PyTypeError::new_err(format!("{text} {class}")));
        }
    };
    if let Some(traceback) = traceback {
        error.setattr(intern!(py, "__traceback__"), traceback)?;
    }
    Ok(error)
}
