//! `async with`: the two ends of a scope.

use pyo3::exceptions::PyTypeError;
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::types::PyType;
use pyo3::{Borrowed, PyTraverseError};

use super::Timeout;
use crate::coroutine::{Coroutine, Frame, Next, Outcome};
use crate::ffi::async_function::AsyncFunction;
use crate::ffi::method::CallArguments;

/// `Timeout.__aenter__`.
pub(super) struct Enter;

impl AsyncFunction for Enter {
    const NAME: &'static str = "Timeout.__aenter__";

    const PARAMETERS: &'static str = "(self)";

    const DOC: &'static str = "Begins the scope, in the task that runs.";

    #[inline]
    fn call<'py>(py: Python<'py>, arguments: &CallArguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        let [scope] = arguments.bind("__aenter__", ["self"], 1, 1)?;
        Coroutine::of(py, Self::NAME, Entering(this(scope)?))
    }
}

/// The scope among the arguments of one of its methods.
fn this(scope: Option<Borrowed<'_, '_, PyAny>>) -> PyResult<Py<Timeout>> {
    match scope.map(|scope| scope.cast::<Timeout>().map(|scope| scope.to_owned().unbind())) {
        Some(Ok(scope)) => Ok(scope),
        _ => Err(PyTypeError::new_err("this is a method of Timeout")),
    }
}

struct Entering(Py<Timeout>);

impl Frame for Entering {
    #[inline]
    fn step<'py>(&mut self, py: Python<'py>, _outcome: Outcome<'py>) -> PyResult<Next<'py>> {
        let scope = self.0.bind(py);
        Timeout::enter(scope)?;
        Ok(Next::Return(scope.clone().into_any()))
    }

    fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.0)
    }
}

/// `Timeout.__aexit__`.
pub(super) struct Exit;

impl AsyncFunction for Exit {
    const NAME: &'static str = "Timeout.__aexit__";

    const PARAMETERS: &'static str = "(self, exc_type, exc_val, exc_tb)";

    const DOC: &'static str = "Ends the scope.\n\n\
        Raises TimeoutError in the place of the CancelledError by which its deadline ended it.";

    #[inline]
    fn call<'py>(py: Python<'py>, arguments: &CallArguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        let names = ["self", "exc_type", "exc_val", "exc_tb"];
        let [scope, exc_type, exc_val, _] = arguments.bind("__aexit__", names, 4, 4)?;
        let failure = match (exc_type, exc_val) {
            (Some(exc_type), Some(exc_val)) if !exc_val.is_none() && exc_type.cast::<PyType>().is_ok() => {
                Some(exc_val.to_owned().unbind())
            }
            _ => None,
        };
        Coroutine::of(py, Self::NAME, Exiting(this(scope)?, failure))
    }
}

struct Exiting(Py<Timeout>, Option<Py<PyAny>>);

impl Frame for Exiting {
    #[inline]
    fn step<'py>(&mut self, py: Python<'py>, _outcome: Outcome<'py>) -> PyResult<Next<'py>> {
        let failure = self.1.take();
        Timeout::exit(self.0.bind(py), failure.as_ref().map(|failure| failure.bind(py)))?;
        Ok(Next::Return(py.None().into_bound(py)))
    }

    fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.0)?;
        visit.call(&self.1)
    }
}
