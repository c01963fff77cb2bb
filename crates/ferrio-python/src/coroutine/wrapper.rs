//! What Python gets that asks for `__await__()`, as from the interpreter's own coroutines: an iterator, which a
//! coroutine is not.

use pyo3::PyTraverseError;
use pyo3::exceptions::PyRuntimeError;
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::Coroutine;
use super::methods::as_result;
use crate::ffi::cell::GilCell;
use crate::ffi::send_slots::Driven;

/// The iterator of a coroutine.
#[pyclass(frozen, module = "ferrio._ferrio", name = "coroutine_wrapper")]
pub(super) struct CoroutineWrapper(GilCell<Option<Py<Coroutine>>>);

impl CoroutineWrapper {
    pub(super) fn new(coroutine: Py<Coroutine>) -> Self {
        Self(GilCell::new(Some(coroutine)))
    }

    fn coroutine<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, Coroutine>> {
        let coroutine = self.0.clone_ref(py).map(|coroutine| coroutine.into_bound(py));
        // Without one only when the collector has cleared it.
        coroutine.ok_or_else(|| PyRuntimeError::new_err("cannot reuse already awaited coroutine"))
    }
}

#[pymethods]
impl CoroutineWrapper {
    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        as_result(Coroutine::advance(&self.coroutine(py)?))
    }

    /// Resumes the coroutine; only None can be sent to one that has not begun.
    fn send<'py>(&self, value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        Coroutine::send(&self.coroutine(value.py())?, value)
    }

    /// Raises an exception where the coroutine waits.
    #[pyo3(signature = (*arguments))]
    fn throw<'py>(&self, arguments: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyAny>> {
        self.coroutine(arguments.py())?.get().throw(arguments)
    }

    /// Ends the coroutine by raising GeneratorExit where it waits.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.coroutine(py)?.get().close(py)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.0.traverse(visit, |coroutine, visit| visit.call(coroutine))
    }

    fn __clear__(slf: &Bound<'_, Self>) {
        drop(slf.get().0.take(slf.py()));
    }
}
