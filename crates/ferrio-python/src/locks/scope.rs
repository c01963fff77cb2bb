//! `async with`: what it is given, and how the classes that Python derives from ours are entered and left, by the
//! methods that they may have overridden.

use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, intern};

use crate::coroutine::{Frame, Next, Outcome};

/// What an acquisition returns: True, or None to an `async with`.
#[inline]
pub(super) fn acquired(py: Python<'_>, enters: bool) -> PyResult<Next<'_>> {
    Ok(Next::Return(if enters { py.None().into_bound(py) } else { true.into_pyobject(py)?.to_owned().into_any() }))
}

/// `await object.acquire()`, for `__aenter__`.
pub(super) struct EnterByMethod {
    object: Py<PyAny>,
    awaits: bool,
}

impl EnterByMethod {
    pub(super) fn new(object: &Bound<'_, PyAny>) -> Self {
        Self { object: object.clone().unbind(), awaits: false }
    }
}

impl Frame for EnterByMethod {
    fn step<'py>(&mut self, py: Python<'py>, outcome: Outcome<'py>) -> PyResult<Next<'py>> {
        if std::mem::replace(&mut self.awaits, true) {
            return outcome.map(|_| Next::Return(py.None().into_bound(py)));
        }
        self.object.bind(py).call_method0(intern!(py, "acquire")).map(Next::Await)
    }

    fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.object)
    }
}

/// `object.release()`, for `__aexit__`.
pub(super) struct ExitByMethod(Py<PyAny>);

impl ExitByMethod {
    pub(super) fn new(object: &Bound<'_, PyAny>) -> Self {
        Self(object.clone().unbind())
    }
}

impl Frame for ExitByMethod {
    fn step<'py>(&mut self, py: Python<'py>, _outcome: Outcome<'py>) -> PyResult<Next<'py>> {
        self.0.bind(py).call_method0(intern!(py, "release"))?;
        Ok(Next::Return(py.None().into_bound(py)))
    }

    fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.0)
    }
}
