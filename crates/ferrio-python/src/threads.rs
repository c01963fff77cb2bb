//! `to_thread`.

use pyo3::PyTraverseError;
use pyo3::exceptions::PyTypeError;
use pyo3::gc::PyVisit;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::asyncio;
use crate::coroutine::{Coroutine, Frame, Next, Outcome};
use crate::ffi::async_function::{self, AsyncFunction};
use crate::ffi::context;
use crate::ffi::method::CallArguments;

/// `ferrio.to_thread`.
pub(crate) struct ToThreadFunction;

impl AsyncFunction for ToThreadFunction {
    const NAME: &'static str = "to_thread";

    const PARAMETERS: &'static str = "(func, /, *args, **kwargs)";

    const DOC: &'static str = "Returns the result of `func(*args, **kwargs)`, called in a thread of the default executor.\n\n\
        The function runs in a copy of the current context. It cannot be interrupted: cancelling the wait leaves it running.";

    fn call<'py>(py: Python<'py>, arguments: &CallArguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        if arguments.len() == 0 {
            return Err(PyTypeError::new_err("to_thread() missing 1 required positional argument: 'func'"));
        }
        let positional = PyTuple::new(py, arguments.rest(0))?.unbind();
        let named = match arguments.has_named() {
            true => {
                let named = PyDict::new(py);
                for (name, value) in arguments.named() {
                    named.set_item(name, value)?;
                }
                Some(named.unbind())
            }
            false => None,
        };
        Coroutine::of(py, Self::NAME, ToThread::Begins { positional, named })
    }
}

enum ToThread {
    Begins { positional: Py<PyTuple>, named: Option<Py<PyDict>> },
    Waits,
}

impl Frame for ToThread {
    fn step<'py>(&mut self, py: Python<'py>, outcome: Outcome<'py>) -> PyResult<Next<'py>> {
        let Self::Begins { positional, named } = std::mem::replace(self, Self::Waits) else {
            return outcome.map(Next::Return);
        };
        let event_loop = asyncio::running_loop(py)?;
        let run = context::copy_current(py)?.bind(py).getattr(intern!(py, "run"))?;
        let arguments = std::iter::once(run).chain(positional.bind(py).iter()).collect::<Vec<_>>();
        let arguments = PyTuple::new(py, arguments)?;
        let call = asyncio::partial(py)?.call(arguments, named.as_ref().map(|named| named.bind(py)))?;
        event_loop.call_method1(intern!(py, "run_in_executor"), (py.None(), call)).map(Next::Await)
    }

    fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self {
            Self::Begins { positional, named } => {
                visit.call(positional)?;
                visit.call(named)
            }
            Self::Waits => Ok(()),
        }
    }
}

/// Adds `to_thread`.
pub(crate) fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add(ToThreadFunction::NAME, async_function::make::<ToThreadFunction>(module.py())?)
}
