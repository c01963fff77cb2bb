//! A loop as the body of one of its coroutines knows it.

use pyo3::PyTraverseError;
use pyo3::exceptions::PyRuntimeError;
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::types::{PyWeakrefMethods, PyWeakrefReference};

use super::EventLoop;

/// A weak reference to a loop: strong ones would not do, because the collector does not see what a body holds, and the
/// loop holds the task that holds the body.
pub(super) struct WeakLoop(Py<PyWeakrefReference>);

impl WeakLoop {
    pub(super) fn new(event_loop: &Bound<'_, EventLoop>) -> PyResult<Self> {
        Ok(Self(PyWeakrefReference::new(event_loop)?.unbind()))
    }

    /// The loop.
    ///
    /// # Errors
    ///
    /// `RuntimeError` if it is gone.
    pub(super) fn get<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, EventLoop>> {
        match self.0.bind(py).upgrade_as::<EventLoop>()? {
            Some(event_loop) => Ok(event_loop),
            None => Err(PyRuntimeError::new_err("Event loop is closed")),
        }
    }

    pub(super) fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.0)
    }
}
