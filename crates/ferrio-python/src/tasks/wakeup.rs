//! The callables that stand for a task where a loop or a future is not ours.

use pyo3::PyTraverseError;
use pyo3::exceptions::PyTypeError;
use pyo3::gc::PyVisit;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::step::step_called;
use super::task::Task;
use crate::contexts::HasContext;
use crate::ffi::cell::GilCell;
use crate::ffi::raise::raised;
use crate::futures::{Future, awaited_by};

/// Takes one step of a task when it is called: what `call_soon` of a foreign loop is given.
#[pyclass(frozen, module = "ferrio._ferrio", name = "TaskStep")]
pub(crate) struct TaskStep {
    task: GilCell<Option<Py<Task>>>,
    failure: GilCell<Option<Py<PyAny>>>,
}

impl TaskStep {
    pub(super) fn new(task: Py<Task>, failure: Option<Py<PyAny>>) -> Self {
        Self { task: GilCell::new(Some(task)), failure: GilCell::new(failure) }
    }
}

#[pymethods]
impl TaskStep {
    fn __call__(&self, py: Python<'_>) -> PyResult<()> {
        let Some(task) = self.task.clone_ref(py) else { return Ok(()) };
        step_called(task.bind(py), self.failure.clone_ref(py).map(|failure| failure.into_bound(py)))
    }

    #[getter]
    fn __self__(&self, py: Python<'_>) -> Option<Py<Task>> {
        self.task.clone_ref(py)
    }

    #[getter]
    fn __qualname__(&self) -> &'static str {
        "Task.task_step"
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.task.traverse(visit, |task, visit| visit.call(task))?;
        self.failure.traverse(visit, |failure, visit| visit.call(failure))
    }

    fn __clear__(slf: &Bound<'_, Self>) {
        drop(slf.get().task.take(slf.py()));
        drop(slf.get().failure.take(slf.py()));
    }
}

/// Resumes a task with the outcome of the future it is called with: what a foreign future is given as its callback.
#[pyclass(frozen, module = "ferrio._ferrio", name = "TaskWakeup")]
pub(crate) struct TaskWakeup(GilCell<Option<Py<Task>>>);

impl TaskWakeup {
    pub(super) fn new(task: Py<Task>) -> Self {
        Self(GilCell::new(Some(task)))
    }
}

#[pymethods]
impl TaskWakeup {
    fn __call__(&self, future: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = future.py();
        let Some(task) = self.0.clone_ref(py) else { return Ok(()) };
        awaited_by::discard(future, task.bind(py).as_any())?;
        let outcome = match Future::native(future) {
            Some(future) => Future::failure(future),
            // A subclass may have a `result` of its own.
            None => match future.call_method0(intern!(py, "result")) {
                Ok(_) => Ok(None),
                Err(error) => Ok(Some(raised(py, error).into_any())),
            },
        };
        step_called(task.bind(py), outcome?)
    }

    #[getter]
    fn __self__(&self, py: Python<'_>) -> Option<Py<Task>> {
        self.0.clone_ref(py)
    }

    #[getter]
    fn __qualname__(&self) -> &'static str {
        "Task.task_wakeup"
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.0.traverse(visit, |task, visit| visit.call(task))
    }

    fn __clear__(slf: &Bound<'_, Self>) {
        drop(slf.get().0.take(slf.py()));
    }
}

/// How a waiting task shows among a future's callbacks: a callable, and the context it would be called in.
pub(crate) fn wakeup_pair<'py>(task: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyTuple>> {
    let py = task.py();
    let task = task.cast::<Task>().map_err(|_| PyTypeError::new_err("a task was expected"))?;
    let wakeup = Bound::new(py, TaskWakeup::new(task.clone().unbind()))?.into_any();
    let context = task.get().context(py)?.unwrap_or_else(|| py.None().into_bound(py));
    PyTuple::new(py, [wakeup, context])
}
