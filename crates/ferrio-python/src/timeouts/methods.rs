//! What Python sees of a scope.

use pyo3::PyTraverseError;
use pyo3::exceptions::PyRuntimeError;
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::{Alarm, Deadline, State, Timeout};
use crate::asyncio;
use crate::ffi::newborn;
use crate::loop_ref::LoopRef;

#[pymethods]
impl Timeout {
    // What a subclass is called with is its own matter, until it calls `__init__`.
    #[new]
    #[pyo3(signature = (*args, **_kwargs), text_signature = "(when)")]
    fn __new__(args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        newborn::has_dict(args.py());
        Self::new(None)
    }

    fn __init__(&self, py: Python<'_>, when: Option<Deadline>) {
        self.state.set(py, State::Created);
        self.put_deadline(py, when);
    }

    /// The deadline in seconds on the loop's clock, or None.
    #[pyo3(name = "when")]
    fn when_method<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.deadline(py)
    }

    /// Moves the deadline to `when`, in seconds on the loop's clock, or takes it away.
    ///
    /// Raises RuntimeError if the scope has not been entered, has expired or was left.
    fn reschedule(slf: &Bound<'_, Self>, when: Option<Deadline>) -> PyResult<()> {
        let py = slf.py();
        match slf.get().state.get(py) {
            State::Entered => {}
            State::Created => return Err(PyRuntimeError::new_err("Timeout has not been entered")),
            other => {
                let text = format!("Cannot change state of {} Timeout", other.name());
                return Err(PyRuntimeError::new_err(text));
            }
        }
        slf.get().put_deadline(py, when);
        let alarm = slf.get().inner.with(py, |inner| inner.alarm.take());
        if let Some(alarm) = alarm {
            alarm.cancel(py)?;
        }
        if slf.get().when.get(py).is_none() { Ok(()) } else { Self::set_alarm(slf, &LoopRef::running(py)?) }
    }

    /// Whether the deadline came before the scope was left.
    fn expired(&self, py: Python<'_>) -> bool {
        matches!(self.state.get(py), State::Expiring | State::Expired)
    }

    fn _on_timeout(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::expire(slf)
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let state = self.state.get(py);
        let name = state.name();
        if state != State::Entered {
            return Ok(format!("<Timeout [{name}]>"));
        }
        let when = match self.deadline(py) {
            Some(when) => asyncio::module(py, "builtins")?.call_method1("round", (when, 3))?.repr()?.to_string(),
            None => "None".to_owned(),
        };
        Ok(format!("<Timeout [{name}] when={when}>"))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.inner.traverse(visit, |inner, visit| {
            visit.call(&inner.task)?;
            visit.call(&inner.given)?;
            match &inner.alarm {
                Some(Alarm::Timer(timer)) => timer.traverse(visit),
                Some(Alarm::Queued) | None => Ok(()),
            }
        })
    }

    fn __clear__(slf: &Bound<'_, Self>) {
        drop(slf.get().inner.take(slf.py()));
    }
}
