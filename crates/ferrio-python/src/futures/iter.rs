//! The iterator behind `iter(future)`.
//!
//! `await` does not come here, see `Future.__await__`; code that drives a future by hand does, and finds `send`, `throw`
//! and `close` as on asyncio's own.

use pyo3::exceptions::PyTypeError;
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::types::PyType;
use pyo3::{PyTraverseError, intern};

use super::Future;
use crate::ffi::cell::GilCell;

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
        let future = future.into_bound(py);
        if !future.get().is_pending(py) {
            drop(self.0.take(py));
        }
        Future::__next__(&future)
    }

    fn send<'py>(&self, py: Python<'py>, _value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let none = || crate::ffi::stop_iteration::with_value(py.None().into_bound(py));
        self.__next__(py)?.ok_or_else(none)
    }

    #[pyo3(signature = (r#type, value=None, traceback=None))]
    fn throw<'py>(
        &self,
        py: Python<'py>,
        r#type: &Bound<'py, PyAny>,
        value: Option<&Bound<'py, PyAny>>,
        traceback: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if let Some(traceback) = traceback.filter(|t| !t.is_none())
            && traceback.get_type().name()?.to_str()? != "traceback"
        {
            return Err(PyTypeError::new_err("throw() third argument must be a traceback"));
        }
        let is_exception = |object: &Bound<'py, PyAny>| object.is_instance_of::<pyo3::exceptions::PyBaseException>();
        let error = match r#type.cast::<PyType>() {
            Ok(class) if class.is_subclass_of::<pyo3::exceptions::PyBaseException>()? => match value {
                Some(value) if value.is_instance(class)? => value.clone(),
                Some(value) if !value.is_none() => class.call1((value,))?,
                _ => class.call0()?,
            },
            _ if is_exception(r#type) => {
                if value.is_some_and(|value| !value.is_none()) {
                    return Err(PyTypeError::new_err("instance exception may not have a separate value"));
                }
                r#type.clone()
            }
            _ => {
                let class = r#type.get_type().name()?;
                let text = format!(
                    "exceptions must be classes deriving BaseException or instances of such a class, not {class}"
                );
                return Err(PyTypeError::new_err(text));
            }
        };
        if let Some(traceback) = traceback {
            error.setattr(intern!(py, "__traceback__"), traceback)?;
        }
        drop(self.0.take(py));
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
