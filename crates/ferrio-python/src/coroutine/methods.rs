//! What Python sees of a coroutine.

use pyo3::PyTraverseError;
use pyo3::exceptions::{PyGeneratorExit, PyRuntimeError, PyStopIteration};
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::awaited::Awaited;
use super::wrapper::CoroutineWrapper;
use super::{Coroutine, Stage, code};
use crate::asyncio;
use crate::ffi::coroutine::Step;
use crate::ffi::send_slots::{Driven, not_begun};
use crate::ffi::stop_iteration;
use crate::futures::thrown;

/// What a step is to who calls a method instead of a slot.
pub(super) fn as_result(step: Step<'_>) -> PyResult<Bound<'_, PyAny>> {
    match step {
        Step::Yielded(yielded) => Ok(yielded),
        Step::Returned(value) => Err(stop_iteration::with_value(value)),
        Step::Raised(exception) => Err(exception.into()),
    }
}

#[pymethods]
impl Coroutine {
    /// For who calls it; the interpreter's `await` takes the slot.
    fn __await__(slf: Py<Self>) -> CoroutineWrapper {
        CoroutineWrapper::new(slf)
    }

    fn __next__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        as_result(Self::advance(slf))
    }

    /// Resumes the coroutine; only None can be sent to one that has not begun.
    pub(super) fn send<'py>(slf: &Bound<'py, Self>, value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        if !value.is_none() && Self::is_created(slf) {
            return Err(not_begun());
        }
        as_result(Self::advance(slf))
    }

    /// Raises an exception where the coroutine waits.
    #[pyo3(signature = (*arguments))]
    pub(super) fn throw<'py>(&self, arguments: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyAny>> {
        as_result(self.drive(arguments.py(), Some(thrown(arguments)?)))
    }

    /// Ends the coroutine by raising GeneratorExit where it waits.
    pub(super) fn close(&self, py: Python<'_>) -> PyResult<()> {
        if matches!(self.stage.get(py), Stage::Created | Stage::Finished) {
            self.finish(py);
            return Ok(());
        }
        let exit = py.get_type::<PyGeneratorExit>().call0()?;
        match self.drive(py, Some(exit)) {
            Step::Returned(_) => Ok(()),
            Step::Yielded(_) => Err(PyRuntimeError::new_err("coroutine ignored GeneratorExit")),
            Step::Raised(exception) => {
                let is_end =
                    exception.is_instance_of::<PyGeneratorExit>() || exception.is_instance_of::<PyStopIteration>();
                if is_end { Ok(()) } else { Err(exception.into()) }
            }
        }
    }

    /// The interpreter's own class of coroutines, so that `isinstance` and `inspect.iscoroutine` say yes.
    #[getter]
    fn __class__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        asyncio::native_coroutine_class(slf.py()).cloned()
    }

    #[getter]
    fn __name__(&self, py: Python<'_>) -> &'static str {
        let name = self.name.get(py);
        name.rsplit('.').next().unwrap_or(name)
    }

    #[getter]
    fn __qualname__(&self, py: Python<'_>) -> &'static str {
        self.name.get(py)
    }

    /// What the coroutine waits for.
    #[getter]
    fn cr_await(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.awaited.with(py, |awaited| match awaited {
            Some(Awaited::Future(future)) => Some(future.clone_ref(py).into_any()),
            Some(Awaited::Iterator(iterator)) => Some(iterator.clone_ref(py)),
            Some(Awaited::Turn) | None => None,
        })
    }

    #[getter]
    fn cr_running(&self, py: Python<'_>) -> bool {
        self.is_in(py, Stage::Running)
    }

    #[getter]
    fn cr_suspended(&self, py: Python<'_>) -> bool {
        self.is_in(py, Stage::Suspended)
    }

    /// What `inspect.getcoroutinestate()` returns, as Python 3.15 asks for it.
    #[getter]
    fn cr_state(&self, py: Python<'_>) -> &'static str {
        match self.stage.get(py) {
            Stage::Created => "CORO_CREATED",
            Stage::Running => "CORO_RUNNING",
            Stage::Suspended => "CORO_SUSPENDED",
            Stage::Finished => "CORO_CLOSED",
        }
    }

    /// A code object with the name of the function, and nothing in it.
    #[getter]
    fn cr_code<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        code::code_of(py, self.name.get(py))
    }

    /// A frame of that code, or None if the coroutine is finished.
    #[getter]
    fn cr_frame<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        if self.is_in(py, Stage::Finished) { Ok(None) } else { code::frame_of(py, self.name.get(py)).map(Some) }
    }

    /// None: where the coroutine was made is not remembered.
    #[getter]
    fn cr_origin(&self) -> Option<bool> {
        None
    }

    fn __repr__(slf: &Bound<'_, Self>) -> String {
        format!("<coroutine object {} at {:p}>", slf.get().name.get(slf.py()), slf.as_ptr())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.awaited.traverse(visit, |awaited, visit| match awaited {
            Some(awaited) => awaited.traverse(visit),
            None => Ok(()),
        })?;
        self.body.traverse(visit, |body, visit| match body {
            Some(body) => body.traverse(visit),
            None => Ok(()),
        })
    }

    fn __clear__(slf: &Bound<'_, Self>) {
        slf.get().finish(slf.py());
    }
}
