//! `Event`.

use pyo3::PyTraverseError;
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyTuple};

use super::line::{Line, line_attributes};
use super::repr::describe;
use super::waiters::wake;
use crate::classes::{copied, stands_for};
use crate::coroutine::{Coroutine, Frame, Next, Outcome};
use crate::ffi::async_function::AsyncFunction;
use crate::ffi::cell::GilCopy;
use crate::ffi::method::CallArguments;
use crate::ffi::newborn;
use crate::futures::Future;

/// A flag that tasks can wait for.
#[pyclass(frozen, subclass, dict, weakref, module = "ferrio")]
pub(crate) struct Event {
    line: Line,
    value: GilCopy<bool>,
}

impl Event {
    /// An event whose flag is false.
    pub(crate) fn unset() -> Self {
        Self { line: Line::default(), value: GilCopy::new(false) }
    }

    /// Raises the flag and wakes all who wait.
    pub(crate) fn raise(&self, py: Python<'_>) -> PyResult<()> {
        if self.value.replace(py, true) {
            return Ok(());
        }
        let result = PyBool::new(py, true);
        self.line.waiters.all(py)?.iter().try_for_each(|waiter| wake(waiter, result.to_owned().into_any()).map(drop))
    }

    pub(crate) fn lower(&self, py: Python<'_>) {
        self.value.set(py, false);
    }
}

#[pymethods]
impl Event {
    #[new]
    #[pyo3(signature = (*args, **_kwargs), text_signature = "()")]
    fn __new__(args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        newborn::has_dict(args.py());
        Self::unset()
    }

    /// An event whose flag is false.
    fn __init__(&self, py: Python<'_>) {
        self.value.set(py, false);
        self.line.reset(py);
    }

    /// Whether the flag is true.
    fn is_set(&self, py: Python<'_>) -> bool {
        self.value.get(py)
    }

    /// Makes the flag true and wakes all who wait.
    fn set(&self, py: Python<'_>) -> PyResult<()> {
        self.raise(py)
    }

    /// Makes the flag false: who waits from now on waits for the next set().
    fn clear(&self, py: Python<'_>) {
        self.lower(py);
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let (py, event) = (slf.py(), slf.get());
        describe(slf, if event.is_set(py) { "set" } else { "unset" }, event.line.waiters.len(py)?)
    }

    #[getter(_value)]
    fn get_value(&self, py: Python<'_>) -> bool {
        self.value.get(py)
    }

    #[setter(_value)]
    fn set_value(&self, py: Python<'_>, value: bool) {
        self.value.set(py, value);
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.line.traverse(visit)
    }

    fn __clear__(slf: &Bound<'_, Self>) {
        slf.get().line.clear(slf.py());
    }
}

line_attributes!(Event, deque -> Bound<'py, PyAny>);
copied!(Event, ["_value", "_waiters", "_loop"]);
stands_for!(Event, event_class);

/// Waiting for the flag, by itself or as a part of another frame.
pub(crate) struct Wait {
    event: Py<Event>,
    waiter: Option<Py<Future>>,
}

impl Wait {
    #[inline]
    pub(crate) fn new(event: Py<Event>) -> Self {
        Self { event, waiter: None }
    }
}

impl Frame for Wait {
    #[inline]
    fn step<'py>(&mut self, py: Python<'py>, outcome: Outcome<'py>) -> PyResult<Next<'py>> {
        let event = self.event.bind(py);
        if let Some(waiter) = self.waiter.take() {
            event.get().line.waiters.remove(&waiter.into_bound(py))?;
            outcome?;
        } else if !event.get().value.get(py) {
            let waiter = event.get().line.join(event)?;
            self.waiter = Some(waiter.clone().unbind());
            return Ok(Next::Await(waiter.into_any()));
        }
        Ok(Next::Return(true.into_pyobject(py)?.to_owned().into_any()))
    }

    fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.event)?;
        visit.call(&self.waiter)
    }
}

/// `Event.wait`.
pub(super) struct EventWait;

impl AsyncFunction for EventWait {
    const NAME: &'static str = "Event.wait";

    const PARAMETERS: &'static str = "(self)";

    const DOC: &'static str = "Waits until the flag is true, not at all if it is. Returns True.";

    #[inline]
    fn call<'py>(py: Python<'py>, arguments: &CallArguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        let (event, _) = arguments.method::<Event, 1>(Self::NAME, ["self"])?;
        Coroutine::of(py, Self::NAME, Wait::new(event.to_owned().unbind()))
    }
}
